"""Euler steps of masked diffusion in continuous time.

The rate at which a masked position is written at time t, times the length of a
time step. Costs what `ancestral` costs: at most min(T, L) forward passes.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks
from punt_jax.leap import PATHS, leap
from punt_jax.types import Sampler, Scalar


def euler(steps: Scalar, path: str = 'linear') -> Sampler:
  """Writes each masked position with probability rate / T, at most 1.

  The rate is -alpha'(t) / (1 - alpha(t)); on the linear path this is
  `ancestral`. The last time step writes all that is left.

  Never exact: positions of one time step are drawn independently, as in
  `ancestral`.

  Args:
    steps: T >= 1 time steps.
    path: see `ancestral`.

  Raises:
    ValueError: steps out of range, or an unknown path.
  """
  level = PATHS[checks.known('path', path, PATHS)]

  def rates(t, s, sure, committed):
    del s, sure, committed
    return jnp.minimum(jax.grad(level)(t) / level(t) / steps, 1.0), 0.0

  return leap(steps, rates)
