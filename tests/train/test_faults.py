"""Faults in training: kills, signals, full disks, NaN, damaged folders.

Most of it is tried on a state of four numbers: what is tested is what keeps it.
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from punt_jax import files, jsonl
from punt_jax.checkpoints import saving
from train import curve, finite, loop

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Toy(NamedTuple):
  """What is trained."""

  step: Any
  params: Any


def init():
  return Toy(jnp.int32(0), {'w': jnp.arange(4.0)})


def advance(state, step):
  """An update whose every bit depends on all before it."""
  w = jnp.sin(3 * state.params['w'] + step)
  return Toy(state.step + 1, {**state.params, 'w': w}), {'loss': w.sum()}


def evaluate(state):
  return {'score': float(state.params['w'].prod())}


def toy(**values):
  numbers = dict(
    seed=0, steps=20, log_every=4, eval_every=6, save_every=8, decay=0
  )
  return ml_collections.ConfigDict({**numbers, **values})


def run(workdir, config=None, advance=advance, evaluate=evaluate, digests=()):
  """Trains the toy to its last step -> (its state, the text of its curve)."""
  config, workdir = config or toy(), pathlib.Path(workdir)
  state, recent, manager, lock = loop.begin(config, workdir, init, digests)
  with lock:
    state, _ = loop.drive(
      config, workdir, manager, state, recent, advance, evaluate
    )
  return state, (workdir / 'metrics.jsonl').read_text()


def at(step, do):
  """advance, but something happens in this step: do(state, values) -> both."""

  def other(state, done):
    state, values = advance(state, done)
    return do(state, values) if done == step - 1 else (state, values)

  return other


def saved(workdir):
  return sorted(int(x.name) for x in (workdir / 'checkpoints').iterdir())


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that nothing has interrupted."""
  return run(tmp_path_factory.mktemp('runs') / 'whole')


def same(found, expected):
  jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
  assert found[1] == expected[1]


@pytest.fixture
def asked():
  """Asks the run to end, as a signal does."""
  yield lambda *found: (files.stopping.set(), found)[1]
  files.stopping.clear()


@pytest.mark.parametrize('step', [1, 6, 11, 20])
def test_a_run_that_was_asked_to_end_goes_on_to_the_bit(
  tmp_path, whole, step, asked
):
  with pytest.raises(KeyboardInterrupt, match=f'saved step {step}'):
    run(tmp_path / 'run', advance=at(step, asked))
  assert saved(tmp_path / 'run')[-1] == step
  files.stopping.clear()
  same(run(tmp_path / 'run'), whole)


def test_it_may_be_asked_while_it_tests_or_saves(
  tmp_path, whole, asked, monkeypatch
):
  tests = lambda state: asked(evaluate(state))[0]
  with pytest.raises(KeyboardInterrupt, match='saved step 6'):
    run(tmp_path / 'run', evaluate=tests)
  files.stopping.clear()
  with monkeypatch.context() as patch:
    save = saving.save
    patch.setattr(saving, 'save', lambda *x: asked(save(*x))[0])
    with pytest.raises(KeyboardInterrupt, match='saved step 8'):
      run(tmp_path / 'run')
  assert saved(tmp_path / 'run') == [6, 8]
  files.stopping.clear()
  same(run(tmp_path / 'run'), whole)


LOST = (
  lambda state, values: (state, {'loss': values['loss'] * jnp.inf}),
  lambda state, values: (state, {'loss': values['loss'] + jnp.nan}),
  lambda state, values: (
    state._replace(params={'w': state.params['w'].at[2].set(jnp.nan)}), values
  ),
)


@pytest.mark.parametrize('what, said', [
  (LOST[0], 'loss is -?inf at step 11'),
  (LOST[1], 'loss is nan at step 11'),
  (LOST[2], 'loss is nan at step 12'),
])
def test_what_is_not_finite_ends_the_run(tmp_path, whole, what, said):
  """And nothing of it is kept, so that the run goes on from before."""
  folder = tmp_path / 'run'
  with pytest.raises(ValueError, match=said) as caught:
    run(folder, advance=at(11, what))
  assert 'the checkpoint of step 8 stays; use lower rates' in str(caught.value)
  assert '\n' not in str(caught.value) and saved(folder) == [8]
  rows = [jsonl.loads(x) for x in (folder / 'metrics.jsonl').read_text().split(
    '\n'
  )[:-1]]
  assert [row['step'] for row in rows] == [4, 6, 8]
  same(run(folder), whole)


def test_no_state_is_saved_that_is_not_finite(tmp_path):
  """In its last step, of whose loss nothing can be told."""
  folder = tmp_path / 'run'
  with pytest.raises(ValueError, match='params.w is not finite after step 20'):
    run(folder, advance=at(20, LOST[2]), evaluate=lambda state: {'score': 1.0})
  assert saved(folder) == [8, 16]
  with pytest.raises(ValueError, match='score is nan at step 6: .*nothing'):
    run(tmp_path / 'bad', evaluate=lambda state: {'score': float('nan')})
  assert saved(tmp_path / 'bad') == []
  assert finite.leaf({'a': jnp.ones(2, jnp.bfloat16), 'b': 3}) is None
  assert finite.leaf({'a': jnp.array([1, -jnp.inf], jnp.bfloat16)}) == 'a'


def test_a_checkpoint_with_nan_in_it_is_refused(tmp_path):
  """One of a version that saved them."""
  run(tmp_path / 'run')
  manager = saving.open_checkpoints(tmp_path / 'run' / 'checkpoints')
  bad = Toy(jnp.int32(24), {'w': jnp.full(4, jnp.nan)})
  saving.save(manager, 24, bad, {})
  jsonl.append(tmp_path / 'run' / 'metrics.jsonl', {'step': 24})
  with pytest.raises(ValueError, match='params.w is not finite in the checkpo'):
    run(tmp_path / 'run', toy(steps=24, decay=20))


def test_intervals_of_0_mean_never(tmp_path):
  _, text = run(
    tmp_path / 'run', toy(log_every=0, save_every=0, eval_every=20)
  )
  assert [json.loads(x)['step'] for x in text.splitlines()] == [20]
  assert saved(tmp_path / 'run') == [20]
  with pytest.raises(ValueError, match='loss is nan at step 20'):
    run(
      tmp_path / 'bad', toy(log_every=0, save_every=0, eval_every=0),
      at(20, LOST[1]),
    )


def test_from_an_older_checkpoint_to_the_bit(tmp_path, whole, capfd):
  """After a sentence that names the newest one and what to do."""
  folder = tmp_path / 'run'
  run(folder, toy(steps=16, decay=20))
  newest = folder / 'checkpoints' / '16'
  for file in (newest / 'state').rglob('*'):
    if file.is_file():
      os.truncate(file, file.stat().st_size // 2)
  capfd.readouterr()
  with pytest.raises(ValueError, match=f'{newest} cannot be read .* delete it'):
    run(folder, toy(decay=20))
  assert capfd.readouterr().err == ''  # what orbax has to say of it
  shutil.rmtree(newest)
  same(run(folder, toy(decay=20)), whole)


def test_a_full_disk_is_a_sentence(tmp_path, whole):
  """Here, as far as this process is concerned: no file over 200,000 bytes."""
  folder, limits = tmp_path / 'run', resource.getrlimit(resource.RLIMIT_FSIZE)
  config = toy(log_every=0, eval_every=0)
  noise = np.random.default_rng(0).normal(size=100_000).astype(np.float32)

  def heavy():
    state = init()
    return state._replace(params={**state.params, 'noise': jnp.array(noise)})

  def full(state, values):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    return state, values

  def go_on(advance):
    state, recent, manager, lock = loop.begin(config, folder, heavy)
    with lock:
      how = config, folder, manager, state, recent, advance, evaluate
      return int(state.step), loop.drive(*how)[0]

  try:
    with pytest.raises(ValueError, match='16 cannot be written .File too'):
      go_on(at(16, full))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert saved(folder) == [8]
  start, state = go_on(advance)
  assert start == 8
  np.testing.assert_array_equal(state.params['w'], whole[0].params['w'])


def test_damaged_files_of_a_run_are_named(tmp_path):
  folder = tmp_path / 'run'
  run(folder)
  metrics, config = folder / 'metrics.jsonl', folder / 'config.json'
  lines = metrics.read_text().splitlines(keepends=True)
  for row, said in (
    ('[1]\n', 'line 2 of .*metrics.jsonl is not a JSON object'),
    ('{"step": 4, "lo\n', 'line 2 of .*metrics.jsonl is not JSON'),
    ('{"loss": 4}\n', 'line 2 of .*metrics.jsonl has no "step"'),
  ):
    metrics.write_text(''.join([lines[0], row, *lines[1:]]))
    with pytest.raises(ValueError, match=said):
      run(folder)
  metrics.write_text(''.join(lines))
  config.write_text(config.read_text()[:-9])
  with pytest.raises(ValueError, match='config.json cannot be read as JSON'):
    run(folder)


def test_inputs_are_known_by_content(tmp_path):
  """Wherever they lie now; folders of before have no digests."""
  folder = tmp_path / 'run'
  place = lambda path: toy(data=dict(path=path))
  run(folder, place('here'), digests={'corpus': 'ab'})
  run(folder, place('there'), digests={'corpus': 'ab'})
  with pytest.raises(ValueError, match='with another corpus .*use another'):
    run(folder, place('here'), digests={'corpus': 'cd'})
  card = json.loads((folder / 'config.json').read_text())
  assert card['data'] == {'path': 'there'} and card['digests'] == {
    'corpus': 'ab'
  }
  del card['digests']
  (folder / 'config.json').write_text(json.dumps(card))
  with pytest.raises(ValueError, match='different: data.path'):
    run(folder, place('here'), digests={'corpus': 'ab'})
  run(folder, place('there'), digests={'corpus': 'ab'})
  with pytest.raises(ValueError, match='with another corpus'):
    run(folder, place('there'), digests={'corpus': 'cd'})


def test_a_folder_that_cannot_be_read_back_is_refused(tmp_path):
  with pytest.raises(ValueError, match='cannot be read back from a folder'):
    run(tmp_path / 'run [2]')
  assert list(tmp_path.iterdir()) == []
  file = tmp_path / 'file'
  file.write_text('mine')
  with pytest.raises(ValueError, match='file is a file: give a folder'):
    run(file)
  assert file.read_text() == 'mine'


def events(file):
  """[(step, {name: value})] of a file of TensorBoard."""
  event_pb2 = pytest.importorskip('tensorboardX.proto.event_pb2')
  data, found = file.read_bytes(), []
  while data:
    size = int.from_bytes(data[:8], 'little')
    one = event_pb2.Event.FromString(data[12 : 12 + size])
    values = {x.tag: x.simple_value for x in one.summary.value}
    found.append((one.step, values))
    data = data[16 + size :]
  return found


def test_tensorboard_sees_the_curve_or_a_sentence(tmp_path, capsys):
  pytest.importorskip('tensorboardX')
  with curve.tensorboard(tmp_path, 4) as show:
    show(8, {'loss': 0.5, 'grad': 2.0})
    (file,) = tmp_path.iterdir()  # what was shown is there at once
    assert events(file)[1:] == [
      (5, {}), (8, {'loss': 0.5}), (8, {'grad': 2.0})
    ]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
      show(12, {'loss': 0.5})
      show(16, {'loss': 0.5})
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and 'the files for TensorBoard end here' in said
  with curve.tensorboard(tmp_path / 'nowhere', 0) as show:
    show(1, {'loss': 0.5})
  assert 'there are no files for TensorBoard' in capsys.readouterr().err


SCRIPT = """
import sys, time
from punt_jax.cli import command
from tests.train import test_faults as toys

def work(_):
  def slow(state, values):
    print(int(state.step), flush=True)
    time.sleep(1)
    return state, values
  toys.run(sys.argv[1], advance=toys.at(11, slow))

command.run(work, most=1)
"""


@pytest.mark.parametrize('number', [
  signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)
])
def test_a_signal_saves_and_ends(tmp_path, whole, number, asked):
  """And while the process lives no other one may have its folder.

  It has one device and goes on from a checkpoint that eight have written.
  """
  folder, everywhere = tmp_path / 'run', jax.sharding.NamedSharding(
    jax.make_mesh((8,), ('x',)), jax.sharding.PartitionSpec()
  )
  put = lambda state: jax.device_put(state, everywhere)
  spread = lambda state, values: asked(put(state), values)
  with pytest.raises(KeyboardInterrupt):
    run(folder, advance=at(3, spread))
  files.stopping.clear()
  process = subprocess.Popen(
    [sys.executable, '-c', SCRIPT, str(folder)], cwd=ROOT, text=True,
    env={**os.environ, 'XLA_FLAGS': ''},
    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )
  for line in process.stdout:
    if line.strip() == '11':
      break
  with pytest.raises(ValueError, match=f'another run .process {process.pid}'):
    run(folder)
  begun = time.monotonic()
  process.send_signal(number)
  _, said = process.communicate(timeout=60)
  assert time.monotonic() - begun < 20
  assert process.returncode == 128 + number, said
  assert said.splitlines()[-1] == (
    '-c: interrupted; saved step 11; run the same command again to go on'
  )
  assert 'Traceback' not in said and saved(folder) == [8, 11]
  same(run(folder), whole)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
  """At random moments, of which many lie within a checkpoint."""
  how = dict(
    steps=60, log_every=1, save_every=1, eval_every=30, eval_rows=32, batch=16,
    warmup=4, optimizer='adamw',
  )
  how |= {'model.width': 16, 'model.layers': 1, 'data.heldout': 64}
  how = [f'--config.{name}={value}' for name, value in how.items()]
  env = {**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  env['JAX_COMPILATION_CACHE_DIR'] = str(tmp_path / 'cache')
  env['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  seed = str(np.random.SeedSequence().entropy)
  for name, kills in (('whole', '0'), ('cut', '20')):
    done = subprocess.run(
      [
        sys.executable, '-m', 'tests.helpers.killed', tmp_path / name, kills,
        seed, *how,
      ], cwd=ROOT, env=env, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
  said = done.stdout.splitlines()[-1]
  print(said, 'seed', seed)
  _, count, _, inside, *_ = said.split()
  assert int(count) >= 10 and int(inside) >= 1
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  assert (cut / 'metrics.jsonl').read_text() == (
    whole / 'metrics.jsonl'
  ).read_text()
  score = lambda run: [
    x['heldout_nats'] for x in jsonl.read(run / 'results.jsonl')
  ]
  assert score(cut) == score(whole) and len(score(cut)) == 1
  digest = lambda run: json.loads(
    (run / 'checkpoints' / '60' / 'extra' / 'metadata').read_text()
  )['digest']  # of all leaves, compared with them whenever a run goes on
  assert digest(cut) == digest(whole)
