"""Sums whose order of additions does not depend on the batch around them.

XLA may reduce an axis in another order when the batch has another size, and
float32 sums then differ in the last bit. Here an axis is folded in halves by
elementwise additions, which are the same for every batch: a row's conditionals
are equal to the bit whatever rows stand beside it.
"""

import jax
import jax.numpy as jnp

from punt_jax.types import Array


def fold(x: Array, axis: int = -1) -> Array:
  """The sum over one axis, log2(size) additions deep."""
  x = jnp.moveaxis(x, axis, 0)
  while (size := x.shape[0]) > 1:
    half = size // 2
    pairs = x[:half] + x[half : 2 * half]
    x = jnp.concatenate([pairs, x[2 * half :]])
  return x[0]


def log_sum_exp(x: Array, axis: int = -1) -> Array:
  """log(sum(exp(x))) over one axis; -inf where all are -inf."""
  top = offset(x.max(axis, keepdims=True))
  return jnp.squeeze(top, axis) + jnp.log(fold(jnp.exp(x - top), axis))


def normalize(x: Array) -> tuple[Array, Array]:
  """x minus its log_sum_exp over the last axis, which is returned too.

  Where all are -inf they stay -inf.
  """
  total = log_sum_exp(x)
  shift = jnp.where(jnp.isneginf(total), 0.0, total)
  return x - shift[..., None], total


def offset(top: Array) -> Array:
  """Maxima to subtract before exp: 0 where they are -inf.

  They cancel, so they are constants to a derivative. That of a maximum is 0 / 0
  where the compiler computes it twice and rounds differently.
  """
  return jax.lax.stop_gradient(jnp.where(jnp.isneginf(top), 0.0, top))
