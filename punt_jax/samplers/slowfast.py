"""SlowFast Sampling (https://arxiv.org/abs/2506.10848, ICLR 2026).

One pass per step.

A slow phase writes one by one and watches how far the model already has an
opinion; once that is settled, a fast phase fills the span. The authors' cache
is not part of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import look, reveal
from punt_jax.types import Array, Sampler, Scalar, Traits


class Phase(NamedTuple):
  """Per row; `end` counts open positions."""

  end: Array  # (B,) int32: end of the span to fill; 0 in a slow phase
  seen: Array  # (B,) int32: steps of this slow phase
  last: Array  # (B,) int32: the estimate of the step before


def slowfast(
  slow: Scalar = 6.0, reach: Scalar = 0.3, spread: Scalar = 1.0,
  tau: Scalar = 0.9, k: Scalar = 3.0,
) -> Sampler:
  """Explores one by one, then fills the span that was found.

  Slow: writes the surest position, and estimates where the span ends: behind
  the last masked position of confidence >= reach, or behind the first masked
  one. The phase is over when this and the last estimate have a standard
  deviation below `spread` (half their distance), and the span ends at this one;
  or after `slow` steps, and it ends at their mean. Fast: writes everything in
  the span of confidence >= tau, or its k surest. When the span is full, the
  next slow phase begins.

  The defaults are the authors'; their code also writes several sure positions
  in a slow step.

  Args:
    slow: steps of a slow phase at most, >= 1.
    reach: probability.
    spread: open positions, >= 0; 0 ends no slow phase early.
    tau: probability.
    k: at least 1.

  Raises:
    ValueError: a number out of range or NaN.
  """
  checks.in_range('slow', slow, 1)
  checks.in_range('reach', reach, 0)
  checks.in_range('spread', spread, 0)
  checks.in_range('tau', tau, 0)
  select.check_count(k)

  def init(keys, canvas, model):
    del keys, model
    return Phase(*3 * [jnp.zeros_like(canvas.total)])

  def rule(view, phase):
    masked, confidence = view.masked, view.confidence
    place = jnp.cumsum(view.open, dtype=jnp.int32)  # 1, 2, ...
    first = place[masked.argmax()]
    far = jnp.where(masked & (confidence >= reach), place, first).max()
    seen = phase.seen + 1
    again = seen > 1
    settled = again & (jnp.abs(far - phase.last) / 2 < spread)
    mean = jnp.where(again, (far + phase.last) // 2, far)
    exploring = phase.end == 0
    over = settled | (seen >= slow)
    found = jnp.where(over, jnp.where(settled, far, mean), 0)

    span = masked & (place <= phase.end)
    sure = span & (confidence >= tau)
    best = select.rank(confidence, span) < select.count_of(k, view)
    fast = jnp.where(sure.any(), sure, span & best)
    surest = masked & (select.rank(confidence, masked) == 0)
    kept = jnp.where(exploring, surest, fast)

    end = jnp.where(exploring, found, phase.end)
    left = masked & ~kept & (place <= end)
    end = jnp.where(left.any(), end, 0)
    seen = jnp.where(exploring & ~over, seen, 0)
    return kept, Phase(end, seen, far)

  def step(keys, t, canvas, phase, memo, model):
    memo, _, view = look(keys, t, canvas, memo, model)
    kept, phase = jax.vmap(rule)(view, phase)
    return reveal(canvas, view, kept), phase, memo

  return Sampler(init, step, Traits(exact=dict(slow=2.0**20, spread=0.0)))
