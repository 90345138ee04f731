"""DUS: a fixed comb, coarse to fine (https://arxiv.org/abs/2506.19037).

About log_base(N) forward passes for N open positions. The paper works in
blocks: blocks(dilated(base), length).
"""

import jax.numpy as jnp

from punt_jax import checks
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def dilated(base: Scalar = 2.0) -> Sampler:
  """Round t writes every floor(N / base^t)-th open position, then the rest.

  Never exact but on worlds where spacing is independence: positions are
  written together whatever the model says.

  Args:
    base: > 1; 2, 3 and 4 in the paper.

  Raises:
    ValueError: base <= 1 or NaN.
  """
  checks.in_range('base', base, above=1)

  def rule(key, view):
    del key
    length = view.open.sum()
    index = jnp.cumsum(view.open) - 1
    gap = jnp.floor(length / jnp.asarray(base, jnp.float32) ** (view.step + 1))
    chosen = view.masked & (index % jnp.maximum(gap, 1).astype(int) == 0)
    return jnp.where(chosen.any(), chosen, view.masked)

  return from_rule(rule)
