"""Training from a config to a checkpoint, with exact resume.

A work folder holds config.json (with digests of what is learned from),
metrics.jsonl (one row per log or evaluation), results.jsonl (one row per
finished run), checkpoints/ and TensorBoard files. One process at a time has it.
After a kill the run goes on from its newest checkpoint: metrics are cut back to
it, batches and masks depend on the step alone, so that the curve and the
parameters are those of a run never interrupted. Ctrl-C and SIGTERM wait for the
step and its evaluation, save, and end the run. So does what is not finite, but
then nothing is saved.

A finished run goes on with a larger config.steps, and is then to the bit what a
run of so many steps would have been. The learning rate must allow it: it falls
over config.decay steps (0: over all of them) and stays at its last value, so
the steps that are done ask for the decay that they had, or for none
(final_share = 1). On another number of devices it goes on, too, but sums are
rounded otherwise.
"""

import json
import pathlib
import platform
import time
from typing import IO, Any, NamedTuple

import jax

from punt_jax import files, jsonl
from punt_jax.checkpoints import saving
from punt_jax.cli import records
from punt_jax.models import transformer
from punt_jax.viz import progress
from train import curve, finite, settings
from train import data as data_lib
from train import step as step_lib

# Which value of a config says where a thing lies that has a digest.
SOURCES = {
  'corpus': 'data.path', 'tokenizer': 'data.tokens', 'denoiser': 'task.model'
}
LATER = {'attention': 'full', 'block_length': 0}  # of config.model


class Run(NamedTuple):
  """A run that is ready to start or to go on."""

  config: Any
  workdir: pathlib.Path
  data: data_lib.Data
  module: Any
  state: step_lib.State
  recent: list  # of `begin`
  manager: Any  # of the checkpoints
  lock: IO[str]  # others are kept out until it is closed
  devices: Any  # each takes an equal share of every batch


def plan(config, devices):
  """Checks a config -> (its data, the network, a function that starts it)."""
  settings.denoiser(config, devices)
  data = data_lib.load(config)
  module = transformer.Transformer(vocab=data.vocab, **config.model)
  init = lambda: step_lib.init_state(config, module, data.heldout.shape[1])
  return data, module, init


def prepare(config, workdir):
  """Loads the data and the newest checkpoint.

  Raises:
    ValueError: one sentence about what the user gave; nothing is written
      before all of it has been checked.
  """
  devices, workdir = jax.local_devices(), pathlib.Path(workdir)
  data, module, init = plan(config, len(devices))
  begun = begin(config, workdir, init, data.digests)
  return Run(config, workdir, data, module, *begun, devices)


def begin(config, workdir, init, digests=()):
  """Claims workdir -> (newest state or init(), recent, checkpoints, lock).

  `recent` are the values of the steps since the last row of metrics.jsonl. The
  lock keeps others out until it is closed.

  Args:
    config: checked, see settings.py.
    workdir: pathlib.Path.
    init: () -> a fresh state.
    digests: {name: digest} of what is learned from. Its path may be another
      one then; folders of older versions have none and take these.

  Raises:
    ValueError: one sentence: workdir holds another run, or one that cannot go
      on to config.steps, or is damaged; it is left alone.
  """
  saving.check_folder(workdir)
  go_on(config, workdir)
  theirs = jsonl.read_object(workdir / 'config.json')
  known = 'digests' in theirs or not theirs
  moved = [SOURCES[name] for name in digests] if known else ['digests']
  moved += later(theirs, config)
  like = jax.eval_shape(init)  # faults of the config show before the claim
  lock = records.claim(workdir, config, {'steps', 'decay', *moved}, digests)
  try:
    saving.tidy(workdir / 'checkpoints')
    manager = saving.open_checkpoints(workdir / 'checkpoints')
    found = restore(manager, like)
    state, extra = (init(), {}) if found is None else found
  except BaseException:
    lock.close()
    raise
  return state, extra.get('recent', []), manager, lock


def restore(manager, like):
  """The newest (state, extra), on the first device; None if there is none.

  Raises:
    ValueError: one sentence: it is damaged, or not finite.
  """
  place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
  found = saving.restore(manager, jax.tree.map(put, like))
  if found and (name := finite.leaf(found[0])):
    folder = manager.directory / str(manager.latest_step())
    raise ValueError(
      f'{name} is not finite in the checkpoint {folder}: delete it to go on'
      ' from an older one'
    )
  return found


def later(theirs, config):
  """Values of LATER that a folder of an older version does not have.

  Its run had none but the defaults.
  """
  model, before = config.get('model', {}), theirs.get('model', {})
  return [
    f'model.{key}' for key, default in LATER.items()
    if before and key not in before and model.get(key) == default
  ]


def go_on(config, workdir):
  """Raises ValueError if a run in workdir cannot go on to config.steps."""
  theirs = jsonl.read_object(workdir / 'config.json')
  records.steps(workdir / 'results.jsonl')  # they are rows
  rows = records.steps(workdir / 'metrics.jsonl')
  folder = workdir / 'checkpoints'
  there = folder.iterdir() if folder.is_dir() else ()
  done = max((int(x.name) for x in there if x.name.isdecimal()), default=0)
  if config.steps < done:
    raise ValueError(
      f'{workdir} has {done} steps done, and config.steps = {config.steps}: ask'
      ' for at least as many, or use another --workdir'
    )
  same = theirs.get('log_every') == config.log_every
  logged = done - done % (config.log_every * same or done + 1)
  if logged > max((row['step'] for row in rows), default=0):
    raise ValueError(
      f'{workdir}/metrics.jsonl has no row of step {logged}, and {done} steps'
      ' are done: put back what has been lost, or use another --workdir'
    )
  before, now = step_lib.decay_steps(theirs), step_lib.decay_steps(config)
  if done and None not in (before, now) and before != now:
    raise ValueError(
      f'the learning rate in {workdir} falls over {before} steps and now would'
      f' over {now}, so that its {done} steps would have been others: set'
      f' --config.decay={before} to go on at the rate at which it ends, or use'
      ' another --workdir'
    )


def train(run):
  """Trains to the last step. Returns the row added to results.jsonl.

  Then others may have the work folder.
  """
  config = run.config
  update = step_lib.make_update(config, run.module, run.devices)
  evaluate = step_lib.make_evaluate(run.module, config.batch)
  score = lambda state, rows, draws: data_lib.score(
    run.data, evaluate, state.ema, rows, draws, config.seed
  )
  with run.lock:
    state, seconds = drive(
      config, run.workdir, run.manager, run.state, run.recent,
      lambda state, step: update(state, run.data.batch(step)),
      lambda state: score(state, config.eval_rows, 2),
    )
    return finish(run, score, state, seconds)


def drive(config, workdir, manager, state, recent, advance, evaluate):
  """Advances a state to config.steps, with metrics, progress, checkpoints.

  Args:
    config: steps, log_every, eval_every, save_every; 0 is never, but the last
      step is always saved.
    workdir: pathlib.Path.
    manager: from `begin`.
    state: pytree with a leaf `step`, updates done.
    recent: from `begin`.
    advance: (state, updates done) -> (state, {name: scalar}).
    evaluate: state -> {name: number}.

  Returns:
    the last state, and the seconds since the start or the resumption.

  Raises:
    ValueError: one sentence: something is not finite, or cannot be written.
    KeyboardInterrupt: the process has been asked to end, and all is saved.
  """
  start, recent, clock = int(state.step), list(recent), time.monotonic()
  records.cut_rows(workdir / 'metrics.jsonl', start)
  # The row of a run that has finished here and is to go on stays.
  again = start == config.steps
  records.cut_rows(workdir / 'results.jsonl', start - again)
  bar = progress.progress(
    what='training', total=config.steps, unit='step', start=start
  )
  tell = curve.pace(bar, start, config.steps)
  due = lambda step, every: every and step % every == 0
  with (
    files.whole() as stopping, progress.alive(bar),
    curve.reporting(workdir, bar, start) as report,
  ):
    for step in range(start + 1, config.steps + 1):
      state, values = advance(state, step - 1)
      recent = [*recent, values] if config.log_every else [values]
      if due(step, config.log_every):
        recent = finite.numbers(recent, step, manager)
        report(step, curve.mean(recent))
        recent = []
      if due(step, config.eval_every):
        found = evaluate(state)
        finite.check(found, step, manager)
        report(step, found)
      last = step == config.steps or stopping.is_set()
      if last or due(step, config.save_every):
        recent = finite.numbers(recent, step, manager)
        finite.check_state(state, step, manager)
        extra = {'data_step': step, 'config': json.loads(config.to_json())}
        saving.save(manager, step, state, extra | {'recent': recent})
        if stopping.is_set():
          raise KeyboardInterrupt(
            f'saved step {step}; run the same command again to go on'
          )
      tell(step, values)
      bar.update()
  return state, time.monotonic() - clock


def finish(run, score, state, seconds):
  """Scores all held-out data and adds the row to results.jsonl."""
  step = int(state.step)
  found = score(state, len(run.data.heldout), 4)
  finite.check(found, step, run.manager)
  row = {
    'step': step,
    **found,
    'floor_nats': run.data.floor,
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'seconds_since_start_or_resume': seconds,
    'devices': [d.device_kind for d in run.devices],
    'machine': platform.machine(),
    'jax': jax.__version__,
    'revision': records.revision(),
    'seed': run.config.seed,
    'config': json.loads(run.config.to_json()),
    'digests': run.data.digests,
  }
  jsonl.append(run.workdir / 'results.jsonl', row)
  return row
