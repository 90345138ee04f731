"""Training from a config to a checkpoint, with exact resume.

A work folder holds config.json, metrics.jsonl (one row per log or
evaluation), results.jsonl (one row per finished run), checkpoints/ and
TensorBoard files. After a kill the run goes on from its newest checkpoint:
metrics are cut back to it, batches and masks depend on the step alone, so
that the curve and the parameters are those of a run never interrupted.

A finished run goes on with a larger config.steps, and is then to the bit what a
run of so many steps would have been. The learning rate must allow it: it falls
over config.decay steps (0: over all of them) and stays at its last value, so
the steps that are done ask for the decay that they had, or for none
(final_share = 1).
"""

import json
import pathlib
import platform
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from punt_jax import checks, corruption, extras, jsonl
from punt_jax.checkpoints import saving
from punt_jax.cli import records
from punt_jax.models import transformer
from punt_jax.viz import progress
from train import data as data_lib
from train import step as step_lib

WARM = 5  # steps after which the time of the others is known


class Run(NamedTuple):
  """A run that is ready to start or to go on."""

  config: Any
  workdir: pathlib.Path
  data: data_lib.Data
  module: Any
  state: step_lib.State
  recent: list  # of `begin`
  manager: Any  # orbax
  devices: Any  # each takes an equal share of every batch


def prepare(config, workdir):
  """Loads the data and the newest checkpoint.

  Raises:
    ValueError: one sentence about what the user gave; nothing is written
      before all of it has been checked.
  """
  checks.known('loss_weight', config.loss_weight, corruption.WEIGHTS)
  checks.known('optimizer', config.optimizer, step_lib.OPTIMIZERS)
  devices = jax.local_devices()
  if config.batch % len(devices):
    raise ValueError(
      f'a batch of {config.batch} rows does not divide over {len(devices)}'
      ' devices: set --config.batch to a multiple'
    )
  data = data_lib.load(config)
  module = transformer.Transformer(vocab=data.vocab, **config.model)
  init = lambda: step_lib.init_state(config, module, data.heldout.shape[1])
  workdir = pathlib.Path(workdir)
  begun = begin(config, workdir, init)
  return Run(config, workdir, data, module, *begun, devices)


def begin(config, workdir, init):
  """Claims workdir -> (newest state or init(), recent, checkpoint manager).

  `recent` are the values of the steps since the last row of metrics.jsonl.

  Raises:
    ValueError: one sentence: workdir holds another run, or one that cannot go
      on to config.steps; it is left alone.
  """
  if config.save_every % config.log_every:
    raise ValueError(
      f'save_every ({config.save_every}) must be a multiple of log_every'
      f' ({config.log_every}), so that a resumed curve has the same rows'
    )
  go_on(config, workdir)
  like = jax.eval_shape(init)  # faults of the config show before the claim
  records.claim(workdir, config, ('steps', 'decay'))
  manager = saving.open_checkpoints(workdir / 'checkpoints')
  found = saving.restore(manager, like)
  if found is None:
    return init(), [], manager
  state, extra = found
  return state, extra.get('recent', []), manager


def go_on(config, workdir):
  """Raises ValueError if a run in workdir cannot go on to config.steps."""
  theirs = jsonl.read_object(workdir / 'config.json')
  folder = workdir / 'checkpoints'
  there = folder.iterdir() if folder.exists() else ()
  done = max((int(x.name) for x in there if x.name.isdigit()), default=0)
  if config.steps < done:
    raise ValueError(
      f'{workdir} has {done} steps done, and config.steps = {config.steps}: ask'
      ' for at least as many, or use another --workdir'
    )
  before, now = step_lib.decay_steps(theirs), step_lib.decay_steps(config)
  if done and None not in (before, now) and before != now:
    raise ValueError(
      f'the learning rate in {workdir} falls over {before} steps and now would'
      f' over {now}, so that its {done} steps would have been others: set'
      f' --config.decay={before} to go on at the rate at which it ends, or use'
      ' another --workdir'
    )


def tensorboard(folder, start):
  """A TensorBoard writer, or None with a sentence if there is no package."""
  try:
    package = extras.load('tensorboardX', 'TensorBoard')
  except ValueError as error:
    print(error, file=sys.stderr)
    return None
  return package.SummaryWriter(str(folder), purge_step=start + 1)


def score(run, evaluate, params, rows, draws):
  """Held-out NELBO of `rows` windows spread over the held-out data."""
  heldout = run.data.heldout
  index = np.linspace(0, len(heldout) - 1, min(rows, len(heldout)))
  tokens = heldout[index.astype(int)]
  nats, error = evaluate(params, tokens, draws, run.config.seed)
  scale = run.data.units / np.log(2)
  return {
    'heldout_nats': nats,
    'heldout_nats_error': error,
    'heldout_bits': nats * scale,
    'heldout_bits_error': error * scale,
  }


def train(run):
  """Trains to the last step. Returns the row added to results.jsonl."""
  config = run.config
  update = step_lib.make_update(config, run.module, run.devices)
  evaluate = step_lib.make_evaluate(run.module, config.batch)
  state, seconds = drive(
    config, run.workdir, run.manager, run.state, run.recent,
    lambda state, step: update(state, run.data.batch(step)),
    lambda state: score(run, evaluate, state.ema, config.eval_rows, 2),
  )
  return finish(run, evaluate, state, seconds)


def drive(config, workdir, manager, state, recent, advance, evaluate):
  """Advances a state to config.steps, with metrics, progress, checkpoints.

  Args:
    config: steps, log_every, eval_every, save_every.
    workdir: pathlib.Path.
    manager: from `begin`.
    state: pytree with a leaf `step`, updates done.
    recent: from `begin`.
    advance: (state, updates done) -> (state, {name: scalar}).
    evaluate: state -> {name: number}.

  Returns:
    the last state, and the seconds since the start or the resumption.
  """
  metrics, begun = workdir / 'metrics.jsonl', time.monotonic()
  start, recent = int(state.step), list(recent)
  records.cut_rows(metrics, start)
  # The row of a run that has finished here and is to go on stays.
  again = start == config.steps
  records.cut_rows(workdir / 'results.jsonl', start - again)
  board = tensorboard(workdir, start)
  bar = progress.progress(
    what='training', total=config.steps, unit='step', start=start
  )
  tell = pace(bar, start, config.steps)

  def report(step, row):
    jsonl.append(metrics, {'step': step, **row})
    for name, value in row.items() if board else ():
      board.add_scalar(name, value, step)
    numbers = (f'{k} {v:.3f}' for k, v in row.items() if isinstance(v, float))
    bar.set_postfix_str(' '.join(numbers), refresh=False)

  with progress.alive(bar):
    for step in range(start + 1, config.steps + 1):
      state, values = advance(state, step - 1)
      recent.append(values)
      if step % config.log_every == 0:
        mean = {k: [float(v[k]) for v in recent] for k in values}
        report(step, {k: float(np.mean(v)) for k, v in mean.items()})
        recent = []
      if step % config.eval_every == 0:
        report(step, evaluate(state))
      if step % config.save_every == 0 or step == config.steps:
        recent = [{k: float(v) for k, v in x.items()} for x in recent]
        extra = {'data_step': step, 'config': json.loads(config.to_json())}
        saving.save(manager, step, state, extra | {'recent': recent})
      tell(step, values)
      bar.update()
  if board:
    board.close()
  return state, time.monotonic() - begun


def pace(bar, start, total):
  """Says what there is to do -> tell(step, values), after which how long.

  The first step compiles; the next ones are timed.
  """
  marks, left = [], total - start
  bar.write(
    f'training: {left} steps to go; after {WARM} of them it is known for how'
    ' long' if left else f'training: all {total} steps are done'
  )

  def tell(step, values):
    if step - start in (1, WARM):
      jax.block_until_ready(values)
      marks.append(time.monotonic())
    if step - start == WARM:
      more = total - step
      rest = progress.duration((marks[1] - marks[0]) / (WARM - 1) * more)
      bar.write(f'training: about {rest} for {more} more, evaluations aside')

  return tell


def finish(run, evaluate, state, seconds):
  """Scores all held-out data and adds the row to results.jsonl."""
  row = {
    'step': int(state.step),
    **score(run, evaluate, state.ema, len(run.data.heldout), 4),
    'floor_nats': run.data.floor,
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'seconds_since_start_or_resume': seconds,
    'devices': [d.device_kind for d in run.devices],
    'machine': platform.machine(),
    'jax': jax.__version__,
    'revision': records.revision(),
    'seed': run.config.seed,
    'config': json.loads(run.config.to_json()),
  }
  jsonl.append(run.workdir / 'results.jsonl', row)
  return row
