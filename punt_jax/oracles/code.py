"""A linear code: bits uniform over the words that pass all parity checks.

The dependence of hidden_xor at any size: with sparse checks almost every subset
of positions is uniform, and yet the whole is not. Conditionals come from
Gaussian elimination over GF(2), with 32 bits to a word: L steps of O(R L / 32).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import rows
from punt_jax.checks import array, whole
from punt_jax.oracles import inputs, messages
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike


def code(checks: ArrayLike) -> World:
  """Uniform over the bits x (L,) with checks @ x even everywhere.

  Given any evidence a bit is known or uniform, so logits are 0, -inf or
  -log(2); bits may well be dependent all the same.

  Four bits, of which three sum to an even number:

  >>> world = code(jnp.array([[0, 1, 1, 1]]))
  >>> jnp.exp(world.logits(jnp.array([2, 1, 0, 2])))[3].tolist()
  [0.0, 1.0]

  Args:
    checks: (R, L) of 0 and 1, R >= 1; row r marks the positions of check r.

  Raises:
    ValueError: checks is not a matrix of 0 and 1.
  """
  checks = array('checks', checks)
  if np.ndim(checks) != 2 or 0 in np.shape(checks):
    raise ValueError(
      f'checks is an (R, L) matrix of 0 and 1, got shape {np.shape(checks)}.'
    )
  if not isinstance(checks, Tracer):
    stray = np.setdiff1d(np.asarray(checks), [0, 1])
    if stray.size:
      raise ValueError(
        f'checks has {stray[0]}: row r marks the positions of check r with 1,'
        ' all others are 0'
      )
  length = np.shape(checks)[1]
  checks = jnp.asarray(checks) != 0
  whole = jnp.ones(length, bool)
  rows, _, leading = _eliminate(checks, ~whole, whole)
  dimension = length - leading.sum()

  def solve(allowed):
    """Masked positions, their number of free bits, and what is known."""
    masked = allowed.all(1)
    rows, odd, leading = _eliminate(checks, allowed[:, 1] & ~masked, masked)
    free = masked.sum() - leading.sum()
    # A row with a single bit left in it says what that bit is.
    single = jax.lax.population_count(rows).sum(1) == 1
    told = _unpack(rows, length) & single[:, None]
    one, zero = (told & odd[:, None]).any(0), (told & ~odd[:, None]).any(0)
    impossible = (odd & (rows == 0).all(1)).any()
    return free, jnp.stack([~one, ~zero], axis=1), impossible

  def log_prob(allowed):
    free, _, impossible = solve(allowed)
    log_p = jnp.log(2.0) * (free - dimension)
    return jnp.where(impossible, -jnp.inf, log_p)

  def log_joint(allowed):
    _, left, impossible = solve(allowed)
    return messages.known(allowed & left & ~impossible)

  def sample(key, n):
    bits = jax.random.bits(key, (n, length)) & 1 == 1
    drawn = _pack(bits & ~leading)
    parity = jax.lax.population_count(rows & drawn[:, None]).sum(-1) % 2 == 1
    first = _unpack(rows, length) & leading  # each row's leading bit
    told = (parity[:, :, None] & first).any(1)
    return jnp.where(leading, told, bits).astype(jnp.int32)

  def entropy():
    return dimension * jnp.log(2.0)

  return lift(2, length, sample, log_prob, log_joint, entropy)


def random_code(key: Array, length: int, checks: int, weight: int) -> World:
  """A code whose checks touch `weight` positions each, drawn at random.

  With weight >= 3 no check ties one pair; sums of several checks may.

  Raises:
    ValueError: a check with more positions than there are.
  """
  inputs.sizes(length=length, checks=checks)
  if whole('weight', weight, 1) > length:
    raise ValueError(
      f'a check over {weight} positions: weight must lie in [1, {length}], '
      'the number of positions.'
    )
  touched = jnp.broadcast_to(jnp.arange(length) < weight, (checks, length))
  key = rows.as_key(key)
  return code(jax.random.permutation(key, touched, axis=1, independent=True))


def _eliminate(checks, ones, masked):
  """Gauss-Jordan elimination of the masked columns, left to right.

  Args:
    checks: (R, L) bool.
    ones: (L,) bool, the observed positions that hold a 1.
    masked: (L,) bool.

  Returns:
    rows: (R, ceil(L / 32)) uint32, the masked columns of the reduced checks:
      the bits of each row xor to its entry of odd.
    odd: (R,) bool.
    leading: (L,) bool, the columns of the rows' leading bits; every such bit
      is in one row only.
  """
  odd = (checks & ones).sum(1) % 2 == 1
  index = jnp.arange(checks.shape[0])

  def step(state, column):
    rows, odd, used = state
    word = jax.lax.dynamic_index_in_dim(
      rows, column // 32, axis=1, keepdims=False
    )
    has = (word >> (column % 32).astype(jnp.uint32)) & 1 == 1
    found = (has & ~used).any()
    pivot = found & (index == jnp.argmax(has & ~used))
    hit = has & ~pivot & found
    row = jnp.where(pivot[:, None], rows, 0).sum(0, dtype=jnp.uint32)
    rows ^= jnp.where(hit[:, None], row, 0)
    odd ^= hit & (pivot & odd).any()
    return (rows, odd, used | pivot), found

  start = _pack(checks & masked), odd, jnp.zeros_like(odd)
  (rows, odd, _), leading = jax.lax.scan(
    step, start, jnp.arange(checks.shape[1])
  )
  return rows, odd, leading


def _pack(bits):
  """(..., L) bool -> (..., ceil(L / 32)) uint32, lowest bit first."""
  spare = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 32)]
  words = jnp.pad(bits, spare).reshape(*bits.shape[:-1], -1, 32)
  places = jnp.arange(32, dtype=jnp.uint32)
  return (words.astype(jnp.uint32) << places).sum(-1, dtype=jnp.uint32)


def _unpack(words, length):
  """The inverse of _pack."""
  bits = words[..., None] >> jnp.arange(32, dtype=jnp.uint32) & 1 == 1
  return bits.reshape(*words.shape[:-1], -1)[..., :length]
