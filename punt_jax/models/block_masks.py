"""Who sees whom in a model that is causal over blocks, and in its training.

BD3-LM (Arriola et al., 2025, https://arxiv.org/abs/2503.09573).
"""

import jax.numpy as jnp
import numpy as np

from punt_jax import checks
from punt_jax.types import Array

ATTENTION = 'full', 'block_causal'


def check(attention: str, block_length: int, places: int = 0) -> None:
  """Whether these settings of a Transformer go together.

  Raises:
    ValueError: they do not.
  """
  checks.known('attention', attention, ATTENTION)
  if attention == 'full' and block_length:
    raise ValueError(
      f"block_length = {block_length} is for attention = 'block_causal', and"
      " this is 'full': set both, or block_length = 0"
    )
  if attention != 'full' and block_length < 1:
    raise ValueError(
      f"attention = 'block_causal' and block_length = {block_length}: say how"
      ' many positions a block has'
    )
  if block_length and places % block_length:
    raise ValueError(
      f'places = {places} must be a multiple of block_length = {block_length}'
    )


def positions(length: int, valid: Array | None) -> Array:
  """(N or 1, L) int32: rank among the valid positions."""
  if valid is None:
    return jnp.arange(length)[None]
  return jnp.cumsum(valid, axis=1) - 1


def of_canvas(
  position: Array, valid: Array | None, block_length: int
) -> tuple[Array | None, Array | None]:
  """The mask of a whole canvas, and the block of each position.

  Args:
    position: of `positions`.
    valid: (N, L) bool, or None.
    block_length: 0: there are no blocks.

  Returns:
    (N or 1, 1, L or 1, L) bool, [.., i, j] whether i sees j, or None for all;
    (N or 1, L) int32, or None.
  """
  seen = None if valid is None else valid[:, None, None, :]
  if not block_length:
    return seen, None
  block = position // block_length
  before = (block[:, None] <= block[..., None])[:, None]
  return before if seen is None else before & seen, block


def of_halves(length: int, block_length: int) -> tuple[Array, Array, Array]:
  """The mask of a canvas, noised, and behind it the same, clean.

  A noised position sees the noised ones of its block and the clean ones of
  earlier blocks, a clean one the clean ones of its own and of earlier blocks.

  Args:
    length: L.
    block_length: a divisor of L.

  Returns:
    position (1, 2 L), mask (1, 1, 2 L, 2 L), block (1, 2 L), of which none is
    in both halves.
  """
  position = np.tile(np.arange(length), 2)
  key = np.repeat([False, True], length)  # clean
  query, block = key[:, None], position // block_length
  own, earlier = block == block[:, None], block < block[:, None]
  seen = (key & (earlier | (own & query))) | (own & ~key & ~query)
  apart = block + length * key
  return (
    jnp.asarray(position)[None], jnp.asarray(seen)[None, None],
    jnp.asarray(apart)[None],
  )
