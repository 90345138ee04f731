"""Factor of Fast-dLLM (https://arxiv.org/abs/2505.22618), a pass a step."""

import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def factor(f: Scalar) -> Sampler:
  """Writes the n surest, n the largest with (n + 1)(1 - c_n) < f, n >= 1.

  Args:
    f: >= 0; 0 writes one by one.

  Raises:
    ValueError: f < 0 or NaN.
  """
  checks.in_range('f', f, 0)

  def rule(key, view):
    del key
    rank = select.rank(view.confidence, view.masked)
    sure = select.by_rank(jnp.where(view.masked, view.confidence, 0.0), rank)
    n = jnp.arange(1, sure.shape[0] + 1)
    return rank < select.prefix((n + 1) * (1 - sure) < f, view.masked)

  return from_rule(rule, exact=dict(f=0.0))
