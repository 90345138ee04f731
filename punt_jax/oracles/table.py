"""Any joint distribution, as a table of V ** L log-weights."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, rows
from punt_jax.oracles import inputs
from punt_jax.oracles.sums import fold, offset
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike

MOST = 2**24  # canvases


def table(log_joint: ArrayLike) -> World:
  """The distribution with probabilities proportional to exp(log_joint).

  Two bits, equal in three of four canvases:

  >>> world = table(jnp.log(jnp.array([[3.0, 1.0], [1.0, 3.0]])))
  >>> [round(float(p), 3) for p in jnp.exp(world.logits(jnp.array([0, 2]))[1])]
  [0.75, 0.25]

  Args:
    log_joint: (V,) * L nats, log-weights of any scale, -inf where a canvas is
      impossible.

  Raises:
    ValueError: the axes differ in size, so there is no vocabulary; or what
      inputs.log_weights says.
  """
  log_joint = checks.array('log_joint', log_joint)
  shape = np.shape(log_joint)
  if not shape or len(set(shape)) != 1 or not shape[0]:
    raise ValueError(
      f'a table has L axes of the same size V, got shape {shape}.'
    )
  if log_joint.size > MOST:
    raise ValueError(
      f'a table of {log_joint.size} canvases is too large: at most 2 ** 24'
    )
  length, vocab = len(shape), shape[0]
  log_joint = inputs.log_weights('log_joint', log_joint, whole=True)
  joint = jnp.exp(log_joint - offset(log_joint.max()))
  joint = joint / joint.sum()

  def sample(key, n):
    cell = jax.random.choice(key, joint.size, (n,), p=joint.ravel())
    tokens = jnp.stack(jnp.unravel_index(cell, joint.shape), axis=-1)
    return tokens.astype(jnp.int32)

  def restrict(allowed):
    """The table with zeros where a canvas is not allowed."""
    weights = joint
    for axis, row in enumerate(allowed):
      others = [i for i in range(length) if i != axis]
      weights = weights * jnp.expand_dims(row, others)
    return weights

  return lift(
    vocab,
    length,
    sample,
    log_prob=lambda allowed: jnp.log(
      _sum_out(restrict(allowed), range(length))
    ),
    log_joint=lambda allowed: jnp.log(_marginals(restrict(allowed))),
    entropy=lambda: jax.scipy.special.entr(joint).sum(),
  )


def random_table(key: Array, length: int, vocab: int) -> World:
  """A table of log-normal weights: every position depends on all others.

  Raises:
    ValueError: more than 2 ** 24 canvases.
  """
  inputs.sizes(length=length, vocab=vocab)
  if length * math.log2(vocab) > math.log2(MOST) or length > 32:
    raise ValueError(
      f'a table of {vocab} ** {length} canvases is too large: at most 2 ** 24'
    )
  return table(jax.random.normal(rows.as_key(key), (vocab,) * length))


def _sum_out(weights, axes):
  for axis in sorted(axes, reverse=True):
    weights = fold(weights, axis)
  return weights


def _marginals(weights):
  """(V,) * L weights -> (L, V): the sums over all axes but one.

  Halving the axes again and again costs O(V ** L) additions in all.
  """
  length = weights.ndim
  if length == 1:
    return weights[None]
  half = length // 2
  left = _sum_out(weights, range(half, length))
  right = _sum_out(weights, range(half))
  return jnp.concatenate([_marginals(left), _marginals(right)])
