"""What --model_args and generation_kwargs of lm-eval mean, without lm-eval."""

import pytest

from punt_jax.generation import model_args
from punt_jax.generation.settings import Settings


def read(batch_size='4', **values):
  return model_args.read({'pretrained': 'DIR', **values}, batch_size)


def test_values_of_model_args():
  own, settings, said = read(
    sampler='punt(epsilon=0.05;first=msb)', block_length=8, temperature=1,
    ban='eos;7', prefix=5, kv_cache=True, ignore='a', seed=3, group=2,
  )
  assert own == model_args.Arguments(
    'DIR', 'punt(epsilon=0.05;first=msb)', 8, group=2, ignore=('a',)
  )
  assert (settings.batch, settings.temperature) == (4, 1.0)
  assert (settings.ban, settings.prefix) == (('eos', 7), '5')
  assert settings.kv_cache and settings.seed == 3
  assert said >= {'temperature', 'seed', 'pretrained'} and 'top_p' not in said
  choice = model_args.choose(own)
  assert choice.settings() == {
    'epsilon': 0.05, 'first': 'msb', 'block_length': 8
  }
  # What stands in the sampler comes first.
  own, *_ = read(sampler='top_k(k=2, block_length=4)', block_length=8)
  assert model_args.choose(own).settings()['block_length'] == 4
  own, settings, _ = read(batch_size=1)
  assert model_args.choose(own).name == 'punt' and settings.batch == 1


@pytest.mark.parametrize('values, said', [
  (dict(pretrained=''), 'say which model, with --model_args pretrained=DIR'),
  (dict(samplr='punt'), "unknown value of --model_args 'samplr': use one of"),
  (dict(samplr='punt'), 'pretrained, sampler, block_length, .*, temperature'),
  (dict(batch=8), 'give --batch_size'),
  (dict(chat=True), 'chat is not for --model_args: give --apply_chat_template'),
  (dict(blank='_'), 'no blanks'),
  (dict(batch_size='auto'), 'batch_size = auto must be a whole number'),
  (dict(max_new_tokens=2.5), 'max_new_tokens = 2.5 .* a whole number'),
  (dict(max_new_tokens=True), 'max_new_tokens = True .* a whole number'),
  (dict(temperature='hot'), "temperature = 'hot' .* must be a number"),
  (dict(kv_cache='yes'), "kv_cache = 'yes' .* must be True or False"),
])
def test_model_args_that_are_refused(values, said):
  with pytest.raises(ValueError, match=said) as caught:
    read(**values)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('wanted, found', [
  ({'until': ['a']}, {}),
  ({'max_gen_toks': 9, 'max_tokens': 7}, {'max_new_tokens': 9}),
  ({'max_tokens': 7, 'do_sample': None}, {'max_new_tokens': 7}),
  ({'do_sample': False, 'temperature': 1}, {'temperature': 0.0}),
  ({'do_sample': True, 'temperature': 0.2}, {'temperature': 0.2}),
  ({'do_sample': True}, {'temperature': 1.0}),
  ({'temperature': 0.5, 'top_p': 0.9}, {'temperature': 0.5, 'top_p': 0.9}),
])
def test_what_a_text_asks_for(wanted, found):
  _, settings, said = read()
  mine, sentences = model_args.asked(settings, said, wanted)
  assert mine == settings._replace(**found) and sentences == []


def test_model_args_come_before_what_a_text_asks_for():
  _, settings, said = read(temperature=0.1, max_new_tokens=5)
  wanted = {'do_sample': False, 'max_gen_toks': 5, 'num_beams': 1}
  mine, sentences = model_args.asked(settings, said, wanted)
  assert mine == settings
  assert sentences == [
    'num_beams=1 of a task is not used',
    'temperature=0.0 of a task is not used: --model_args say 0.1',
  ]


def test_stop_strings():
  assert model_args.stops({'until': 'a'}) == ['a']
  assert model_args.stops({'until': ('a', 'b')}) == ['a', 'b']
  assert model_args.stops({'until': None}) == model_args.stops({}) == []


@pytest.mark.parametrize('wanted, said', [
  ({'until': 7}, 'until = 7 of a task must be strings'),
  ({'until': ['a', None]}, 'until = .* must be strings'),
  ({'until': {'a': 1}}, 'until = .* must be strings'),
])
def test_stop_strings_that_are_none(wanted, said):
  with pytest.raises(ValueError, match=said):
    model_args.stops(wanted)


@pytest.mark.parametrize('wanted, said', [
  ({'max_gen_toks': 'many'}, "max_new_tokens = 'many' of a task must be a wh"),
  ({'max_gen_toks': 2.5}, 'max_new_tokens = 2.5 of a task must be a whole'),
  ({'max_gen_toks': float('inf')}, 'max_new_tokens = inf'),
  ({'temperature': 'hot'}, "temperature = 'hot' of a task must be a number"),
  ({'top_p': []}, r'top_p = \[\] of a task must be a number'),
])
def test_what_a_task_may_not_ask(wanted, said):
  with pytest.raises(ValueError, match=said):
    model_args.asked(Settings(), frozenset(), wanted)
