"""Samplers written as text."""

import pytest

from punt_jax.generation import options, sampler_text


@pytest.mark.parametrize('text, found', [
  ('punt', ('punt', {})),
  ('punt()', ('punt', {})),
  (' punt ( epsilon = 0.05 , first = msb ) ',
   ('punt', {'epsilon': 0.05, 'first': 'msb'})),
  ('punt(epsilon=1e-3;first="msb")',
   ('punt', {'epsilon': 0.001, 'first': 'msb'})),
  ('threshold(tau=inf)', ('threshold', {'tau': float('inf')})),
  ('uniform(k=2, particles=4)', ('uniform', {'k': 2, 'particles': 4})),
])
def test_parse(text, found):
  assert sampler_text.parse(text) == found


def test_a_list_of_samplers():
  listed = 'punt(epsilon=0.05, first=msb) punt(epsilon=0.5);top_k(k=2), uniform'
  assert [name for name, _ in sampler_text.parse_all(listed)] == [
    'punt', 'punt', 'top_k', 'uniform'
  ]
  with pytest.raises(ValueError, match='at least one sampler'):
    sampler_text.parse_all(' ')
  with pytest.raises(ValueError, match='is not a sampler'):
    sampler_text.parse_all('punt(epsilon=0.1')


@pytest.mark.parametrize('text, said', [
  ('', 'is not a sampler'),
  ('punt(', 'is not a sampler'),
  ('punt(epsilon=0.1))', 'is not a sampler'),
  ('punt(epsilon)', "'epsilon' in the sampler .* is not of the form NAME=VAL"),
  ('punt(epsilon=)', 'is not of the form NAME=VALUE'),
  ('punt(epsilon=1, epsilon=2)', 'epsilon stands twice'),
  ('pont(epsilon=1)', "unknown sampler 'pont': use one of punt"),
  ('punt(epsilom=1)', "unknown hyperparameter of punt: 'epsilom'"),
  ('punt(epsilon=nan)', 'epsilon = nan is out of range'),
  ('punt(epsilon=msb)', 'must be a number'),
])
def test_bad_text_is_a_sentence(text, said):
  with pytest.raises(ValueError, match=said):
    options.choose(text)


def test_text_comes_before_settings():
  choice = options.choose('punt(epsilon=0.2)', {'epsilon': 0.1, 'first': 'msb'})
  assert choice.settings() == {'epsilon': 0.2, 'first': 'msb'}
