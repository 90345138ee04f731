"""PUNT's rank codes (Azangulov et al. 2025, Algorithm 1), integers only.

https://arxiv.org/abs/2510.21961

The m masked positions of a row, ranked 0 (surest) to m - 1, get codes of
bit_count(m) bits. In each round one bit splits them: side 0 is shown, side 1
is tested. Rank 0 has the code 0, so it is never tested.
"""

import jax
import jax.numpy as jnp
from jax import Array


def bit_count(count: Array) -> Array:
  """ceil(log2(count)), 0 for count <= 1; any shape, int32."""
  rest = jnp.maximum(count - 1, 0).astype(jnp.int32)
  return 32 - jax.lax.clz(rest)


def code(rank: Array, count: Array, kind: str = 'plain') -> Array:
  """Codes (..., L) of ranks (..., L) when count (...) positions are masked.

  'plain' writes the rank itself in binary, so a count that is no power of two
  splits unevenly (5 = 4 + 1); 'balanced' spreads the ranks over all codes,
  floor(rank * 2^bits / count), which halves like the paper's recursion.
  """
  if kind == 'plain':
    return rank
  count = count[..., None]
  return (rank << bit_count(count)) // jnp.maximum(count, 1)


def tested(
  codes: Array, count: Array, round_: Array, first: str = 'msb'
) -> Array:
  """Side 1 of a round: (..., L) bool. Each row counts from its own top bit."""
  last = bit_count(count) - 1
  bit = last - round_ if first == 'msb' else round_
  return (codes >> jnp.clip(bit, 0, 31)[..., None]) & 1 == 1
