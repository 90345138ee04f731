"""A stretch of positions of each row, by its indices on the canvas.

Positions are counted among the valid ones, so that padding does not matter.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def positions(valid: Array) -> Array:
  """(B, L) int32: index among the valid positions."""
  return jnp.cumsum(valid, -1, dtype=jnp.int32) - 1


def indices(valid: Array, start: Array, width: int) -> Array:
  """Where the `width` positions from `start` (B,) lie: (B, width) int32.

  L where the row has no such position.
  """
  wanted = start[:, None] + jnp.arange(width, dtype=jnp.int32)
  find = jax.vmap(lambda have, want: jnp.searchsorted(have, want, 'left'))
  found = find(positions(valid), wanted).astype(jnp.int32)
  return jnp.where(wanted < 0, valid.shape[-1], found)


def take(x: Array, index: Array, axis: int = 1, fill: Any = 0) -> Array:
  """x (B, ..., L, ...) at index (B, W) of an axis; `fill` where that is L."""
  one = lambda x, i: jnp.take(x, i, axis - 1, mode='fill', fill_value=fill)
  return jax.vmap(one)(x, index)


def put(x: Array, index: Array, new: Array) -> Array:
  """x (B, ..., L) with new (B, ..., W) at index (B, W)."""
  one = lambda x, i, new: x.at[..., i].set(new, mode='drop')
  return jax.vmap(one)(x, index, new)
