"""Independent positions: the world where parallel sampling costs nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks
from punt_jax.oracles import inputs
from punt_jax.oracles.sums import fold, log_sum_exp, normalize
from punt_jax.oracles.world import World, lift
from punt_jax.types import ArrayLike


def product(log_p: ArrayLike) -> World:
  """Independent positions, each proportional to exp(log_p).

  Two bits, the first of them surer:

  >>> world = product(jnp.log(jnp.array([[9.0, 1.0], [5.0, 5.0]])))
  >>> round(float(jnp.exp(world.log_prob(jnp.array([0, 0])))), 3)
  0.45

  Args:
    log_p: (L, V) nats, unnormalized log-weights, -inf for tokens that are
      impossible at a position.

  Raises:
    ValueError: it is no matrix, a position has no possible token, or what
      inputs.log_weights says.
  """
  log_p = checks.array('log_p', log_p)
  if np.ndim(log_p) != 2 or 0 in np.shape(log_p):
    raise ValueError(
      f'a product takes (L, V) log-weights, got shape {np.shape(log_p)}.'
    )
  length, vocab = np.shape(log_p)
  log_p = inputs.log_weights('log_p', log_p)
  inputs.possible('log_p', log_p)
  log_p, _ = normalize(log_p)

  def sample(key, n):
    tokens = jax.random.categorical(key, log_p, shape=(n, length))
    return tokens.astype(jnp.int32)

  def known(allowed):
    return jnp.where(allowed, log_p, -jnp.inf)

  def log_prob(allowed):
    return fold(log_sum_exp(known(allowed)))

  def log_joint(allowed):
    return known(allowed) + log_prob(allowed)

  def entropy():
    return jax.scipy.special.entr(jnp.exp(log_p)).sum()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)

