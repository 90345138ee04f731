"""Rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864), on
halves, and how checkpoints stretch them: YaRN (Peng et al., 2023,
https://arxiv.org/abs/2309.00071) and a scale of the queries.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from punt_jax.types import Array


class Yarn(NamedTuple):
  """Slow rotations are slowed down by `factor`, fast ones are kept."""

  factor: float
  original: int  # positions that the model was first trained on
  fast: float = 32.0  # turns within them from which on a rate is kept
  slow: float = 1.0  # turns up to which it is divided by `factor`
  amplitude: float = 1.0  # of cos and sin, see `amplitude`
  whole: bool = True  # whether the ramp between begins and ends at whole rates


class Rope(NamedTuple):
  """How queries and keys turn."""

  theta: float = 10000.0  # base
  fraction: float = 1.0  # leading part of a head that turns
  yarn: Yarn | None = None
  query: tuple[float, int] | None = None  # (beta, n): queries are multiplied by
  # 1 + beta ln(1 + floor(position / n))


PLAIN = Rope()


def amplitude(
  factor: float, scale: float | None = None, all_dim: float | None = None
) -> float:
  """YaRN's attention factor from a config's mscale and mscale_all_dim."""
  of = lambda m: 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0
  return of(scale) / of(all_dim) if scale and all_dim else of(1.0)


def rates(rope: Rope, size: int) -> np.ndarray:
  """(n / 2,) float32 radians per position of the n features that turn.

  Args:
    rope: Rope.
    size: of a head.
  """
  turned = int(size * rope.fraction)
  half = turned // 2
  kept = np.float32(rope.theta) ** (-np.arange(half, dtype=np.float32) / half)
  if rope.yarn is None:
    return kept
  factor, original, fast, slow, _, whole = rope.yarn
  # The pair of features that makes so many turns.
  pair = lambda turns: (
    turned * math.log(original / (turns * 2 * math.pi))
    / (2 * math.log(rope.theta))
  )
  low, high = pair(fast), pair(slow)
  if whole:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, turned - 1)
  ramp = (np.arange(half) - low) / (high - low or 1e-3)
  slowed = np.clip(ramp, 0, 1)
  return (kept * (1 - slowed + slowed / factor)).astype(np.float32)


def rotate(x: Array, position: Array, rope: Rope = PLAIN) -> Array:
  """x (N, L, H, K) turned by position (N, L), float32."""
  rate = rates(rope, x.shape[-1])
  angle = position[:, :, None, None] * rate
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  if rope.yarn is not None:
    cos, sin = cos * rope.yarn.amplitude, sin * rope.yarn.amplitude
  a, b, rest = jnp.split(
    x.astype(jnp.float32), (len(rate), 2 * len(rate)), -1
  )
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


def rotate_query(x: Array, position: Array, rope: Rope) -> Array:
  """`rotate`, and the scale of queries."""
  turned = rotate(x, position, rope)
  if rope.query is None:
    return turned
  beta, period = rope.query
  scale = 1 + beta * jnp.log(1.0 + position // period)
  return turned * scale[:, :, None, None]
