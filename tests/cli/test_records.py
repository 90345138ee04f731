"""Whose a work folder is: its lock, its config, its inputs, its rows."""

import errno
import json
import os
import subprocess
import sys

import ml_collections
import pytest

from punt_jax import files, jsonl
from punt_jax.cli import records

ROW = {'schema': records.SCHEMA, 'experiment': 'toy', 'line': 1}


def config(**changes):
  made = {'seed': 0, 'model': 'a', 'task': {'model': 'b', 'rows': 2}}
  return ml_collections.ConfigDict(made | changes)


def contents(folder):
  return {x.name: x.read_bytes() for x in folder.iterdir()}


@pytest.fixture
def run(tmp_path):
  """A folder that holds a run with one row."""
  folder = tmp_path / 'new' / 'run'
  records.claim(folder, config(), digests={'model': '1'}).close()
  jsonl.append(folder / 'results.jsonl', ROW)
  return folder


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
  code = (
    'import sys, time, ml_collections\nfrom punt_jax.cli import records\n'
    'lock = records.claim(sys.argv[1], ml_collections.ConfigDict({"seed": 0}))'
    '\nprint("mine", flush=True)\ntime.sleep(100)'
  )
  mine = ml_collections.ConfigDict({'seed': 0})
  with subprocess.Popen(
    [sys.executable, '-c', code, str(tmp_path / 'run')],
    stdout=subprocess.PIPE, text=True,
  ) as other:
    assert other.stdout and other.stdout.readline() == 'mine\n'
    before = contents(tmp_path / 'run')
    for open_ in (records.claim, records.resume):
      with pytest.raises(ValueError, match='in use by another run') as error:
        open_(tmp_path / 'run', mine)
      assert str(other.pid) in str(error.value)
    assert contents(tmp_path / 'run') == before
    other.kill()
  for _ in range(2):  # and a job that ends gives it up
    records.claim(tmp_path / 'run', mine).close()
  with records.claim(tmp_path / 'run', mine):
    with pytest.raises(ValueError, match='in use'):
      records.resume(tmp_path / 'run', mine)


def test_what_is_no_run_is_left_alone(tmp_path):
  (tmp_path / 'thesis.txt').write_text('three years of work')
  with pytest.raises(ValueError, match='not empty and holds no run'):
    records.claim(tmp_path, config())
  assert [x.name for x in tmp_path.iterdir()] == ['thesis.txt']
  with pytest.raises(ValueError, match='is a file: give a folder'):
    records.claim(tmp_path / 'thesis.txt', config())


def test_a_start_that_was_killed_at_once_goes_on(tmp_path):
  files.lock(tmp_path).close()
  files.part_of(tmp_path / 'config.json').write_text('{"se')
  records.claim(tmp_path, config()).close()


@pytest.mark.parametrize('changes, digests, said', [
  ({}, {'model': '1'}, None),
  ({'model': 'elsewhere/a'}, {'model': '1'}, None),
  ({}, {'model': '2'}, r'another model \(its content, by SHA-256\)'),
  ({}, {'model': '1', 'text': '3'}, r'another text \(its content'),
  ({}, {}, r'different: digests, ?|another input'),
  ({'seed': 1}, {'model': '1'}, r'different: seed\)'),
  ({'task': {'model': 'c', 'rows': 2}}, {'model': '1'}, 'different: task.mod'),
])
def test_inputs_are_known_by_their_content(changes, digests, said, run):
  before = contents(run)
  if said is None:
    rows, lock = records.resume(run, config(**changes), digests=digests)
    lock.close()
    assert rows == [ROW]
    return
  for open_ in (records.claim, records.resume):
    with pytest.raises(ValueError, match=said):
      open_(run, config(**changes), digests=digests)
  assert contents(run) == before
  records.claim(run, config(), digests={'model': '1'}).close()  # no lock left


def test_a_digest_stands_for_a_value_inside(tmp_path):
  records.claim(tmp_path, config(), digests={'task.model': '1'}).close()
  moved = config(task={'model': 'c', 'rows': 2})
  records.claim(tmp_path, moved, digests={'task.model': '1'}).close()
  with pytest.raises(ValueError, match='another task.model'):
    records.claim(tmp_path, moved, digests={'task.model': '2'})


@pytest.mark.parametrize('name, content, said', [
  ('config.json', '{"seed":', 'config.json cannot be read as JSON'),
  ('config.json', '[1]', 'config.json must hold a JSON object'),
  ('results.jsonl', '{"a": 1}\n', 'results.jsonl has rows of schema 1'),
  ('results.jsonl', json.dumps(ROW) + '\n[1]\n', 'line 2 .* not a JSON object'),
  ('results.jsonl', '{"schema": 2}\n', 'has rows of None, not of toy'),
  ('results.jsonl', '{"schema": NaN}\n', 'line 1 .* not JSON: NaN'),
  ('results.jsonl', b'{"a": "\xff"}\n{}\n', 'line 1 of .* is not UTF-8 text'),
])
def test_damage_is_named(name, content, said, run):
  data = content.encode() if isinstance(content, str) else content
  (run / name).write_bytes(data)
  before = contents(run)
  with pytest.raises(ValueError, match=said) as error:
    records.resume(run, config(), (), 'toy', {'model': '1'})
  assert '\n' not in str(error.value) and str(run) in str(error.value)
  assert contents(run) == before


def test_folders_in_place_of_files(run):
  for name in ('results.jsonl', 'config.json'):
    (run / name).unlink()
    (run / name).mkdir()
    with pytest.raises(ValueError, match=f'{name} is (no|a folder)'):
      records.resume(run, config(), digests={'model': '1'})
    (run / name).rmdir()
    (run / name).write_text('')


def test_rows_are_there_once():
  rows = [{'a': 1, 'b': (1,)}, {'a': 1}, {'a': 1}, {'a': 1, 'b': [1]}]
  records.once(rows[:3], ('a', 'b'), 'FILE')
  with pytest.raises(ValueError, match='lines 1 and 4 of FILE are the same'):
    records.once(rows, ('a', 'b'), 'FILE')


def test_rows_without_a_step_are_named(tmp_path):
  file = tmp_path / 'metrics.jsonl'
  file.write_text('{"step": 1}\n{"loss": 1}\n')
  with pytest.raises(ValueError, match='line 2 of .*metrics.jsonl has no "st'):
    records.cut_rows(file, 1)


def test_what_json_has_no_number_for(tmp_path):
  endless = config(limit=float('inf'))
  for _ in range(2):
    records.claim(tmp_path, endless).close()
  strict = lambda name: pytest.fail(f'{name} is not JSON')
  text = (tmp_path / 'config.json').read_text()
  assert json.loads(text, parse_constant=strict)['limit'] == 'inf'
  with pytest.raises(ValueError, match='gap is nan, and JSON has no such'):
    jsonl.append(tmp_path / 'rows', {'a': 1, 'gap': float('nan')})
  assert not (tmp_path / 'rows').exists()


def full(*_):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_takes_no_row_and_leaves_no_half(tmp_path, monkeypatch):
  file = tmp_path / 'rows.jsonl'
  jsonl.append(file, {'a': 1})
  monkeypatch.setattr(os, 'fsync', full)
  for write in (
    lambda: jsonl.append(file, {'b': 2}), lambda: jsonl.replace(file, []),
    lambda: files.write(file, 'else'),
  ):
    with pytest.raises(OSError, match='No space') as error:
      write()
    assert error.value.filename == str(file)
    assert contents(tmp_path) == {'rows.jsonl': b'{"a": 1}\n'}
