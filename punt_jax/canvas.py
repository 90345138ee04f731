"""What a run is given and what it ends with, looked at on the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import checks
from punt_jax.types import ArrayLike, Denoiser

Batch = tuple[Any, Any, Any, Any]  # row numbers, tokens, given, valid


def shaped(
  tokens: ArrayLike, given: ArrayLike | None, valid: ArrayLike | None,
  rows: ArrayLike | None,
) -> Batch:
  """(row numbers, tokens, given, valid), shapes and dtypes checked.

  Of what NumPy holds the row numbers, too.

  Raises:
    ValueError: one sentence that names what is wrong.
  """
  tokens = checks.array('tokens', tokens)
  if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, np.integer):
    raise ValueError(
      f'tokens must be integers of shape (rows, positions), not '
      f'{tokens.dtype} {tokens.shape}'
    )
  if not tokens.size:
    raise ValueError(f'the canvas {tokens.shape} is empty: nothing to fill')
  flags = {'given': given, 'valid': valid}
  for name, x in flags.items():
    flags[name] = x = None if x is None else checks.array(name, x)
    if x is not None and (x.shape != tokens.shape or x.dtype != bool):
      raise ValueError(
        f'{name} must be bool of the shape of tokens {tokens.shape}, not '
        f'{x.dtype} {x.shape}'
      )
  ids = None if rows is None else checks.array('rows', rows)
  if ids is None:
    return ids, tokens, flags['given'], flags['valid']
  if ids.shape != tokens.shape[:1] or not jnp.issubdtype(ids.dtype, np.integer):
    raise ValueError(
      f'rows must be {tokens.shape[0]} integers, one per row of tokens, not '
      f'{ids.dtype} {ids.shape}'
    )
  if not isinstance(ids, jax.Array):
    _check_rows(ids)
  return ids, tokens, flags['given'], flags['valid']


def _check_rows(rows):
  """Raises ValueError for a number that a key cannot be folded with."""
  bad = (rows < 0) | (rows > checks.INT32)
  if bad.any():
    raise ValueError(
      f'rows holds {rows[np.argmax(bad)]}: the number of a row must lie in'
      ' [0, 2 ** 31)'
    )


def checked(
  model: Denoiser, rows: Any, tokens: Any, given: Any, valid: Any
) -> Batch:
  """Host-side check of a canvas -> (row numbers, tokens, given, valid).

  Args:
    model: its vocab and mask are read.
    rows, tokens, given, valid: of the right shapes; None for the defaults.

  Raises:
    ValueError: one sentence that names what is wrong, and where.
  """
  if any(isinstance(x, Tracer) for x in (rows, tokens, given, valid)):
    raise ValueError(
      'a traced canvas cannot be looked at: call punt_jax.sample inside of jit,'
      ' or compile with check=False'
    )
  tokens = np.asarray(tokens)
  if rows is not None:
    _check_rows(np.asarray(rows))
  if model.mask is not None:
    tokens = np.where(tokens == model.mask, model.vocab, tokens)
  rows = np.arange(len(tokens)) if rows is None else np.asarray(rows)
  valid = np.ones(tokens.shape, bool) if valid is None else np.asarray(valid)
  masks = tokens == model.vocab
  given = ~masks if given is None else np.asarray(given)
  outside = (tokens < 0) | (tokens > model.vocab)
  _refuse(outside, f'a token id outside [0, {model.vocab}]')
  _refuse(given & valid & masks, 'a given position that is MASK')
  return rows.astype(np.int32), tokens.astype(np.int32), given, valid


def _refuse(bad, what):
  if bad.any():
    row, position = np.argwhere(bad)[0]
    raise ValueError(f'{what}: row {row}, position {position}')


def no_fault(done: Any) -> None:
  """Raises ValueError if a run, Decoded or decode.Run, met what is no number.

  Args:
    done: its fault and log_q are read.
  """
  fault = np.asarray(done.fault)
  bad = fault >= 0
  if not bad.any():
    return
  row = np.argmax(bad)
  where = f'row {row} ({bad.sum()} of {bad.size} rows)'
  where += f', from step {fault[row]} on'
  log_q = np.asarray(done.log_q)[row]
  if np.isposinf(log_q):
    raise ValueError(
      f'nothing was chosen to be written in {where}: the rule of the sampler'
      ' must choose a masked position, and a score or a schedule'
      ' must not be NaN'
    )
  if np.isneginf(log_q):
    raise ValueError(
      f'a token of probability 0 was written in {where}: check the'
      ' log-probabilities of the sampler'
    )
  raise ValueError(
    f'NaN log-probabilities in {where}: check the logits of the model for this'
    ' canvas (MASK, the id V, needs a row of the embedding, too), and whether'
    ' banned ids leave it a token'
  )
