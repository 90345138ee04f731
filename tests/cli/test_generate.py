"""The command: one prompt, a file of them, and a run that was killed."""

import json
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from configs import dream, llada, mdlm
from punt_jax.cli import configs as configs_lib
from punt_jax.cli import generate, prompt_files, random_checkpoint
from punt_jax.generation import presets
from punt_jax.text import vocabulary as text_lib
from tests.helpers.processes import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALPHABET = 'abcdef.'
ASKED = [
  {'prompt': 'abcdef', 'id': 7},
  {'prompt': 'a'},
  {'messages': [{'role': 'user', 'content': 'fed'}], 'answer': [1, None]},
  {'prompt': ''},
  {'prompt': 'cafe'},
]


class Toy(NamedTuple):
  """What the generator reads of a checkpoints.Pretrained."""

  params: Any
  denoiser: Any
  text: Any
  length: int
  chat: Any
  ids: dict
  offers: frozenset = frozenset()
  room: int = 24


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  """A model of bigrams instead of any that is loaded; counts its loadings."""
  loaded = []
  table = np.sin(7.0 * np.outer(np.arange(1, 8), np.arange(2, 9)))

  def logits(params, tokens, valid):
    known = jax.nn.one_hot(tokens, 7) * valid[..., None]
    left = jnp.pad(known, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return 2.0 * left @ params

  def find(config):
    loaded.append(config.model)
    return Toy(
      table.astype(np.float32),
      lambda params: punt_jax.from_logits(
        lambda tokens, valid: logits(params, tokens, valid), 7
      ),
      text_lib.characters(ALPHABET), 24,
      lambda messages: ''.join(m['content'] for m in messages), {'eos': 6},
    )

  monkeypatch.setattr(configs_lib, 'load', find)
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  return loaded


def settings(**values):
  config = configs_lib.defaults()
  config.update(dict(
    max_new_tokens=5, batch=2, bucket=16, temperature=1.0, samples=2
  ))
  config.sampler.update(dict(name='one_by_one'))
  config.update(values)
  return config


def put(folder, asked=ASKED):
  """The path of a JSONL file."""
  file = folder / 'prompts.jsonl'
  file.write_text(''.join(json.dumps(line) + '\n' for line in asked))
  return str(file)


def rows_of(workdir):
  text = (workdir / 'results.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def lasting(rows):
  """Rows without what differs between two runs."""
  vary = ('seconds', 'shared', 'log_q')
  return [{k: v for k, v in row.items() if k not in vary} for row in rows]


@pytest.fixture
def finished(tmp_path):
  """(workdir, rows, path of the input) of a whole run."""
  file = put(tmp_path)
  workdir = tmp_path / 'run'
  rows = generate.run(settings(), str(workdir), input=file)
  return workdir, rows, file


def test_a_file_is_answered_in_its_order(finished):
  workdir, rows, _ = finished
  assert rows == rows_of(workdir)
  places = [(row['line'], row['sample']) for row in rows]
  assert places == [(n, k) for n in range(1, 6) for k in range(2)]
  for row in rows:
    asked = ASKED[row['line'] - 1]
    assert {key: row[key] for key in asked} == asked  # other keys as well
    assert len(row['tokens']) == 5 and row['count'] == len(row['text'])
    assert row['sampler'] == 'one_by_one' and row['nfe'] == row['steps']
  assert len({row['text'] for row in rows}) > 5
  files = sorted(path.name for path in workdir.iterdir())
  assert files == ['.lock', 'config.json', 'nfe.png', 'results.jsonl']


def test_a_killed_run_goes_on(finished, toy, capsys):
  workdir, rows, file = finished
  whole = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
  # Rows of two batches, out of order, and half a line.
  left = whole[6] + whole[2] + whole[7] + whole[8][: len(whole[8]) // 2]
  (workdir / 'results.jsonl').write_text(left)
  again = generate.run(settings(), str(workdir), input=file)
  assert '3 rows from an earlier run' in capsys.readouterr().out
  assert lasting(again) == lasting(rows)
  assert [again[i] for i in (2, 6, 7)] == [rows[i] for i in (2, 6, 7)]
  np.testing.assert_allclose(
    [row['log_q'] for row in again], [row['log_q'] for row in rows], rtol=1e-5
  )
  # Nothing is left to do, and nothing changes.
  assert generate.run(settings(), str(workdir), input=file) == again


def test_a_changed_input_or_config_is_refused(finished):
  workdir, _, file = finished
  text = (workdir / 'results.jsonl').read_text()
  with pytest.raises(ValueError, match='another config .different: max_new'):
    generate.run(settings(max_new_tokens=6), str(workdir), input=file)
  put(pathlib.Path(file).parent, ASKED[::-1])
  with pytest.raises(ValueError, match=r'another prompts \(its content'):
    generate.run(settings(), str(workdir), input=file)
  assert (workdir / 'results.jsonl').read_text() == text


def test_a_model_is_known_by_its_content(finished, monkeypatch):
  workdir, rows, file = finished
  find = configs_lib.load
  go = lambda name: generate.run(settings(model=name), str(workdir), input=file)
  assert go('elsewhere/toy') == rows  # the same one, at another path
  before = (workdir / 'results.jsonl').read_bytes()

  def other(config):
    loaded = find(config)
    return loaded._replace(params=loaded.params + 1)

  monkeypatch.setattr(configs_lib, 'load', other)
  with pytest.raises(ValueError, match=r'another model \(its content'):
    go('toy')
  assert (workdir / 'results.jsonl').read_bytes() == before


@pytest.mark.parametrize('change, said', [
  (lambda rows: rows + rows[3:4], 'lines 4 and 11 of .* the same row twice'),
  (lambda rows: [rows[0] | {'line': 6}], 'line 1 of .* says "line" 6 and'),
  (lambda rows: [rows[0], rows[1] | {'sample': None}], 'line 2 of .* None, w'),
  (lambda rows: [{k: v for k, v in rows[0].items() if k != 'nfe'}], "er 'nfe'"),
])
def test_rows_that_nothing_asked_for(change, said, finished):
  workdir, rows, file = finished
  text = ''.join(json.dumps(row) + '\n' for row in change(rows))
  (workdir / 'results.jsonl').write_text(text)
  with pytest.raises(ValueError, match=said):
    generate.run(settings(), str(workdir), input=file)
  assert (workdir / 'results.jsonl').read_text() == text


@pytest.mark.parametrize('name', sorted(configs_lib.LIMITS))
def test_numbers_are_checked_before_anything_is_loaded(name, toy, tmp_path):
  for wrong in (-1e12, float('nan')):
    config = settings()
    with config.ignore_type():
      config[name] = wrong
    with pytest.raises(ValueError, match=f'^{name} = '):
      generate.run(config, str(tmp_path / 'run'), input=put(tmp_path))
  assert not toy and not (tmp_path / 'run').exists()


def test_a_run_goes_on_with_another_batch(finished):
  workdir, rows, file = finished
  (workdir / 'results.jsonl').write_text(json.dumps(rows[3]) + '\n')
  smaller = settings(batch=1, bucket=24)
  again = generate.run(smaller, str(workdir), input=file)
  assert again[3] == rows[3] and again[0]['positions'] > rows[0]['positions']
  written = lambda rows: [(row['tokens'], row['nfe']) for row in rows]
  assert written(again) == written(rows)


def test_one_prompt_is_printed(toy, capsys):
  rows = generate.run(settings(model='other'), prompt='abc')
  said, told = capsys.readouterr()
  assert toy == ['other'] and len(rows) == 2 and 'compiling for 2' in told
  for row in rows:
    assert row['text'] + '\n' in said
  assert said.splitlines()[-1] == generate.summary(rows)


def test_texts_are_as_long_as_the_model_knows_unless_told(capsys):
  (row,) = generate.run(
    settings(samples=1, max_new_tokens=200, fit=True), prompt='abcdef'
  )
  assert len(row['tokens']) == 18  # of 24
  assert 'max_new_tokens=18: ' in capsys.readouterr().err
  with pytest.raises(ValueError, match='200 are to follow'):
    generate.run(settings(max_new_tokens=200, fit=False), prompt='abcdef')


def test_the_summary_counts_no_prompt_and_no_padding():
  rows = [
    dict(count=3, nfe=4, seconds=2.0, shared=2),
    dict(count=1, nfe=8, seconds=2.0, shared=2),
  ]
  assert generate.summary(rows) == (
    '2 rows of 2.0 tokens in 6.0 forward passes, 2.0 tokens/s'
  )


@pytest.mark.parametrize('text, said', [
  ('', 'has no prompts'),
  ('\n \n', 'has no prompts'),
  ('{"prompt": "a"}\n\n{"prompt": "b"}', 'line 2 of .* is not JSON'),
  ('{"prompt": "a"}\n{"prompt": ', 'line 2 of .* is not JSON'),
  ('[' * 100_000, 'line 1 of .* is not JSON'),
  ('"a"', 'line 1 of .* is not a JSON object'),
  ('{"text": "a"}', 'either "prompt" or "messages"'),
  ('{"prompt": "a", "messages": []}', 'either "prompt" or "messages"'),
  ('{"prompt": 3}', 'a "prompt" that is not a string'),
  ('{"messages": []}', '"messages" that are not'),
  ('{"messages": [{"role": "user"}]}', '"messages" that are not'),
  ('{"messages": [{"role": "user", "content": 1}]}', '"messages" that are not'),
  ('{"prompt": "a", "nfe": 1}', "the key 'nfe', which results use"),
  ('{"prompt": "a"}\n{"prompt": "A"}', "line 2 of .*character 'A'"),
  ('{"prompt": "' + 20 * 'a' + '"}', 'line 1 of .* has 20 tokens and 5'),
  ('{"prompt": "a░"}', r'line 1 of .* has a mask \(░\)'),
])
def test_input_that_is_refused_before_anything_runs(tmp_path, text, said):
  file = tmp_path / 'prompts.jsonl'
  file.write_text(text)
  with pytest.raises(ValueError, match=said):
    generate.run(settings(), str(tmp_path / 'run'), input=str(file))
  assert not (tmp_path / 'run').exists()


def test_input_that_cannot_be_read(tmp_path):
  with pytest.raises(ValueError, match='cannot read .*No such file'):
    prompt_files.read(tmp_path / 'none')
  (tmp_path / 'bytes').write_bytes(b'\xff\xff')
  with pytest.raises(ValueError, match='not UTF-8'):
    prompt_files.read(tmp_path / 'bytes')
  # A line separator inside a string is part of the prompt.
  (tmp_path / 'lines').write_bytes('\ufeff{"prompt": "a\u2028b"}\r\n'.encode())
  asked, _ = prompt_files.read(tmp_path / 'lines')
  assert asked == [{'prompt': 'a\u2028b'}]
  # Files that begin with a byte order mark, put together.
  (tmp_path / 'lines').write_bytes(2 * '\ufeff{"prompt": "a"}\r\n'.encode())
  assert prompt_files.read(tmp_path / 'lines')[0] == 2 * [{'prompt': 'a'}]


@pytest.mark.parametrize('given, said', [
  ({}, 'either --prompt or --input'),
  (dict(prompt='a', input='b'), 'either --prompt or --input'),
  (dict(input='b'), '--input needs a --workdir'),
  (dict(prompt='a', workdir='b'), '--prompt none'),
])
def test_flags_that_do_not_go_together(given, said):
  with pytest.raises(ValueError, match=said):
    generate.run(settings(), **given)


def test_a_prompt_is_what_was_typed(tmp_path):
  with pytest.raises(ValueError, match=r"character '\\\\' at position 1"):
    generate.run(settings(), prompt=r'a\new')
  with pytest.raises(ValueError, match=r"character '\\n' at position 1"):
    generate.run(settings(escapes=True), prompt=r'a\new')
  with pytest.raises(ValueError, match='--escapes is for --prompt'):
    generate.run(
      settings(escapes=True), str(tmp_path / 'run'), input=put(tmp_path)
    )


def test_a_line_is_named_where_texts_are_as_long_as_the_model_knows(tmp_path):
  file = put(tmp_path, [{'prompt': 'a'}, {'prompt': 'A'}])
  with pytest.raises(ValueError, match="line 2 of .*: character 'A'"):
    generate.run(settings(fit=True), str(tmp_path / 'run'), input=file)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('config, names', [
  (llada, presets.LLADA), (dream, presets.DREAM), (mdlm, ['ancestral']),
])
def test_every_preset_can_be_swapped_for_punt(config, names):
  for name in ('punt', *names):
    values = config.get_config(name)
    assert values.keys() == configs_lib.defaults().keys()
    for sampler in (values.sampler.name, 'punt'):
      values.sampler.name = sampler
      values.max_new_tokens = 4
      _, choice = configs_lib.generate_with(values, configs_lib.load(values))
      assert choice.name == sampler
  with pytest.raises(ValueError, match='unknown preset'):
    config.get_config('none')


def test_official_settings():
  config = llada.get_config('instruct_gsm8k')
  assert (config.max_new_tokens, config.block_length) == (256, 8)
  assert config.temperature == 0
  assert config.chat and not config.eos_last and not config.judged
  assert config.sampler.name == 'top_k'
  assert config.samplers.top_k.to_dict() == dict(k=1, score='draft')
  assert llada.get_config('1.5_gsm8k').eos_last
  assert llada.get_config('instruct_humaneval').ban == ('eos',)
  config = dream.get_config('instruct_ifeval')
  assert (config.max_new_tokens, config.temperature) == (1280, 0.1)
  assert config.top_p == 0.9
  assert config.judged and config.samplers.top_k.score == 'entropy'
  assert dream.get_config('base_gsm8k').prefix == '<|beginoftext|>'


def command(*arguments):
  """(status, what it printed) of the command in a process of its own."""
  done = subprocess.run(
    [sys.executable, '-m', 'punt_jax.cli.generate', *arguments], cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    env=environment(), timeout=500,
  )
  return done.returncode, done.stdout


@pytest.mark.slow
def test_bad_flags_end_in_a_sentence():
  for flags, said in (
    (['--config=configs/llada.py', '--prompt=a'], 'no chat template'),
    (['--config=configs/mdlm.py', '--prompt=a', '--config.x=1'], 'config.x'),
  ):
    status, printed = command(*flags)
    assert status == 1 and said in printed, printed
    assert 'Traceback' not in printed and len(printed.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize('model', [llada, dream])
def test_a_checkpoint_directory_end_to_end(model, tmp_path, monkeypatch):
  pytest.importorskip('tokenizers')
  pytest.importorskip('jinja2')
  monkeypatch.undo()  # no toy
  name, folder = model.__name__.split('.')[-1], str(tmp_path / 'model')
  random_checkpoint.write(folder, name, 'tiny')
  small = dict(
    model=folder, max_new_tokens=16, block_length=8, bucket=16, batch=2
  )
  flags = [f'--config.{key}={value}' for key, value in small.items()]
  status, said = command(
    f'--config=configs/{name}.py', *flags, '--prompt=Why is the sky blue?'
  )
  assert status == 0 and '1 row of' in said and 'tokens/s' in said
  asked = [*ASKED[:4], {'prompt': 'a<|endoftext|>b'}]

  def rows(key, devices=1, **more):
    config = model.get_config()
    config.update(small | more)
    with monkeypatch.context() as patch:
      some = jax.devices()[:devices]
      patch.setattr(jax, 'local_devices', lambda: some)
      patch.setattr(jax, 'devices', lambda: some)
      found = generate.run(
        config, str(tmp_path / key), input=put(tmp_path, asked)
      )
    assert found == rows_of(tmp_path / key)
    assert [row['line'] for row in found] == [1, 2, 3, 4, 5]
    for row in found:
      assert len(row['tokens']) == 16 and '<|e' not in row['text']
    return found

  whole, window = rows('whole', dtype='float32'), rows('window', kv_cache=True)
  computed = lambda rows: sum(r['positions'] / r['nfe'] for r in rows)
  assert computed(window) < computed(whole)
  if model is llada:
    split = rows('groups', 4, dtype='float32', group=2)
    for one, other in zip(whole, split, strict=True):
      assert one['tokens'] == other['tokens'] and one['nfe'] == other['nfe']
  mask = '<|mdm_mask|>' if model is llada else '<|mask|>'
  config = model.get_config()
  config.update(small)
  with pytest.raises(ValueError, match='mask'):
    generate.run(config, prompt=f'a{mask}')
