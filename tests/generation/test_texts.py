"""punt_jax.generate: what a person calls with a model and prompts."""

import jax
import numpy as np
import pytest

import punt_jax
from punt_jax import parallel
from punt_jax.generation import generator, options
from tests.generation.test_generator import V, neighbors, toy

FEW = dict(max_new_tokens=5, temperature=0.9, bucket=12)


@pytest.fixture(scope='module', autouse=True)
def one_device():
  """Half the compilation; several devices are test_parallel's."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
    yield


@pytest.fixture(scope='module')
def model():
  return toy(neighbors)


def rows(model, prompts, *args, **how):
  found = punt_jax.generate(model, prompts, *args, **{**FEW, **how})
  return sorted(found, key=lambda row: row.number)


def test_rows_are_those_of_the_generator(model):
  found = rows(model, ['a', 'bcd'], 'punt(epsilon=0.04)', quiet=True)
  made = generator.prepare(
    model, options.choose('punt', {'epsilon': 0.04}),
    generator.Settings(batch=2, **FEW),
  )
  want, = made.write([made.encode('a'), made.encode('bcd')], [0, 1])
  for row, other in zip(found, want, strict=True):
    assert row._replace(seconds=0) == other._replace(seconds=0)
    assert row.nfe > 0 and row.depth > 0 and row.log_q < 0
    assert len(row.tokens) == 5 and row.text and len(repr(row)) < 300
  assert rows(model, ['a', 'bcd'], quiet=True)[1].text == found[1].text


def test_a_program_serves_later_calls_and_says_when_it_compiles(capsys):
  traced = []

  def counted(params, tokens, valid):
    traced.append(tokens.shape)
    return neighbors(params, tokens, valid)

  model = toy(counted)
  rows(model, 'a')
  said = capsys.readouterr().err
  assert said == (
    'compiling for 1 canvas of 12 positions, once for every multiple of 12\n'
  )
  before = len(traced)
  assert before
  rows(model, 'abcdef')
  rows(model, 'a', 'punt(epsilon=0.3)', temperature=0.5, seed=3)
  rows(model, 'a', max_new_tokens=3)
  assert len(traced) == before and not capsys.readouterr().err
  rows(model, 'abcdefab')  # another bucket
  assert len(traced) > before
  assert 'canvas of 24 positions' in capsys.readouterr().err


def test_a_program_is_kept_for_its_mesh_and_its_end_tokens_alone():
  model, told = toy(neighbors), []
  config = generator.Settings(batch=1, stop=True, **FEW)

  def write(loaded, mesh=None):
    choice = options.choose('uniform', {'k': 2})
    made = generator.prepare(loaded, choice, config, mesh, told.append)
    list(made.write([made.encode('a')], [0]))
    return len(told)

  assert write(model) == write(model) == 1
  assert write(model, parallel.mesh(1, 1, jax.devices()[:1])) == 2
  assert write(model._replace(ids={'eos': 0})) == 3 and write(model) == 3


def test_a_network_is_not_known_by_its_name():
  """The file may hold another one by now."""
  model = punt_jax.load('sudoku')
  static = lambda text: generator.builder(
    generator.DEFAULTS, model, options.choose(text)
  )[2]
  assert static('uniform(k=2)') == static('uniform(k=3)')
  learned = 'learned(policy=variational_0, budget=4)'
  assert static(learned) != static(learned)


def test_it_says_when_canvases_are_longer_than_those_of_the_training(capsys):
  model = toy(neighbors)._replace(length=8)
  rows(model, 'ab', 'uniform', quiet=True)
  assert not capsys.readouterr().err
  rows(model, 'abcdefab', 'uniform')
  assert 'the model was trained on 8 positions' in capsys.readouterr().err


def test_conversations_strings_and_blanks(model):
  said = [{'role': 'user', 'content': 'abc'}]
  one, = rows(model, said, quiet=True)
  two = rows(model, [said, 'abc'], quiet=True)
  chat, = rows(model, 'abc', chat=True, quiet=True)
  assert one.text == two[0].text == chat.text != two[1].text
  filled, = rows(model, 'a_c_', blank='_', quiet=True)
  assert filled.text[::2] == 'ac' and len(filled.tokens) == 2
  assert rows(model, []) == []
  some, = rows(model, iter(['a']), quiet=True)  # read once
  assert some.text == rows(model, 'a', quiet=True)[0].text


def test_rows_stream_batch_by_batch(model):
  stream = punt_jax.generate(
    model, ['a', 'b', 'c'], batch=2, quiet=True, **FEW
  )
  first = next(stream)
  assert first.shared == 2 and {first.number, next(stream).number} == {0, 1}
  assert next(stream).number == 2


@pytest.mark.parametrize('prompts, how, said', [
  ('a', dict(topp=0.5), "unknown setting 'topp': use one of ban, batch"),
  ('a', dict(sampler='pant'), "unknown sampler 'pant'"),
  ('a', dict(sampler='punt(eps=1)'), 'unknown hyperparameter of punt'),
  ('a', dict(max_new_tokens=0), 'max_new_tokens = 0 must be'),
  ('a', dict(temperature=-1), 'temperature = -1.0 is out of range'),
  (['a', 'xyz'], {}, 'prompt 1: '),
  (['a', 'ab' * 40], {}, 'prompt 1: .* room for 32'),
  ('a', dict(model='shakespere'), 'did you mean shakespeare'),
  ('a', dict(model=''), "'' is no model: give the name"),
  ([None], {}, 'prompt 0: None is no prompt'),
  ([[{'role': 'user'}]], {}, 'prompt 0: .* is no prompt'),
  ('a', dict(sampler=punt_jax.samplers.punt(0.1)), 'is no text: write a'),
  ('a', dict(ban=('eo',)), "unknown token of this model 'eo'"),
])
def test_faults_are_sentences_before_anything_is_written(
  model, prompts, how, said
):
  with pytest.raises(ValueError, match=said):
    punt_jax.generate(**{'model': model, 'prompts': prompts, **FEW, **how})


@pytest.mark.parametrize('source, said', [
  ('shakespere', 'did you mean shakespeare'),
  ('GSAI-ML/LLaDA-8B-Instruct',
   '`hf download GSAI-ML/LLaDA-8B-Instruct --local-dir DIR`'),
  ('./nowhere/at/all', 'give a folder with config.json and safetensors'),
])
def test_a_model_that_is_not_there_says_how_to_get_one(source, said):
  with pytest.raises(ValueError, match=said):
    punt_jax.load(source)


def test_a_typing_error_in_a_path_names_what_stands_there(tmp_path):
  (tmp_path / 'llada-8b').mkdir()
  with pytest.raises(ValueError, match='did you mean .*llada-8b?'):
    punt_jax.load(tmp_path / 'llada-8')


def test_shipped_models_write_canvases_longer_than_their_training():
  model = punt_jax.load('shakespeare')
  assert model.length == 128 and model.room == np.inf
  assert len(repr(model)) < 200 and 'Transformer' in repr(model)
  assert punt_jax.load('sudoku').room == 36
  assert V == 9  # of the toy
