"""Schedules: how many positions to write at a step, and PUNT's epsilon.

counts       count schedules, for samplers
information  what is still to be learned of a position once i are known
sizes        what a list of block sizes costs, and which list costs least
"""

from punt_jax.schedules.counts import (
  SCHEMES,
  SLACK,
  arccos,
  cosine,
  even,
  following,
  geometric,
  geometric_marks,
  linear_epsilon,
  listed,
)
from punt_jax.schedules.information import (
  curve,
  dual_total_correlation,
  estimate_profile,
  exact_profile,
  forced_kl,
  grid,
  isotonic,
  teacher_force,
  total_correlation,
)
from punt_jax.schedules.sizes import (
  expected_kl,
  guarantee,
  inverse_root,
  optimal,
  sizes_of,
)

__all__ = [
  'SCHEMES',
  'SLACK',
  'arccos',
  'cosine',
  'curve',
  'dual_total_correlation',
  'estimate_profile',
  'even',
  'exact_profile',
  'expected_kl',
  'following',
  'forced_kl',
  'geometric',
  'geometric_marks',
  'grid',
  'guarantee',
  'inverse_root',
  'isotonic',
  'linear_epsilon',
  'listed',
  'optimal',
  'sizes_of',
  'teacher_force',
  'total_correlation',
]
