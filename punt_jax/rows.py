"""Pytrees whose leaves have a leading row axis B, and their random keys.

Row r of a job uses fold_in(key, r), step t of that row fold_in(row key, t), a
use inside the step fold_in(step key, name), and a draw at a position
fold_in(that, position). So a row's sample depends on (key, r, its tokens) and
on nothing else: not on the batch, the padding or the devices, as far as the
network's answer does not (in bfloat16 it does: checkpoints.huggingface.load).
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer


def as_key(key: Any) -> Array:
  """A key of jax.random: `key` itself, of a legacy PRNGKey, or of an int.

  An int is below 2 ** 64, and all of it counts: jax.random.key drops what does
  not fit into 32 bits.

  Raises:
    ValueError: it is something else, or several keys.
  """
  if type(key) is int or isinstance(key, np.integer):
    return _key_of(int(key))
  if not isinstance(key, (jax.Array, np.ndarray)):
    raise ValueError(_no_key(key))
  kind, shape = key.dtype, key.shape
  if jnp.issubdtype(kind, jax.dtypes.prng_key):
    if shape:
      raise ValueError(
        f'keys of shape {shape} where one belongs: the rows of a canvas draw'
        ' from one key, each by its number'
      )
    return jnp.asarray(key)
  if kind == np.uint32 and len(shape) == 1:  # jax.random.PRNGKey
    try:
      return jax.random.wrap_key_data(jnp.asarray(key))
    except (TypeError, ValueError):
      raise ValueError(_no_key(key)) from None
  if shape or not jnp.issubdtype(kind, jnp.integer):
    raise ValueError(_no_key(key))
  if isinstance(key, Tracer):
    return jax.random.key(key)
  return _key_of(int(key))


def _no_key(key):
  said = ' '.join(repr(key).split())
  return f'the key {said:.60} is none: give jax.random.key(0), or an int'


def _key_of(seed):
  if not 0 <= seed < 2**64:
    said = seed if seed.bit_length() < 128 else f'of {seed.bit_length()} bits'
    raise ValueError(f'the seed {said} must lie in [0, 2 ** 64)')
  high, low = divmod(seed, 2**32)
  key = jax.random.key(np.uint32(low))
  return jax.random.fold_in(key, np.uint32(high)) if high else key


def pick_rows(chosen: Array, new: Any, old: Any) -> Any:
  """Rows of `new` where chosen (B,) is true, rows of `old` elsewhere."""

  def pick(a, b):
    flag = chosen.reshape(chosen.shape + (1,) * (jnp.ndim(a) - 1))
    return jnp.where(flag, a, b)

  return jax.tree.map(pick, new, old)


def fold_rows(keys: Array, data: Array) -> Array:
  """One key per row: keys (B,) or () folded with data (B,) integers."""
  axis = 0 if keys.ndim else None
  return jax.vmap(jax.random.fold_in, (axis, 0))(keys, data)


def named(key: Array, name: str) -> Array:
  """The key () or keys (B,) of one named use, independent of other names."""
  code = zlib.crc32(name.encode())
  if key.ndim:
    return jax.vmap(lambda k: jax.random.fold_in(k, code))(key)
  return jax.random.fold_in(key, code)


def uniform_at(key: Array, position: Array) -> Array:
  """One uniform (L,) in [0, 1) per position, keyed by the position (L,).

  Element i of a counter-based draw depends on (key, i) alone, whatever L is
  (jax_threefry_partitionable, the default of every jax supported here).
  """
  return jax.random.uniform(key, position.shape)[position]


def gumbel_at(key: Array, position: Array) -> Array:
  """Standard Gumbel noise (L,), keyed like `uniform_at`."""
  return -jnp.log(-jnp.log(jnp.maximum(uniform_at(key, position), 1e-12)))
