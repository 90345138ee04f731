"""Block sizes drawn at random: nothing of the dependence need be known.

Zhao and Cai, Adaptation to Intrinsic Dependence,
https://arxiv.org/abs/2602.20126: the number of positions written at a step is
random, positions are uniform, and two settings of one scheme have errors of
order TC / K and DTC / K, up to logarithms. Which distribution the paper draws
sizes from, and around which means, is not certain to us: both are ours here.
One forward pass per step, at most `steps`.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, rows, schedules
from punt_jax.sampler import any_of, look, reveal
from punt_jax.types import Array, Sampler, Scalar, Traits

DISTRIBUTIONS = ('uniform', 'poisson', 'rounding')


def random_size(
  steps: Scalar, scheme: str = 'dtc', distribution: str = 'uniform'
) -> Sampler:
  """Writes random positions in blocks of random sizes, drawn anew per row.

  The sizes sum to the number of open positions, and their means are those of
  schedules.geometric_marks. A block of size 0 costs no pass.

  Args:
    steps: K >= 1 blocks; one by one, and exact, if there are at least as many
      as open positions (not with 'poisson').
    scheme: 'dtc' (growing sizes: few tokens explain the rest) or 'tc'
      (shrinking: dependence shows when most is known).
    distribution: 'uniform': a block takes 1 position, and a share of what is
      left beyond 1 for each later block; the share is uniform, on [0, 2 mean]
      or, if the mean is above 1/2, on [2 mean - 1, 1]. 'poisson': each position
      draws its block on its own, with probability mean / total (independent
      Poisson sizes, given their sum); some blocks are empty, and the small ones
      are often too large: the error does not keep falling like 1 / K.
      'rounding': the means, cut to whole numbers at a random phase.

  Raises:
    ValueError: steps < 1 or NaN, an unknown scheme or distribution.
  """
  checks.in_range('steps', steps, 1)
  checks.known('scheme', scheme, schedules.SCHEMES)
  checks.known('distribution', distribution, DISTRIBUTIONS)

  def init(keys, canvas, model):
    del model
    draw = lambda key, total: drawn_marks(
      key, total, canvas.tokens.shape[1], steps, scheme, distribution
    )
    return jax.vmap(draw)(rows.named(keys, 'sizes'), canvas.total)

  def step(keys, t, canvas, marks, memo, model):
    memo, _, view = look(keys, t, canvas, memo, model)
    written = canvas.total - canvas.masked.sum(-1)
    count = jax.vmap(schedules.following)(marks, written)
    kept = jax.vmap(any_of)(
      rows.named(keys, 'rule'), view.position, canvas.masked, count
    )
    return reveal(canvas, view, kept), marks, memo

  exact = dict(steps=2.0**20, distribution='uniform')
  return Sampler(init, step, Traits(exact))


def drawn_marks(
  key: Array, total: Array, length: int, steps: Scalar, scheme: str,
  distribution: str,
) -> Array:
  """(length,) int32: positions written after 1, 2, ... blocks, for one row.

  Args:
    key: of the row.
    total: () int32, at most `length`: masked positions.
    length: L.
    steps, scheme, distribution: see random_size.
  """
  checks.known('distribution', distribution, DISTRIBUTIONS)
  block = jnp.arange(1, length + 1)
  steps = jnp.clip(jnp.floor(steps + schedules.SLACK), 1, total)
  marks = schedules.geometric_marks(block, total, steps, scheme)
  own, phase = jax.random.split(key)
  uniforms = jax.random.uniform(own, (length,))
  if distribution == 'poisson':
    time = jnp.where(block <= total, uniforms * total, total)
    return (time < marks[:, None]).sum(-1, dtype=jnp.int32)
  if distribution == 'uniform':
    marks = _broken(marks, block, total, steps, uniforms)
  # Kept off 0 and 1, where rounding errors of float32 would show.
  phase = 0.001 + 0.998 * jax.random.uniform(phase)
  marks = jnp.where(block < steps, jnp.floor(marks + phase), total)
  return marks.astype(jnp.int32)


def _broken(marks, block, total, steps, uniforms):
  """Marks (L,) of the same means, by breaking a stick.

  A block takes 1 of what is left and later blocks 1 each. What is left beyond
  that is a stick, of which block j leaves a share of mean `share`.
  """
  left = jnp.maximum(total - marks - (steps - block), 0.0)
  before = jnp.concatenate([jnp.maximum(total - steps, 0.0)[None], left[:-1]])
  share = jnp.where(before > 0, left / jnp.maximum(before, 1e-6), 0.0)
  share = jnp.clip(share, 0.0, 1.0)
  share += (2 * uniforms - 1) * jnp.minimum(share, 1 - share)
  return block + before[0] * (1 - jnp.cumprod(share))
