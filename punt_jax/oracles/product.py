"""Independent positions: the world where parallel sampling costs nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from punt_jax.oracles.sums import fold, log_sum_exp, normalize
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array


def product(log_p: Array) -> World:
  """Independent positions, each proportional to exp(log_p), (L, V) nats."""
  length, vocab = log_p.shape
  log_p, _ = normalize(jnp.asarray(log_p, jnp.float32))

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

