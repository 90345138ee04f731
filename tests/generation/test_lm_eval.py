"""The model of lm-eval's registry, and what answers its requests.

Skipped without the extra punt-jax[eval].
"""

import json
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from punt_jax.text import vocabulary as text_lib
from tests.helpers import byte_level
from tests.helpers.processes import environment

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def harness():
  pytest.importorskip('lm_eval')
  from punt_jax.generation import harness

  return harness


class Loaded(NamedTuple):
  """Of checkpoints.Pretrained, what the harness reads."""

  text: Any
  length: int
  room: int
  chat: Any


class Special(NamedTuple):
  """Of checkpoints.Pretrained, what knows special tokens."""

  text: Any
  length: int
  room: int
  chat: Any
  ids: dict


class Request(NamedTuple):
  args: tuple
  task_name: str = 'toy'


def lines(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


def engine(harness, asked, length=6, prefix=''):
  """An Engine that remembers what it was asked; a token costs 1 nat."""
  from punt_jax.generation import likelihood

  def score(rows, starts, numbers):
    for row, start, n in zip(rows, starts, numbers, strict=True):
      asked.append((text.decode(row), start))
      yield [(n, likelihood.Bound(float(len(row) - start), 0.0))]

  text = text_lib.characters('abc ')
  chat = lambda messages: ''.join(m['content'] for m in messages) + 'a'
  loaded = Loaded(text, length, length, chat)
  return harness.Engine('toy', None, score, loaded, {'k': 1}, prefix)


def test_likelihoods_of_lm_eval(harness, tmp_path):
  asked = []
  known = harness.answers(tmp_path / 'answers.jsonl')
  model = harness.Harness(engine(harness, asked), known)
  pairs = [Request(('ab ', 'c')), Request(('', 'ab'))]
  assert model.loglikelihood(pairs) == [(-2.0, False), (-2.0, False)]
  assert asked == [('ab c', 2), ('ab', 0)]  # the space is the answer's
  known = harness.answers(tmp_path / 'answers.jsonl')
  model = harness.Harness(engine(harness, asked), known)
  assert model.loglikelihood(pairs)[0] == (-2.0, False)
  assert len(asked) == 2  # nothing was asked again
  del asked[:]
  # Pieces of 3 of a canvas of 6: every token once, given the 3 before.
  assert model.loglikelihood_rolling([Request(('abcabcab',))]) == [-8.0]
  assert asked == [('abc', 0), ('abcabc', 3), ('abcab', 3)]
  with pytest.raises(ValueError, match='have 7 tokens'):
    model.loglikelihood([Request(('abcabc', 'a'))])
  with pytest.raises(ValueError, match='is not among'):
    model.loglikelihood([Request(('x', 'a'))])


def test_likelihoods_behind_a_prefix(harness, tmp_path):
  asked = []
  known = harness.answers(tmp_path / 'answers.jsonl')
  model = harness.Harness(engine(harness, asked, prefix='cc'), known)
  pairs = [Request(('ab ', 'c')), Request(('', 'ab'))]
  assert model.loglikelihood(pairs) == [(-2.0, False), (-2.0, False)]
  assert asked == [('ccab c', 4), ('ccab', 2)]
  del asked[:]
  assert model.loglikelihood_rolling([Request(('abca',))]) == [-4.0]
  assert asked == [('ccabc', 2), ('abca', 3)]
  with pytest.raises(ValueError, match='have 7 tokens'):
    model.loglikelihood([Request(('abc', 'ab'))])


def test_an_answer_that_has_been_begun_is_not_closed(harness, tmp_path):
  model = harness.Harness(engine(harness, []), harness.answers(tmp_path / 'a'))
  turns = [{'role': 'user', 'content': 'b'}]
  assert model.apply_chat_template(turns) == 'ba'
  turns.append({'role': 'assistant', 'content': 'cc'})
  assert model.apply_chat_template(turns, False) == 'bacc'


class Row(NamedTuple):
  """Of generator.Written, what the harness reads."""

  number: int
  text: str
  count: int = 1
  nfe: int = 3
  seconds: float = 0.5
  shared: int = 1


def test_texts_of_a_task_do_not_depend_on_others(harness, tmp_path):
  asked = []

  def writer(wanted):
    def write(prompts, numbers):
      asked.append((wanted['max_gen_toks'], numbers))
      for prompt, number in zip(prompts, numbers, strict=True):
        yield [Row(number, f'{prompt}{number}.end')]

    return harness.Writer(str.upper, write, wanted['max_gen_toks'])

  ask = lambda prompt, most, task, until: Request(
    (prompt, {'max_gen_toks': most, 'until': until}), task
  )
  mixed = [
    ask('a', 2, 'x', ['.']), ask('b', 2, 'y', 'nd'), ask('c', 2, 'x', []),
    ask('d', 4, 'x', None),
  ]
  file = tmp_path / 'new' / 'answers.jsonl'
  toy = engine(harness, [])._replace(writer=writer)
  model = harness.Harness(toy, harness.answers(file))
  texts = model.generate_until(mixed)
  assert texts == ['A0', 'B0.e', 'C1.end', 'D0.end']
  assert asked == [(2, [0, 1]), (2, [0]), (4, [0])]
  assert [row['text'] for row in model.used] == [
    'A0.end', 'B0.end', 'C1.end', 'D0.end'
  ]
  # Alone, or in another order, a task's texts are known.
  del asked[:]
  model = harness.Harness(toy, harness.answers(file))
  assert model.generate_until([mixed[0], mixed[2]]) == ['A0', 'C1.end']
  assert not any(numbers for _, numbers in asked) and len(lines(file)) == 4
  # Nothing is kept without a file.
  model = harness.Harness(toy, harness.answers())
  assert model.generate_until(mixed) == texts and len(lines(file)) == 4


def test_letters_that_share_a_token_belong_to_the_continuation(harness):
  """Else a merge across the border would leave nothing to be scored."""
  model, ids = byte_level.text_of()
  asked = []
  toy = engine(harness, [])
  text = text_lib.tokenizer(model, mask=ids['<mask>'])
  loaded = toy.loaded._replace(text=text, room=9)

  def score(rows, starts, numbers):
    asked.extend((text.decode(row[s:]), s) for row, s in zip(
      rows, starts, strict=True
    ))
    yield from toy.score([[0] * len(x) for x in rows], starts, numbers)

  model = harness.Harness(
    toy._replace(loaded=loaded, score=score), harness.answers()
  )
  model.loglikelihood([
    Request(pair) for pair in (('a', 'b'), ('xa', 'b'), ('x ', 'the'), ('', ''))
  ])
  assert asked == [('ab', 0), ('ab', 1), (' the', 1), ('', 0)]
  for pair in (('a', '<mask>'), ('<mask>', 'a'), ('a░', '<mask>')):
    with pytest.raises(ValueError, match="request 1: the text holds '<mask>'"):
      model.loglikelihood([Request(('a', 'b')), Request(pair)])


def test_whether_a_continuation_is_greedy(harness, tmp_path):
  from punt_jax.generation import likelihood

  asked = []

  def judge(rows, starts, numbers):
    asked.extend(numbers)
    for n in numbers:
      yield [(n, likelihood.Greedy(n == 1, 3))]

  toy = engine(harness, [])._replace(judge=judge)
  file = tmp_path / 'answers.jsonl'
  pairs = [Request(('a', 'b')), Request(('a', 'c'))]
  for _ in range(2):  # the second time out of the file
    model = harness.Harness(toy, harness.answers(file))
    found = model.loglikelihood(pairs)
    assert found == [(-1.0, False), (-1.0, True)] and asked == [0, 1]
    assert [row['passes'] for row in model.used] == [3, 3]
  assert type(found[0][1]) is bool


def test_answers_belong_to_the_content_of_a_model(harness, tmp_path):
  file, asked = tmp_path / 'answers.jsonl', []
  toy = engine(harness, asked)
  pair = [Request(('a', 'b'))]
  ask = lambda engine: harness.Harness(
    engine, harness.answers(file)
  ).loglikelihood(pair)
  ask(toy._replace(digest='one'))
  ask(toy._replace(digest='one', name='elsewhere'))
  assert len(asked) == 1
  ask(toy._replace(digest='two'))  # a model that took the place of the first
  assert len(asked) == 2 and len(lines(file)) == 2
  # Rows are unique by key.
  file.write_text(2 * file.read_text())
  with pytest.raises(ValueError, match='line 3 of .* for the second time'):
    ask(toy._replace(digest='one'))
  for bad in ({'nats': float('nan')}, {'nats': 'x'}, {'text': 1}, {}):
    file.write_text(json.dumps({'key': 'k', **bad}) + '\n')
    with pytest.raises(ValueError, match='holds no answers|is not JSON'):
      harness.answers(file)


def test_answers_that_a_stop_string_leaves_nothing_of(harness, monkeypatch):
  told = []
  monkeypatch.setattr(harness.LOG, 'warning', told.append)

  def write(prompts, numbers):
    yield [Row(number, text) for text, number in zip(
      prompts, numbers, strict=True
    )]

  toy = engine(harness, [])._replace(
    writer=lambda wanted: harness.Writer(str, write, None)
  )
  ask = lambda text, until: Request((text, {'until': until}))
  model = harness.Harness(toy, harness.answers())
  assert model.generate_until([
    ask('\n\nFour.\nFive', '\n'), ask('Q: x', ['Q:']), ask('', ['Q:']),
  ]) == ['\n\nFour.', '', '']
  said, = told
  assert said.startswith('toy: 1 answers begin with a stop string')
  with pytest.raises(ValueError, match='until = 7'):
    model.generate_until([ask('a', 7)])


def test_special_tokens_that_are_stop_strings_end_a_text(harness):
  model, ids = byte_level.text_of()
  text = text_lib.tokenizer(model, mask=ids['<mask>'])
  toy = engine(harness, [])
  toy = toy._replace(loaded=Special(text, 9, 9, None, {}))
  marks = harness.Harness(toy, harness.answers())._marks
  written = text.encode('the<|eot|>ab<s>', '').tolist()
  assert marks(written) == [(3, '<|eot|>'), (5, '<s>')]


def test_a_file_of_something_else_is_left_alone(harness, tmp_path):
  file = tmp_path / 'thesis.jsonl'
  file.write_text('{"a": 1}\n')
  for other in (file, tmp_path):
    with pytest.raises(ValueError, match='holds no answers: name another'):
      harness.answers(other)
  assert file.read_text() == '{"a": 1}\n'


@pytest.fixture(scope='module')
def folder(harness, tmp_path_factory):
  """A checkpoint directory."""
  pytest.importorskip('tokenizers')
  from punt_jax.cli import random_checkpoint

  folder = tmp_path_factory.mktemp('models') / 'llada'
  random_checkpoint.write(folder, 'llada', 'tiny', dtype='float32')
  return str(folder)


def test_a_model_of_the_registry(folder, tmp_path, monkeypatch):
  import lm_eval.api.registry as registry

  from punt_jax.generation import lm_eval

  told = []
  monkeypatch.setattr(lm_eval.LOG, 'warning', told.append)
  lm_eval.warn.cache_clear()
  assert registry.get_model('punt_jax') is lm_eval.PuntJax
  assert 'hf' in registry.model_registry  # lm-eval's own are there as well
  file = tmp_path / 'answers.jsonl'
  said = (
    f'pretrained={folder},sampler=top_k(k=2, score=draft),max_new_tokens=8,'
    f'temperature=0.5,answers={file},bucket=16'
  )
  made = lambda: registry.get_model('punt_jax').create_from_arg_string(
    said, {'batch_size': 4, 'device': 'cuda:0', 'max_batch_size': None}
  )
  model = made()
  settings = {'do_sample': False, 'until': [], 'max_gen_toks': 4}
  asked = [Request((word, settings)) for word in ('one', 'two')]
  texts = model.generate_until(asked)
  assert model.get_model_info() == {
    'sampler': 'top_k', 'settings': {'k': 2, 'score': 'draft'}, 'nfe': 4.0
  }
  assert told == [
    'max_new_tokens=4 of a task is not used: --model_args say 8',
    'temperature=0.0 of a task is not used: --model_args say 0.5',
  ]
  kept = file.read_text()
  assert made().generate_until(asked) == texts and file.read_text() == kept
  ((nats, greedy),) = model.loglikelihood([Request(('one', ' two'))])
  assert nats < 0 and not greedy
  (rolling,) = model.loglikelihood_rolling([Request(('one two',))])
  assert rolling < nats
  turns = [{'role': 'user', 'content': 'Why?'}]
  assert 'Why?<|eot_id|>' in model.apply_chat_template(turns)
  assert model.chat_template(True) == '' == model.chat_template(False)
  with pytest.raises(ValueError, match='none is called default'):
    model.chat_template('default')


@pytest.mark.parametrize('values, said', [
  ({}, 'say which model, with --model_args pretrained=DIR'),
  (dict(pretrained='nowhere'), 'there is no file or folder nowhere'),
  (dict(pretrained='shakespeare', tau=1), "unknown value .* 'tau': use one"),
  (dict(pretrained='shakespeare', sampler='punt(k=1)'), 'of punt: .k'),
  (dict(pretrained='shakespeare', max_new_tokens=0), 'max_new_tokens = 0'),
  (dict(pretrained='shakespeare', draws=0), 'draws = 0'),
  (dict(pretrained='shakespeare', kv_cache=True), 'kv_cache needs blocks'),
])
def test_arguments_end_in_a_sentence(harness, values, said):
  from punt_jax.generation import lm_eval

  with pytest.raises(ValueError, match=said) as caught:
    lm_eval.PuntJax(batch_size=1, **values)
  assert '\n' not in str(caught.value)


def test_a_model_without_a_chat_template(harness):
  from punt_jax.generation import lm_eval

  model = lm_eval.PuntJax(pretrained='shakespeare')
  with pytest.raises(ValueError, match='leave out --apply_chat_template'):
    model.chat_template(True)


TASK = """
task: {kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{text}"
doc_to_target: "{target}"
metric_list: [{{metric: {metric}}}]
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
"""
KINDS = {
  'generate_until': ('Q: {{question}} A:', ' {{answer}}', 'exact_match'),
  'loglikelihood': ('Q: {{question}} A:', ' {{answer}}', 'perplexity'),
  'loglikelihood_rolling': ('', '{{question}}', 'bits_per_byte'),
}


@pytest.mark.slow
@pytest.mark.parametrize('how', ['lm_eval', 'punt_jax.cli.lm_eval'])
def test_the_command(folder, tmp_path, how):
  """lm-eval's own with the line of the wheel's .pth file, and ours."""
  root = pathlib.Path(__file__).resolve().parents[2]
  data = tmp_path / 'data.jsonl'
  rows = [{'question': f'{n} + {n}?', 'answer': str(2 * n)} for n in (1, 2)]
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  for kind, (text, target, metric) in KINDS.items():
    (tmp_path / f'{kind}.yaml').write_text(TASK.format(
      kind=kind, data=data, text=text, target=target, metric=metric
    ))
  site = tmp_path / 'site'
  site.mkdir()
  if how == 'lm_eval':
    pth = root / 'punt_jax' / 'assets' / 'punt_jax_lm_eval.pth'
    (site / pth.name).write_text(pth.read_text())
  (site / 'sitecustomize.py').write_text(
    f'import site\nsite.addsitedir({str(site)!r})\n'
  )
  done = subprocess.run(
    [sys.executable, '-m', how, '--model', 'punt_jax', '--model_args',
     f'pretrained={folder},sampler=punt(epsilon=0.05;first=msb),draws=4',
     '--tasks', ','.join(KINDS), '--include_path', str(tmp_path),
     '--batch_size', '2', '--apply_chat_template', '--output_path',
     str(tmp_path / 'out')],
    cwd=root, capture_output=True, text=True, env=environment(
      PYTHONPATH=str(site), HF_HUB_OFFLINE='1', HF_DATASETS_OFFLINE='1',
      HF_HOME=str(tmp_path / 'hf'),
    ),
  )
  assert done.returncode == 0, done.stderr[-3000:]
  (file,) = (tmp_path / 'out').rglob('results*.json')
  found = json.loads(file.read_text())
  assert found['config']['sampler'] == 'punt' and found['config']['nfe'] >= 1
  scores = {kind: found['results'][kind] for kind in KINDS}
  assert scores['generate_until']['exact_match,none'] in (0, 0.5, 1)
  assert scores['loglikelihood']['perplexity,none'] > 1
  assert scores['loglikelihood_rolling']['bits_per_byte,none'] > 1
  for kind in KINDS:
    assert kind in done.stdout
