"""Training from a config to a checkpoint, with exact resume.

A work folder holds config.json, metrics.jsonl (one row per log or
evaluation), results.jsonl (one row per finished run), checkpoints/ and
TensorBoard files. After a kill the run goes on from its newest checkpoint:
metrics are cut back to it, batches and masks depend on the step alone, so
that the curve and the parameters are those of a run never interrupted.
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
from train import data as data_lib
from train import step as step_lib


class Run(NamedTuple):
  """A run that is ready to start or to go on."""

  config: Any
  workdir: pathlib.Path
  data: data_lib.Data
  module: Any
  state: step_lib.State
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
  state, manager = begin(config, workdir, init)
  return Run(config, workdir, data, module, state, manager, devices)


def begin(config, workdir, init):
  """Claims workdir -> (newest state or init(), checkpoint manager)."""
  if config.save_every % config.log_every:
    raise ValueError(
      f'save_every ({config.save_every}) must be a multiple of log_every'
      f' ({config.log_every}), so that a resumed curve has the same rows'
    )
  records.claim(workdir, config)
  manager = saving.open_checkpoints(workdir / 'checkpoints')
  found = saving.restore(manager, jax.eval_shape(init))
  return (init() if found is None else found[0]), manager


def tensorboard(folder, start):
  """A TensorBoard writer, or None with a sentence if there is no package."""
  try:
    package = extras.load('tensorboardX', 'TensorBoard')
  except ValueError as error:
    print(error, file=sys.stderr)
    return None
  return package.SummaryWriter(str(folder), purge_step=start + 1)


def progress(step, steps, begin, start, row):
  """One line about how far the run is, redrawn on a terminal."""
  spent = time.monotonic() - begin
  left = spent / max(step - start, 1) * (steps - step)
  bar = '#' * (20 * step // steps)
  values = ' '.join(
    f'{k} {v:.3f}' for k, v in row.items() if isinstance(v, float)
  )
  line = f'[{bar:<20}] {step}/{steps} {left:.0f} s left {values}'
  end = '\r' if sys.stderr.isatty() and step < steps else '\n'
  print(line, end=end, file=sys.stderr, flush=True)


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
    config, run.workdir, run.manager, run.state,
    lambda state, step: update(state, run.data.batch(step)),
    lambda state: score(run, evaluate, state.ema, config.eval_rows, 2),
  )
  return finish(run, evaluate, state, seconds)


def drive(config, workdir, manager, state, advance, evaluate):
  """Advances a state to config.steps, with metrics, progress, checkpoints.

  Args:
    config: steps, log_every, eval_every, save_every.
    workdir: pathlib.Path.
    manager: from `begin`.
    state: pytree with a leaf `step`, updates done.
    advance: (state, updates done) -> (state, {name: scalar}).
    evaluate: state -> {name: number}.

  Returns:
    the last state, and the seconds since the start or the resumption.
  """
  metrics = workdir / 'metrics.jsonl'
  start = int(state.step)
  records.cut_rows(metrics, start)
  records.cut_rows(workdir / 'results.jsonl', start - 1)
  board = tensorboard(workdir, start)
  begun, recent = time.monotonic(), []

  def report(step, row):
    jsonl.append(metrics, {'step': step, **row})
    for name, value in row.items() if board else ():
      board.add_scalar(name, value, step)
    progress(step, config.steps, begun, start, row)

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
      extra = {'data_step': step, 'config': json.loads(config.to_json())}
      saving.save(manager, step, state, extra)
  if board:
    board.close()
  return state, time.monotonic() - begun


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
