"""Halton scheduler (Besnier et al., ICLR 2025) on a line.

Positions are written in the order in which the van der Corput sequence (base
2) first visits them, so that those written together are far apart. The counts
follow the paper's arccos. One pass per step.
"""

import jax.numpy as jnp

from punt_jax import bits, checks, schedules, select
from punt_jax.sampler import from_rule
from punt_jax.types import Array, Sampler, Scalar


def halton(steps: Scalar) -> Sampler:
  """Writes the next positions of the low-discrepancy order.

  Args:
    steps: T >= 1 forward passes; with T >= L it writes one by one.

  Raises:
    ValueError: steps < 1 or NaN.
  """
  checks.in_range('steps', steps, 1)
  quota = schedules.arccos(steps)

  def rule(key, view):
    del key
    visit = first_visit(jnp.cumsum(view.open) - 1, view.open.sum())
    rank = select.rank(-visit, view.masked)
    return rank < select.count_of(quota, view)

  return from_rule(rule, exact=dict(steps=2**20))


def first_visit(cell: Array, cells: Array) -> Array:
  """When the van der Corput sequence first falls into a cell of [0, 1).

  Point p of 2^n, 2^n >= cells, is visited at time reverse(p); a cell holds one
  or two of them.

  Args:
    cell: (L,) int32 in [0, cells).
    cells: () int32.
  """
  width = bits.bit_count(cells)
  points = 1 << width
  first = (cell * points + cells - 1) // cells
  second = first + 1
  inside = second * cells < (cell + 1) * points
  times = _reverse(first, width), _reverse(second, width)
  return jnp.where(inside, jnp.minimum(*times), times[0])


def _reverse(number, width):
  """The lowest `width` bits of number (L,) in reverse order."""
  k = jnp.arange(31)
  place = jnp.where(k < width, width - 1 - k, 31)
  bit = (number[:, None] >> k) & 1
  return jnp.where(place < 31, bit << jnp.minimum(place, 30), 0).sum(-1)
