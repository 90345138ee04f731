"""Count schedules, and PUNT's epsilon.

A count schedule is a function (step, total, left) -> count of scalars: steps
since the start (of the block), positions masked at the start, positions masked
now. An epsilon schedule is a function of the masked fraction left / total.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax.checks import in_range, known, shown
from punt_jax.types import Array, ArrayLike, CountFn, EpsilonFn, Scalar

SLACK = 1e-4  # so that a whole number rounded down in float32 stays whole
SCHEMES = ('dtc', 'tc')


def even(steps: Scalar) -> CountFn:
  """total // steps each, one more in the first total % steps (LLaDA)."""
  in_range('steps', steps, 1)

  def count(step, total, left):
    del left
    return total // steps + (step < total % steps)

  return count


def cosine(steps: Scalar) -> CountFn:
  """floor(total cos(pi/2 t/steps)) stay masked, as in MaskGIT.

  https://arxiv.org/abs/2202.04200
  """
  in_range('steps', steps, 1)

  def count(step, total, left):
    t = jnp.minimum((step + 1) / steps, 1.0)
    return left - jnp.floor(total * jnp.cos(jnp.pi / 2 * t) + SLACK)

  return count


def arccos(steps: Scalar) -> CountFn:
  """Halton scheduler: max(t, floor(total (1 - 2/pi arccos(t/steps)))) done."""
  in_range('steps', steps, 1)

  def count(step, total, left):
    t = jnp.minimum((step + 1) / steps, 1.0)
    done = jnp.floor(total * (1 - 2 / jnp.pi * jnp.arccos(t)) + SLACK)
    return jnp.maximum(done, step + 1) - (total - left)

  return count


def listed(sizes: ArrayLike) -> CountFn:
  """sizes[j] positions at step j, (K,) numbers >= 0, traced or not.

  Made for n = sum(sizes) open positions. On a canvas with another number the
  list is stretched: round(total N_j / n) are written after step j, where N_j is
  the sum of the first sizes up to j. A step that would write nothing is left
  out, so it costs no forward pass and there may be fewer than K steps.

  Raises:
    ValueError: a size is negative or not finite, or all are 0.
  """
  in_range('sizes', sizes, 0, 2**24, shape=None)
  if np.ndim(sizes) != 1:
    raise ValueError(
      f'sizes must be a list (K,) of numbers, got {shown(sizes)}'
    )
  if not isinstance(sizes, Tracer) and not np.sum(sizes) > 0:
    raise ValueError('sizes must hold a number above 0: there is nothing to do')
  marks = jnp.cumsum(jnp.asarray(sizes, jnp.float32))

  def count(step, total, left):
    del step
    written = jnp.floor(total * marks / marks[-1] + 0.5)
    return following(written, total - left)

  return count


def following(marks: Array, done: Array) -> Array:
  """How many to write to reach the first of marks (K,) above `done`.

  The last mark is the total, so there is one while anything is masked.
  """
  return jnp.where(marks > done, marks, marks[-1]).min() - done


def geometric(steps: Scalar, scheme: str = 'dtc') -> CountFn:
  """K = steps blocks whose sizes grow ('dtc') or shrink ('tc') by one factor.

  See geometric_marks. Never an empty block; one by one if steps >= total.

  Raises:
    ValueError: steps < 1 or NaN, or an unknown scheme.
  """
  in_range('steps', steps, 1)
  known('scheme', scheme, SCHEMES)

  def count(step, total, left):
    done = jnp.floor(geometric_marks(step + 1, total, steps, scheme) + 0.5)
    return done - (total - left)

  return count


def geometric_marks(
  blocks: Scalar, total: Scalar, steps: Scalar, scheme: str
) -> Array:
  """Positions written after so many blocks of the geometric schedule.

  Schedules of this kind, which reach an error of order TC / K or DTC / K up to
  logarithms without knowing more of the distribution than which of the two is
  small, are Chen, Cong, Li https://arxiv.org/abs/2511.04647's; the published
  forms are not certain to us, and this one is ours. 'dtc': sizes 1, r, r^2, ...
  r^(K - 1), a share of what is known, for distributions in which a few tokens
  explain the rest. 'tc': the same backwards, a share of what is left, for
  distributions in which dependence shows only when much is known. Since a block
  from N has r - 1 times N positions and one more, its error is at most (r - 1)
  times its share of DTC; backwards at most (1 - 1/r) times its share of TC
  (`guarantee` says so of any sizes).

  Args:
    blocks: how many blocks, any shape.
    total: positions in all.
    steps: K >= 1, rounded down; more than `total` means `total`. The sizes sum
      to the total, so K = 1 is one block of everything.
    scheme: 'dtc' or 'tc'.

  Returns:
    float32 in [0, total], like `blocks`, not rounded: the first and the last
    mark are whole.
  """
  steps = jnp.clip(jnp.floor(steps + SLACK), 1, jnp.maximum(total, 1))
  blocks = jnp.clip(blocks, 0, steps)
  rate = _log_ratio(total, steps)
  share = lambda j: jnp.expm1(rate * j) / jnp.expm1(rate * steps)
  if scheme == 'dtc':
    return total * share(blocks)
  return total * (1 - share(steps - blocks))


@jax.jit
def _log_ratio(total, steps):
  """log r >= 0 with 1 + r + ... + r^(steps - 1) = total, by bisection."""
  low = jnp.full(jnp.shape(total), 1e-9)  # not 0: sums are quotients of expm1
  high = jnp.log(jnp.maximum(total, 1.0)) + low

  def halve(_, bounds):
    low, high = bounds
    rate = (low + high) / 2
    above = jnp.expm1(rate * steps) > total * jnp.expm1(rate)
    return jnp.where(above, low, rate), jnp.where(above, rate, high)

  low, high = jax.lax.fori_loop(0, 48, halve, (low, high))
  return jnp.where(steps < total, low, 1e-9)


def linear_epsilon(start: Scalar, end: Scalar) -> EpsilonFn:
  """epsilon goes from start (all masked) to end (none masked) linearly."""
  in_range('start', start)
  in_range('end', end)
  return lambda fraction: end + (start - end) * fraction
