"""How commands end: signals, and exceptions in a sentence."""

import importlib
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from punt_jax import extras, files
from punt_jax.cli import ending

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOB = """
import pathlib, sys, time
from punt_jax import files
from punt_jax.cli import ending

ending.PATIENCE = 0.2
ending.watch('job', 'interrupted; go on')
file, how = pathlib.Path(sys.argv[1]), sys.argv[2]

def write():
  file.write_text('begun')
  print('ready', flush=True)
  for _ in range(20 if how == 'row' else 600):
    time.sleep(0.1)
  file.write_text('whole')

if how == 'free':
  write()
with files.whole() as stopping:
  if how == 'poll':
    print('ready', flush=True)
    while not stopping.is_set():
      time.sleep(0.01)
    file.write_text('whole')
  else:
    write()
file.write_text('too far')
"""


@pytest.mark.parametrize('how, number, signals, left', [
  ('free', signal.SIGTERM, 1, 'begun'), ('row', signal.SIGINT, 1, 'whole'),
  ('poll', signal.SIGTERM, 1, 'whole'), ('endless', signal.SIGTERM, 2, 'begun'),
])
def test_a_signal_waits_for_a_block_and_a_second_for_nothing(
  how, number, signals, left, tmp_path
):
  with subprocess.Popen(
    [sys.executable, '-c', JOB, str(tmp_path / 'file'), how], cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  ) as process:
    assert process.stdout and process.stdout.readline() == 'ready\n'
    for _ in range(signals):
      process.send_signal(number)
      time.sleep(0.5)
    _, said = process.communicate(timeout=60)
  assert process.returncode == 128 + number
  waits = 'job: ends when what it does is done; once more: at once\n'
  assert said in ('job: interrupted; go on\n', waits + 'job: interrupted; go on'
                  '\n')
  assert (waits in said) == (how in ('row', 'endless'))
  assert (tmp_path / 'file').read_text() == left


@pytest.fixture
def stop(monkeypatch):
  """A function that asks this process to end, and what has ended it."""
  monkeypatch.setattr(files, '_leave', files._leave)
  ended = []
  yield lambda: files.stop(lambda: ended.append('ended')), ended
  files.stopping.clear()


def test_files_are_written_whole(stop, tmp_path):
  ask, ended = stop
  with files.replacing(tmp_path / 'file') as part:
    ask()
    part.write_text('whole')
    assert not ended
  assert ended == ['ended'] and (tmp_path / 'file').read_text() == 'whole'


def test_blocks_in_blocks(stop):
  ask, ended = stop
  with files.whole() as stopping:
    with files.whole():
      ask()
    assert stopping.is_set() and not ended
  assert ended == ['ended']
  ask()
  assert len(ended) == 2  # outside, at once


def test_a_fault_in_a_block_is_told(stop):
  ask, ended = stop
  with pytest.raises(OSError), files.whole():
    ask()
    raise OSError
  assert not ended


@pytest.mark.parametrize('error, said', [
  (ValueError('k = 0'), 'k = 0'),
  (FileNotFoundError(2, 'No such file', 'a.txt'), 'a.txt: No such file'),
  (OSError(28, 'No space left on device'), 'No space left on device'),
  (MemoryError(), 'not enough memory: '),
  (RuntimeError('RESOURCE_EXHAUSTED: Out of memory'), 'not enough memory: '),
  (ImportError('cannot import name x'), 'cannot import name x: a package is '),
  (RecursionError('maximum depth'), 'what was given is nested too deeply'),
  (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'bad'), 'what was read is not U'),
  (AssertionError('a bug'), None), (TypeError('a bug'), None),
  (KeyError('a bug'), None),
])
def test_sentences(error, said):
  found = ending.sentence(error)
  assert found is None if said is None else found and found.startswith(said)
  if said is None:
    ending.after('job', error)  # and it keeps its traceback
    return
  with pytest.raises(SystemExit) as caught:
    ending.after('job', error)
  assert caught.value.code == f'job: {found}'


def test_long_words_are_cut():
  with pytest.raises(SystemExit) as caught:
    ending.after('job', ValueError(f'unknown {"a" * 5000!r}: use b'))
  cut = f"'{'a' * 99}... (5003 letters)"
  assert caught.value.code == f'job: unknown {cut} use b'


def test_a_package_that_is_broken(monkeypatch, tmp_path):
  (tmp_path / 'matplotlib').mkdir()
  monkeypatch.syspath_prepend(str(tmp_path))
  for name in [x for x in sys.modules if x.split('.')[0] == 'matplotlib']:
    monkeypatch.delitem(sys.modules, name)
  for line in ('import no_such_module', 'raise OSError("libfoo.so")', '1 / 0'):
    (tmp_path / 'matplotlib' / '__init__.py').write_text(line)
    with pytest.raises(ValueError, match='is installed and cannot be imported'):
      extras.load('matplotlib', 'order.png')


def test_a_job_without_matplotlib_says_what_it_needs(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  monkeypatch.delitem(sys.modules, 'punt_jax.cli.plots', raising=False)
  with pytest.raises(SystemExit, match=r"pip install 'punt-jax\[plots\]'"):
    importlib.import_module('punt_jax.cli.plots')
