"""Frechet profile rule of Fast-dLLM++ (https://arxiv.org/abs/2606.02955).

The factor rule of Fast-dLLM looks at the least sure position of a set; this one
at all of them, and writes at least as many as factor(1 - delta). One pass per
step.
"""

import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def frechet(delta: Scalar = 0.25) -> Sampler:
  """Writes the n surest, n the largest with L_n - U_n > delta, n >= 1.

  With confidences c_1 >= c_2 >= ..., L_n = max(0, 1 - sum of 1 - c_j over j <=
  n) is the least probability that the most likely tokens of the n surest can
  have together, whatever their dependence (Frechet), and U_n = 1 - c_n the most
  that any other n tokens can have.

  Args:
    delta: margin in units of probability, >= -1; 0.25 is the paper's. From 1
      on it writes one by one, at -1 everything.

  Raises:
    ValueError: delta < -1 or NaN.
  """
  checks.in_range('delta', delta, -1)

  def rule(key, view):
    del key
    rank = select.rank(view.confidence, view.masked)
    doubt = 1 - jnp.where(view.masked, view.confidence, 0.0)
    doubt = select.by_rank(doubt, rank)
    least = jnp.maximum(1 - jnp.cumsum(doubt), 0.0)
    return rank < select.prefix(least - doubt > delta, view.masked)

  return from_rule(rule, exact=dict(delta=1.0))
