"""Gated MLPs, each for its own rows: the arithmetic of a mixture of experts.

Rows are sorted by expert. A TPU has jax.lax.ragged_dot for such products. XLA
makes it a product of all rows with all experts elsewhere, so there a loop takes
one expert's rows after the other: N K rows are multiplied, plus what fills the
last tile of an expert. Memory: 2 N K rows of width D.

Where the experts are split over the devices of a mesh's axis AXIS, each device
computes the rows of its own, and one sum brings them together.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from punt_jax.models.sharding import AXIS
from punt_jax.types import Array

TILES = 8, 16, 24, 32, 48, 64, 96, 128, 192, 256  # rows of a product
Weights = tuple[Array, Array, Array]


def mixture(x: Array, chosen: Array, weights: Array, mlps: Weights) -> Array:
  """The weighted sum of every token's experts.

  Args:
    x: (T, D).
    chosen: (T, K) int32 in [0, E), different ones.
    weights: (T, K) float32.
    mlps: gate (E, D, I), up (E, D, I), down (E, I, D).

  Returns:
    (T, D) float32.
  """
  mesh = jax.sharding.get_abstract_mesh()
  parts = dict(mesh.shape).get(AXIS, 1)
  if parts == 1 or len(mlps[0]) % parts:
    return _mixture(x, chosen, weights, mlps)
  whole, split = PartitionSpec(), PartitionSpec(AXIS)

  def share(x, chosen, weights, mlps):
    first = jax.lax.axis_index(AXIS) * len(mlps[0])
    y = _mixture(x, chosen - first, weights, mlps)
    return jax.lax.psum(y, AXIS)

  return jax.shard_map(
    share, in_specs=(whole, whole, whole, split), out_specs=whole,
    axis_names={AXIS}, check_vma=False,
  )(x, chosen, weights, mlps)


def _mixture(x, chosen, weights, mlps):
  """mixture; who chose an expert outside of [0, E) gets 0 for it."""
  experts = len(mlps[0])
  ours = (chosen >= 0) & (chosen < experts)
  expert = jnp.where(ours, chosen, experts).ravel()
  order = jnp.argsort(expert, stable=True)
  sizes = jnp.bincount(expert, length=experts)
  y = jax.lax.platform_dependent(
    x, order // chosen.shape[1], sizes.astype(jnp.int32), mlps,
    tpu=_ragged, default=_tiled,
  )
  back = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))
  y = jnp.where(ours[:, :, None], y[back.reshape(chosen.shape)], 0)
  return jnp.einsum(
    'tkd,tk->td', y, weights, preferred_element_type=jnp.float32
  )


def _ragged(x, token, sizes, mlps):
  """Rows of the MLPs: token (R,), sorted by expert, sizes (E,) -> (R, D)."""
  dot = lambda x, matrix: jax.lax.ragged_dot(
    x, matrix, sizes, preferred_element_type=jnp.float32
  )
  return _mlp(x[token], mlps, dot)


def _mlp(x, mlp, dot):
  gate, up, down = mlp
  h = jax.nn.silu(dot(x, gate)) * dot(x, up)
  return dot(h.astype(x.dtype), down).astype(x.dtype)


_expert = functools.partial(
  _mlp, dot=functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
)


@jax.custom_vjp
def _tiled(x, token, sizes, mlps):
  """_ragged, as a loop over tiles of an expert's rows."""

  def tile(rows, out, at, expert, here):
    y = _expert(x[rows], _of(mlps, expert))
    return _write(out, y, at, here)

  return _loop(tile, token, sizes, jnp.zeros((len(token), x.shape[1]), x.dtype))


def _forward(*inputs):
  return _tiled(*inputs), inputs


def _backward(inputs, slope):
  x, token, sizes, mlps = inputs

  def tile(rows, out, at, expert, here):
    own = jax.lax.dynamic_slice_in_dim(slope, at, len(rows))
    _, pull = jax.vjp(_expert, x[rows], _of(mlps, expert))
    row, mlp = pull(jnp.where(here[:, None], own, 0))
    add = lambda total, part: total.at[expert].add(part)
    return _write(out[0], row, at, here), jax.tree.map(add, out[1], mlp)

  zeros = jnp.zeros((len(token), x.shape[1]), x.dtype)
  rows, total = _loop(
    tile, token, sizes, (zeros, jax.tree.map(jnp.zeros_like, mlps))
  )
  return jnp.zeros_like(x).at[token].add(rows), None, None, total


_tiled.defvjp(_forward, _backward)


def _of(mlps, expert):
  take = functools.partial(
    jax.lax.dynamic_index_in_dim, index=expert, keepdims=False
  )
  return jax.tree.map(take, mlps)


def _write(out, y, at, here):
  """Rows `here` of y (S, D) into out, from row `at`."""
  old = jax.lax.dynamic_slice_in_dim(out, at, len(y))
  new = jnp.where(here[:, None], y, old)
  return jax.lax.dynamic_update_slice_in_dim(out, new, at, 0)


def _loop(tile, token, sizes, out):
  """Runs over the rows, sorted by expert, a tile at a time.

  Args:
    tile: (token (S,), out, at, expert, here (S,) bool) -> out: the rows from
      `at`, of which those `here` are the expert's, and not done before.
    token: (R,) of each row.
    sizes: (E,) rows of each expert.
    out: what is carried.
  """
  ends = jnp.cumsum(sizes)
  tiles = [size for size in TILES if size < len(token)]
  tiles = [*tiles, min(TILES[-1], len(token))]

  def of_size(size):
    def run(start, end, expert, out):
      at = jnp.minimum(start, len(token) - size)
      row = at + jnp.arange(size)
      rows = jax.lax.dynamic_slice_in_dim(token, at, size)
      here = (row >= start) & (row < end)
      return tile(rows, out, at, expert, here)

    return run

  def step(state):
    start, out = state
    expert = jnp.searchsorted(ends, start, side='right')
    end = jnp.minimum(ends[expert], start + tiles[-1])
    fit = jnp.searchsorted(jnp.array(tiles), end - start)
    branches = [of_size(size) for size in tiles]
    return end, jax.lax.switch(fit, branches, start, end, expert, out)

  start = jnp.zeros((), ends.dtype)
  return jax.lax.while_loop(lambda s: s[0] < ends[-1], step, (start, out))[1]
