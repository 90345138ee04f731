"""Mutated files of checkpoints: an answer or one sentence, in bounded time.

The mutations are of what a file says, not of its bytes alone: values of JSON
are exchanged for hostile ones, names are doubled and lengthened, and then a few
bytes are changed. The long run is a process with a limit on its memory.
"""

import json
import pathlib
import subprocess
import sys
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from punt_jax import checkpoints
from punt_jax.checkpoints import order_files
from punt_jax.cli import random_checkpoint

pytest.importorskip('tokenizers')
SECONDS = 20  # an answer; compilation on a busy machine included
MEMORY = 6 * 2**30  # of the long run, jax and what it reserves included
KINDS = 'llada', 'dream', 'mdlm', 'bert', 'llada2', 'llada_moe', 'nemotron'
VALUES = (
  None, True, False, 0, -1, 1, 3, 2**31, 2**40, 10**12, 10**5000, 1e300, 1e-300,
  float('nan'), float('inf'), '', 'x', 'x' * 5000, '░', '[MASK]', '\ud800',
  [], [0], [[]], {}, {'x': 1}, 'F32', 'I64', '../x', '/dev/zero',
)


def places(value, path=()):
  """The path of every value inside a JSON value."""
  yield path
  if isinstance(value, (dict, list)):
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in list(keys)[:40]:  # of a vocabulary the first
      yield from places(value[key], (*path, key))


def put(value, path, new):
  """A JSON value with another one at a path."""
  if not path:
    return new
  copy = value.copy()
  copy[path[0]] = put(value[path[0]], path[1:], new)
  return copy


def mutated(value, draw):
  """The JSON text of a value with a few changes."""
  for _ in range(draw(st.integers(1, 2))):
    every = list(places(value))
    path = every[draw(st.integers(0, len(every) - 1))]
    value = put(value, path, draw(st.sampled_from(VALUES)))
  digits = sys.get_int_max_str_digits()
  sys.set_int_max_str_digits(0)
  text = json.dumps(value)
  sys.set_int_max_str_digits(digits)
  change = draw(st.sampled_from(('none', 'none', 'twice', 'deep', 'cut')))
  if change == 'twice' and text.startswith('{"'):
    text = '{' + text[1:].rstrip('}') + ',' + text[1:]
  if change == 'deep':
    text = text.replace('null', '[' * 10**5, 1)
  return text[: draw(st.integers(0, len(text)))] if change == 'cut' else text


def with_header(data, draw):
  """A safetensors file with another header."""
  size = int.from_bytes(data[:8], 'little')
  text = mutated(json.loads(data[8 : 8 + size]), draw)
  new = text.encode('utf-8', 'surrogatepass')
  length = draw(st.sampled_from((len(new), len(new), len(new) + 8, 2**62)))
  return length.to_bytes(8, 'little') + new + data[8 + size :]


def bytes_changed(data, draw):
  """A few bytes of a file are others, or it ends early."""
  data = bytearray(data)
  for _ in range(draw(st.integers(0, 3))):
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
  return bytes(data[: draw(st.integers(0, len(data)))])


def answers(load):
  """Calls load: something, or a ValueError in one sentence, in time."""
  start = time.monotonic()
  try:
    load()
  except ValueError as error:
    said = str(error)
    assert said and '\n' not in said and len(said) < 2000, said
  assert time.monotonic() - start < SECONDS


def use(folder):
  """What a user does with a folder: load it, ask for a prompt, write."""
  loaded = checkpoints.load(folder)
  if loaded.text is not None:
    loaded.text.decode(loaded.text.encode('ab ░'))
  if loaded.chat is not None:
    loaded.chat([{'role': 'user', 'content': 'x'}])


def change(root, draw):
  """Mutates a file of one folder; returns what undoes it, and the folder."""
  folder = root / draw(st.sampled_from(KINDS))
  files = sorted(file.name for file in folder.iterdir())
  file = folder / draw(st.sampled_from(files))
  good = file.read_bytes()
  if draw(st.integers(0, 4)) == 0:
    data = bytes_changed(good, draw)
  elif file.suffix == '.json':
    text = mutated(json.loads(good), draw)
    data = text.encode('utf-8', 'surrogatepass')
  else:
    data = with_header(good, draw)
  file.write_bytes(data)
  return (lambda: file.write_bytes(good)), folder


def written(root):
  for kind in KINDS:
    random_checkpoint.write(root / kind, kind, 'tiny', shard_bytes=150_000)
  return root


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return written(tmp_path_factory.mktemp('fuzz'))


quickly = hypothesis.settings(
  max_examples=30, deadline=None, derandomize=True, database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)


@quickly
@hypothesis.given(data=st.data())
def test_folders(root, data):
  undo, folder = change(root, data.draw)
  try:
    answers(lambda: use(folder))
  finally:
    undo()


@quickly
@hypothesis.given(data=st.data())
def test_single_files(tmp_path_factory, data):
  sources = {
    order_files.SHIPPED / 'pairs_0.safetensors': order_files.load,
    order_files.SHIPPED / 'reinforce_0.1_0.safetensors': order_files.load,
    order_files.SHIPPED.parent / 'sudoku.safetensors': checkpoints.load,
  }
  source = data.draw(st.sampled_from(sorted(sources)))
  file = tmp_path_factory.getbasetemp() / 'fuzzed.safetensors'
  good = source.read_bytes()
  change = data.draw(st.sampled_from((with_header, with_header, bytes_changed)))
  file.write_bytes(change(good, data.draw))
  answers(lambda: sources[source](file))


LONG = """
import resource, sys, tempfile, pathlib
sys.path.insert(0, {tests!r})
import test_fuzz
import hypothesis
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
many = hypothesis.settings(test_fuzz.quickly, max_examples=400)
with tempfile.TemporaryDirectory() as folder:
  root = test_fuzz.written(pathlib.Path(folder))

  @many
  @hypothesis.seed({seed})
  @hypothesis.given(data=hypothesis.strategies.data())
  def folders(data):
    undo, folder = test_fuzz.change(root, data.draw)
    try:
      test_fuzz.answers(lambda: test_fuzz.use(folder))
    finally:
      undo()

  folders()
print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_many_folders_with_little_memory():
  here = pathlib.Path(__file__)
  code = LONG.format(tests=str(here.parent), memory=MEMORY, seed=1)
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True,
    cwd=here.parents[2], timeout=600,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert int(done.stdout.split()[-1]) < 2 * 2**20  # KiB
