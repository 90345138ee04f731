"""The public doors: a user's build function in, a jitted sampler out.

Denoisers and samplers hold functions, so they are never arguments of a jitted
function: build(params, hyperparams) -> (Denoiser, Sampler) runs inside it.
Weights and hyperparameters (epsilon, temperature, ...) are traced, so one
compilation serves a whole sweep and no weight becomes a constant.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from punt_jax import decode as loop
from punt_jax import parallel, rows


class Steps(NamedTuple):
  """A run taken apart; see `step`."""

  start: Callable  # (params, hyperparams, key, tokens, given=, valid=, rows=)
  # -> Run
  advance: Callable  # (params, hyperparams, Run) -> (Run, Move)


def compile(
  build,
  max_steps=None,
  devices=None,
  driver=loop.decode,
  through='pmap',
  mesh=None,
):
  """Compiles decoding, once per shape.

  Args:
    build: (params, hyperparams) -> (Denoiser, Sampler), both pytrees of arrays
      and numbers; runs under jit.
    max_steps: steps a row may take, L by default, which is enough for any
      sampler that writes at least one position per step and remasks none.
    devices: None for the default device, or a list of devices to spread the
      rows over (driver `decode` only).
    driver: decode.decode, or decode.film to get (Decoded, Move) with every
      step's Move stacked to (max_steps, B, ...).
    through: 'pmap' or 'shard_map' when there are devices.
    mesh: from parallel.mesh, instead of devices: groups of devices that split
      the weights, as checkpoints.load(..., mesh=mesh) places them.

  Returns:
    run(params, hyperparams, key, tokens, given=None, valid=None, rows=None) ->
    Decoded, where tokens (B, L) holds ids in [0, V], V = MASK; given (B, L)
    bool marks positions that stay as they are, tokens != V by default; valid
    (B, L) bool marks what is not padding, everything by default; rows (B,)
    are the rows' numbers in the whole job, 0, 1, ... by default. Row r draws
    from fold_in(key, r). It raises ValueError, naming the row, for ids out of
    range, wrong shapes, a given MASK, hyperparameters out of range, and NaN
    log-probabilities.
  """

  def per_device(params, hyperparams, key, ids, tokens, given, valid):
    model, sampler = build(params, hyperparams)
    state = loop.start(
      rows.fold_rows(key, ids), tokens, given, valid, model, sampler
    )
    return driver(state, model, sampler, max_steps or tokens.shape[1])

  if devices is None and mesh is None:
    mapped = jax.jit(per_device)
  elif driver is not loop.decode:
    raise ValueError('devices: only the driver `decode` runs on several')
  elif mesh is None:
    mapped = parallel.decode_on_devices(per_device, devices, through)
  elif devices is None:
    mapped = parallel.decode_on_mesh(per_device, mesh)
  else:
    raise ValueError('give devices or a mesh, not both')

  def run(params, hyperparams, key, tokens, given=None, valid=None, rows=None):
    vocab = _vocab(build, params, hyperparams)
    batch = check(vocab, tokens, given, valid, rows)
    out = mapped(params, hyperparams, key, *batch)
    _no_nan(out if driver is loop.decode else out[0])
    return out

  run.lower = mapped.lower
  return run


def step(build) -> Steps:
  """Compiles single steps, for ablations and notebooks.

  Example: `run = start(params, hyperparams, key, tokens)`, then as often as
  wanted `run, move = advance(params, hyperparams, run)`.
  """

  @jax.jit
  def begin(params, hyperparams, key, ids, tokens, given, valid):
    keys = rows.fold_rows(key, ids)
    return loop.start(keys, tokens, given, valid, *build(params, hyperparams))

  @jax.jit
  def advance(params, hyperparams, run):
    return loop.advance(run, *build(params, hyperparams))

  def start(
    params, hyperparams, key, tokens, given=None, valid=None, rows=None
  ):
    vocab = _vocab(build, params, hyperparams)
    batch = check(vocab, tokens, given, valid, rows)
    return begin(params, hyperparams, key, *batch)

  return Steps(start, advance)


def watch(build, max_steps=None):
  """Compiles one step and loops in Python.

  Returns:
    run(params, hyperparams, key, tokens, given=None, valid=None, rows=None), an
    iterator over (Run, Move) after each step.
  """
  steps = step(build)

  def run(params, hyperparams, key, tokens, given=None, valid=None, rows=None):
    state = steps.start(params, hyperparams, key, tokens, given, valid, rows)
    advance = lambda state: steps.advance(params, hyperparams, state)
    return loop.watch(state, advance, max_steps or state.tokens.shape[1])

  return run


def check(vocab, tokens, given=None, valid=None, rows=None):
  """Host-side check of a canvas -> (row numbers, tokens, given, valid).

  Raises:
    ValueError: one sentence that names what is wrong, and where.
  """
  tokens = np.asarray(tokens)
  if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(
      f'tokens must be integers of shape (rows, positions), not '
      f'{tokens.dtype} {tokens.shape}'
    )
  valid = np.ones(tokens.shape, bool) if valid is None else np.asarray(valid)
  given = tokens != vocab if given is None else np.asarray(given)
  for name, x in (('given', given), ('valid', valid)):
    if x.shape != tokens.shape or x.dtype != bool:
      raise ValueError(
        f'{name} must be bool of the shape of tokens {tokens.shape}, not '
        f'{x.dtype} {x.shape}'
      )
  _refuse((tokens < 0) | (tokens > vocab), f'a token id outside [0, {vocab}]')
  _refuse(given & valid & (tokens == vocab), 'a given position that is MASK')
  ids = np.arange(tokens.shape[0]) if rows is None else np.asarray(rows)
  if ids.shape != tokens.shape[:1] or not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(
      f'rows must be {tokens.shape[0]} integers, one per row of tokens, not '
      f'{ids.dtype} {ids.shape}'
    )
  return ids.astype(np.int32), tokens.astype(np.int32), given, valid


def _refuse(bad, what):
  if bad.any():
    row, position = np.argwhere(bad)[0]
    raise ValueError(f'{what}: row {row}, position {position}')


def _vocab(build, params, hyperparams):
  """V. Runs `build` with the concrete numbers, so that bad ones are named."""
  vocab = []

  def probe(params):
    vocab.append(build(params, hyperparams)[0].vocab)

  jax.eval_shape(probe, params)
  return vocab[0]


def _no_nan(decoded):
  bad = np.isnan(np.asarray(decoded.log_q))
  if bad.any():
    raise ValueError(
      f'NaN log-probabilities in row {np.argmax(bad)} ({bad.sum()} of '
      f'{bad.size} rows): check the logits of the model for this canvas'
    )
