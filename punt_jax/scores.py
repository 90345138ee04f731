"""Reductions over the vocabulary: (..., V) float32 log-probabilities -> (...).

Entropies and divergences are in nats, and p = 0 contributes 0, so a support
that was cut (banned ids, top-p) gives no NaN. A divergence whose second
argument lacks mass that the first one has is +inf for `kl`; `jsd` and `tv` are
bounded by log 2 and 1. NaN stays NaN.
"""

import jax.numpy as jnp
from jax import Array


def confidence(logp: Array) -> Array:
  """The largest probability."""
  return jnp.exp(logp.max(-1))


def margin(logp: Array) -> Array:
  """Largest minus second largest probability; 1 if V = 1."""
  best = logp.argmax(-1, keepdims=True)
  rest = jnp.where(jnp.arange(logp.shape[-1]) == best, -jnp.inf, logp)
  return jnp.exp(logp.max(-1)) - jnp.exp(rest.max(-1))


def entropy(logp: Array) -> Array:
  """Shannon entropy."""
  return -_expect(logp, logp)


def log_prob(logp: Array, token: Array) -> Array:
  """Log-probability of token (...)."""
  return jnp.take_along_axis(logp, token[..., None], -1)[..., 0]


def kl(before: Array, after: Array) -> Array:
  """KL(before || after), never negative."""
  return jnp.maximum(_expect(before, before - after), 0.0)


def tv(before: Array, after: Array) -> Array:
  """Total variation, half the L1 distance."""
  return 0.5 * jnp.abs(jnp.exp(before) - jnp.exp(after)).sum(-1)


def jsd(before: Array, after: Array) -> Array:
  """Jensen-Shannon divergence."""
  middle = jnp.logaddexp(before, after) - jnp.log(2.0)
  return 0.5 * (kl(before, middle) + kl(after, middle))


def _expect(logp, value):
  """Mean of value under exp(logp); outcomes of probability 0 count as 0."""
  return jnp.where(jnp.isneginf(logp), 0.0, jnp.exp(logp) * value).sum(-1)
