"""Benchmarks: what is read, extracted and scored; likelihoods; the whole job.

All questions here are made up. What needs lm-eval is skipped without it.
"""

import gzip
import itertools
import json
import math
import re
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from configs import evaluate as configs
from punt_jax import oracles
from punt_jax.cli import configs as cli_configs
from punt_jax.cli import evaluate
from punt_jax.cli.evaluate import defaults, plan, scoring
from punt_jax.cli.evaluate.guesses import guesses
from punt_jax.generation import generator, likelihood, prompts
from punt_jax.text import vocabulary as text_lib

LENGTH, VOCAB = 8, 2
LINE = np.array([0, 1, 1, 0, 1])


class Toy(NamedTuple):
  """What the scorer reads of a models.Pretrained."""

  params: Any
  denoiser: Any
  room: int


def world():
  return oracles.random_table(jax.random.key(3), LENGTH, VOCAB)


def blunted(sharpness):
  """A world whose conditionals are no longer those of one joint."""
  model = oracles.as_denoiser(world())
  read = lambda f: jax.nn.log_softmax(sharpness * model.read(f))
  return model._replace(read=read)


def enumerated(sharpness, start):
  """The bound of LINE[start:] given LINE[:start], over all sets of masks."""
  model, total = blunted(sharpness), 0.0
  places = range(start, len(LINE))
  read = jax.jit(lambda tokens: model.read(model.ask(
    model.init(tokens, tokens >= 0), tokens, tokens[:, 0] >= 0)[1].features))
  for k in range(1, len(places) + 1):
    for chosen in itertools.combinations(places, k):
      shown = LINE.copy()
      shown[list(chosen)] = VOCAB
      logp = np.asarray(read(shown[None]))[0]
      nats = -sum(logp[i, LINE[i]] for i in chosen)
      # k is uniform among n, the set among C(n, k); n / k weighs the sum.
      total += nats / k / math.comb(len(places), k)
  return total


@pytest.mark.parametrize('sharpness', [
  pytest.param(1.0, marks=pytest.mark.slow), 0.3
])
def test_the_likelihood_is_the_enumerated_bound(sharpness):
  config = generator.Settings(batch=512, bucket=8)
  toy = Toy(jnp.float32(sharpness), blunted, LENGTH)
  score = likelihood.scorer(config, toy, 2000)
  lines, starts = [LINE] * 3, [2, 0, len(LINE)]
  said = dict(itertools.chain(*score(lines, starts, [7, 8, 9])))
  assert said[9] == (0.0, 0.0)  # an answer of no tokens
  for number, start in ((7, 2), (8, 0)):
    bound, want = said[number], enumerated(sharpness, start)
    assert abs(bound.nats - want) < 4 * bound.error
    assert bound.error < 0.03  # else the line above says little
    if sharpness == 1:  # exact conditionals: every order gives the joint
      hidden = np.full(LENGTH, VOCAB)
      before, whole = hidden.copy(), hidden.copy()
      before[:start], whole[: len(LINE)] = LINE[:start], LINE
      exact = world().log_prob(before) - world().log_prob(whole)
      np.testing.assert_allclose(want, exact, rtol=1e-4)


@pytest.mark.parametrize('text, stops, kept', [
  ('one two', [], 'one two'),
  ('one two', ['three'], 'one two'),
  ('a\ndef b\nclass c', ['\nclass', '\ndef'], 'a'),
  ('Question: x', ['Question:'], ''),
])
def test_texts_end_before_a_stop_string(text, stops, kept):
  assert prompts.cut(text, stops) == kept


@pytest.mark.parametrize('text, code', [
  ('x = 1', 'x = 1'),
  ('Look:\n```python\nx = 1\n```\nDone.', 'x = 1\n'),
  ('```\nx = 1', 'x = 1'),
  ('x = 1\n```', 'x = 1\n'),  # the prompt had opened the block
  ('x = 1\n```\nNow `x` is 1.', 'x = 1\n'),
  ('```py\na\n```\n```py\nb\n```', 'a\n'),
  ('a = 1\n```\nUse:\n```python\nprint(a)\n```', 'a = 1\n'),
  ('Sure\n```python\na = 1\n```', 'a = 1\n'),
  ('', ''),
])
def test_code_in_a_text(text, code):
  assert scoring.fenced(text) == code


def load_yaml(name):
  """A task file, functions as their names."""

  class Loader(yaml.SafeLoader):
    pass

  Loader.add_constructor('!function', lambda loader, node: node.value)
  file = plan.TASKS / f'{name}.yaml'
  return yaml.load(file.read_text(), Loader)


@pytest.mark.parametrize('task, text, strict, flexible', [
  ('gsm8k', 'So 3 + 4 = 7.\n#### 7', '7', '7'),
  ('gsm8k', 'It is $1,234.50 in all', None, '1234.50'),
  ('gsm8k', '#### -12 apples, 5 pears', '-12', '5'),
  ('gsm8k_cot', 'The answer is 42. Or 43?', '42', '43'),
  ('gsm8k_cot', '#### 42', None, '42'),
])
def test_numbers_in_an_answer(task, text, strict, flexible):
  found = {}
  ignored = load_yaml('gsm8k')['metric_list'][0]['regexes_to_ignore']
  for each in load_yaml(task)['filter_list']:
    (rule, _) = each['filter']
    groups = re.findall(rule['regex_pattern'], text)
    last = groups[rule.get('group_select', 0)] if groups else None
    if isinstance(last, tuple):
      last = next(x for x in last if x)
    for pattern in ignored if last else []:
      last = re.sub(pattern, '', last)
    found[each['name']] = last
  assert found == {'strict-match': strict, 'flexible-extract': flexible}


def test_task_files_say_what_scores_them():
  for file in plan.TASKS.glob('*.yaml'):
    task = load_yaml(file.stem)
    whole = {**load_yaml(task.get('include', file.name)[:-5]), **task}
    assert task['task'] == file.stem
    metric = whole['metadata']['headline'].split(',')[0]
    assert metric in [row['metric'] for row in whole['metric_list']]
    code = 'mbpp' in file.stem or 'humaneval' in file.stem
    assert whole.get('unsafe_code', False) == code


def test_data_files(tmp_path):
  rows = [{'a': 1}, {'a': 'two\u2028lines'}]
  text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  (tmp_path / 'x.jsonl').write_text(text, encoding='utf-8')
  (tmp_path / 'y.jsonl.gz').write_bytes(gzip.compress(text.encode()))
  assert scoring.read(tmp_path / 'x.jsonl') == rows
  assert scoring.read(tmp_path / 'y.jsonl') == rows
  for content, said in (
    ('{"a":', 'line 1 of .* is not JSON'), ('', 'one JSON object a line'),
    ('[1]\n', 'line 1 of .* is not a JSON object'),
  ):
    (tmp_path / 'z.jsonl').write_text(content)
    with pytest.raises(ValueError, match=said):
      scoring.read(tmp_path / 'z.jsonl')
  (tmp_path / 'w.jsonl.gz').write_bytes(b'not gzip')
  with pytest.raises(ValueError, match='cannot be read'):
    scoring.read(tmp_path / 'w.jsonl')
  with pytest.raises(ValueError, match='there is no data file .* see --data'):
    scoring.read(tmp_path / 'none.jsonl')


@pytest.mark.parametrize('name', defaults.PRESETS)
def test_presets_are_of_tasks_that_exist(name):
  config = configs.get_config(name)
  for task in config.tasks:
    assert (plan.TASKS / f'{task}.yaml').exists()
    own = list(plan.swept(config, plan.task_config(config, task)))
    assert len(own) == 10 and {one.max_new_tokens for one in own} == {
      own[0].max_new_tokens
    }
    preset = defaults.PRESETS[name][task]
    assert own[0].max_new_tokens == preset['max_new_tokens']
    assert not own[0].chat
    ranked = [one for one in own if one.sampler.name == 'top_k']
    assert [one.samplers.top_k.k for one in ranked] == [1, 2, 4, 8]


def test_one_sampler_of_a_sweep():
  config = configs.get_config('llada/gsm8k')
  own = plan.task_config(config, 'gsm8k')
  swept = lambda: list(plan.swept(config, own))
  config.sampler.name = 'punt'
  assert [one.samplers.punt.epsilon for one in swept()] == [0.01, 0.04, 0.16]
  config.sampler.epsilon = 0.3
  assert [one.samplers.punt.to_dict() for one in swept()] == [
    {'score': 'draft'}
  ]
  config.sampler.name = 'uniform'  # one that the sweep does not list
  assert [one.sampler.name for one in swept()] == ['uniform']
  config.samplers, config.sampler.name = {}, None
  with pytest.raises(ValueError, match='config.samplers is empty'):
    plan.task_config(config, 'gsm8k')


def test_part_of_a_preset():
  assert list(configs.get_config('llada/gsm8k').tasks) == ['gsm8k']
  with pytest.raises(ValueError, match='unknown task'):
    configs.get_config('llada/mmlu')
  config = configs.get_config('llada/gsm8k')
  config.tasks.gsm8k.shot = 3
  with pytest.raises(ValueError, match="unknown setting of gsm8k: 'shot'"):
    plan.task_config(config, 'gsm8k')


def test_without_the_extra_one_sentence_names_it(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'immutabledict', None)
  with pytest.raises(ValueError, match=r"immutabledict.*'punt-jax\[eval\]'"):
    evaluate.run(configs.get_config(), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_rows_and_picture_of_a_run(tmp_path, monkeypatch):
  """The whole job, but for lm-eval, the model and its questions."""
  asked = []

  def evaluate_with(model, tasks, limit, **_):
    asked.append(model)
    ((name, task),) = tasks['tasks'].items()
    scores = {'acc,none': task.right, 'acc_stderr,none': 'N/A', 'alias': name}
    return {
      'results': {name: scores}, 'n-samples': {name: {'effective': limit}}
    }

  def harness(engine, known):
    used = [{'nfe': engine, 'tokens': 8, 'seconds': 0.5}] * 2
    return SimpleNamespace(used=used, known=known)

  def place(sampler, settings, nfe, right):
    ignore = lambda *values: None
    task = SimpleNamespace(
      right=right, config=SimpleNamespace(metadata={'headline': 'acc,none'}),
      set_config=ignore, set_fewshot_seed=ignore,
    )
    return plan.Place('gsm8k', task, config, sampler, settings, 4, nfe)

  config = configs.get_config('llada/gsm8k')
  config.update(limit=2, model='here/tiny', max_new_tokens=8)
  places = [
    place('random', {}, 0, 0.1), place('punt', {'epsilon': 0.1}, 3, 0.5),
    place('top_k', {'k': 2}, 4, 0.4),
  ]
  library = SimpleNamespace(answers=str, Harness=harness)
  monkeypatch.setattr(plan, 'import_harness', lambda: library)
  monkeypatch.setattr(plan, 'prepare', lambda *args: places)
  module = SimpleNamespace(evaluate=evaluate_with)
  monkeypatch.setitem(sys.modules, 'lm_eval', SimpleNamespace())
  monkeypatch.setitem(sys.modules, 'lm_eval.evaluator', module)
  rows = evaluate.run(config, tmp_path / 'run')
  assert [r['sampler'] for r in rows] == ['random', 'punt', 'top_k']
  for row in rows:
    assert row['experiment'] == 'evaluate' and row['schema'] == 2
    assert (row['subject'], row['length'], row['items']) == ('gsm8k', 8, 2)
    assert row['accuracy_error'] is None and row['scores']['acc,none'] <= 0.5
    assert row['metric'] == 'acc' and row['shots'] == 4 and row['ban'] == []
    assert row['nfe_error'] == 0 and row['model'] == 'here/tiny'
  assert (tmp_path / 'run' / 'gsm8k.png').stat().st_size > 1000
  assert {model.known for model in asked} == {
    str(tmp_path / 'run' / 'answers.jsonl')
  }
  config.batch += 1  # which changes no answer
  assert evaluate.run(config, tmp_path / 'run') == rows and len(asked) == 3
  # Other examples before a question are other rows, and nothing is lost.
  config.tasks.gsm8k.shots = 8
  places[1:] = [places[1]._replace(shots=8)]
  more = evaluate.run(config, tmp_path / 'run')
  assert more[0] == rows[0] and more[1]['shots'] == 8 and len(asked) == 4
  kept = (tmp_path / 'run' / 'results.jsonl').read_text()
  assert len(kept.splitlines()) == 4
  config.limit = 3
  with pytest.raises(ValueError, match='different: limit'):
    evaluate.run(config, tmp_path / 'run')
  assert (tmp_path / 'run' / 'results.jsonl').read_text() == kept


def test_random_texts_depend_on_the_question_alone():
  config = configs.get_config()
  config.max_new_tokens = 5
  text = text_lib.characters('abcd')
  loaded = SimpleNamespace(text=text, ids={'eos': 3})
  write = guesses(config, loaded)
  texts = lambda numbers: {
    row.number: row.text for batch in write([None] * len(numbers), numbers)
    for row in batch
  }
  some, all_of_them = texts([3, 1]), texts(range(50))
  assert some == {n: all_of_them[n] for n in (1, 3)}
  assert {len(text) for text in all_of_them.values()} == {5}
  assert set(''.join(all_of_them.values())) == set('abc')  # no special token
  assert len(set(all_of_them.values())) > 30


def test_the_preset_of_a_model(tmp_path):
  folder = tmp_path / 'model'
  folder.mkdir()
  typed = lambda **said: defaults.default(said.get)
  tasks = lambda preset: defaults.get_config(preset).tasks
  assert not typed(model='shakespeare').chat
  assert typed(model='shakespeare').tasks == tasks('llada_base')
  (folder / 'config.json').write_text('{"model_type": "Dream"}')
  assert typed(model=str(folder)).tasks == tasks('dream_base')
  (folder / 'chat_template.jinja').write_text('x')
  assert typed(model=str(folder)).tasks == tasks('dream')
  some = typed(model=str(folder), preset='llada/ifeval').tasks
  assert list(some) == ['ifeval']


def test_a_sampler_in_the_place_of_the_sweep():
  config = configs.get_config('llada/gsm8k')
  cli_configs.write_with(config, 'top_k(k=3)')
  own = plan.task_config(config, 'gsm8k')
  (one,) = plan.swept(config, own)
  assert cli_configs.choose(one)[0].settings() == {
    'k': 3, 'block_length': 16, 'score': 'draft'
  }
  config = configs.get_config('llada/gsm8k')
  cli_configs.write_with(config, 'top_k')  # its values are the sweep's
  assert len(list(plan.swept(config, plan.task_config(config, 'gsm8k')))) == 4
