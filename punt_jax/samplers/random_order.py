"""Uniformly random positions, a given number of them at each step.

The sampler of Chen, Cong, Li https://arxiv.org/abs/2511.04647 and Lavenant,
Zanella https://arxiv.org/abs/2510.25544: what it costs is known exactly from
the distribution's information profile, and the sizes that cost least from a
calibration (punt_jax.schedules: estimate_profile, optimal). At most one forward
pass per size.
"""

import numpy as np

from punt_jax import schedules, select
from punt_jax.sampler import any_of, from_rule
from punt_jax.types import ArrayLike, Sampler


def random_order(sizes: ArrayLike) -> Sampler:
  """Writes sizes[j] random masked positions at step j.

  That is uniform(schedules.listed(sizes)). Exact if all sizes are 1 and there
  are at least as many as open positions.

  Args:
    sizes: (K,) numbers >= 0 for sum(sizes) open positions, stretched on
      another canvas (see schedules.listed). A size of 0 costs no pass.

  Raises:
    ValueError: a size is negative or not finite, or all are 0.
  """
  size = schedules.listed(sizes)

  def rule(key, view):
    count = select.count_of(size, view)
    return any_of(key, view.position, view.masked, count)

  return from_rule(rule, exact=dict(sizes=np.ones(2**12, np.float32)))
