"""Gated MLPs, each for its own rows: the arithmetic of a mixture of experts.

The K choices of T tokens are T K rows, sorted by expert. A TPU has a product
for that, jax.lax.ragged_dot. Elsewhere XLA makes it a product of all rows with
all experts (0.10), so a loop goes from expert to expert and multiplies its own
rows alone, and what fills the last tile of them. A GPU takes ragged_dot for few
rows, where reading the experts is the work.

Where experts are split over the devices of a mesh's axis AXIS, each device
computes the rows of its own, and one sum brings them together.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from punt_jax.models.sharding import AXIS
from punt_jax.types import Array

Weights = tuple[Array, Array, Array]
TILES = 8, 32, 48, 64, 96, 128  # rows that are multiplied at once
START = 16  # rows that a tile costs besides its own
MOST = 256  # rows of an expert before its weights are read again
CACHED = 2**17  # weights that a CPU's cache holds: 512 KiB
DENSE = 2**30  # numbers of all rows for all experts: 2 GiB


def mixture(x: Array, chosen: Array, weights: Array, mlps: Weights) -> Array:
  """The weighted sum of every token's experts.

  Memory: two arrays of T K rows of width D.

  Args:
    x: (T, D).
    chosen: (T, K) int32 in [0, E).
    weights: (T, K) float32.
    mlps: gate (E, I, D), up (E, I, D), down (E, D, I).

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
    return jax.lax.psum(_mixture(x, chosen - first, weights, mlps), AXIS)

  return jax.shard_map(
    share, in_specs=(whole, whole, whole, split), out_specs=whole,
    axis_names={AXIS}, check_vma=False,
  )(x, chosen, weights, mlps)


def _mixture(x, chosen, weights, mlps):
  """mixture; an expert outside of [0, E) gives 0."""
  experts, width = len(mlps[0]), x.shape[1]
  ours = (chosen >= 0) & (chosen < experts)
  expert = jnp.where(ours, chosen, experts).ravel()
  order = jnp.argsort(expert)
  ends = (expert[:, None] <= jnp.arange(experts)).sum(0)
  gpu = _ragged if len(order) * experts * width <= DENSE else _tiled(2**31)
  y = jax.lax.platform_dependent(
    x, order // chosen.shape[1], ends, mlps,
    tpu=_ragged, cuda=gpu, rocm=gpu, default=_tiled(CACHED),
  )
  y = y[jnp.argsort(order).reshape(chosen.shape)]
  return jnp.einsum(
    'tkd,tk->td', jnp.where(ours[:, :, None], y, 0), weights,
    preferred_element_type=jnp.float32,
  )


def _mlp(x, mlp, dot):
  gate, up, down = mlp
  h = jax.nn.silu(dot(x, gate)) * dot(x, up)
  return dot(h.astype(x.dtype), down).astype(x.dtype)


def _dot(x, matrix):
  """(S, D), (I, D) -> (S, I) float32."""
  return jnp.einsum('sd,id->si', x, matrix, preferred_element_type=jnp.float32)


def _ragged(x, token, ends, mlps):
  """The rows' MLPs: token (R,), sorted by expert, ends (E,) -> (R, D)."""
  numbers = jax.lax.RaggedDotDimensionNumbers(
    (((1,), (2,)), ((), ())), lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[0],
  )
  dot = lambda x, matrix: jax.lax.ragged_dot_general(
    x, matrix, jnp.diff(ends, prepend=0), numbers,
    preferred_element_type=jnp.float32,
  )
  return _mlp(x[token], mlps, dot)


def _tiled(cached):
  """_ragged as a loop, with some `cached` numbers of an expert at a time."""
  run = jax.custom_vjp(functools.partial(_forward, cached))
  run.defvjp(lambda *inputs: (run(*inputs), inputs), _backward)
  return run


def _tiles(tokens, rows, experts):
  """Sizes of tiles, none much longer than an expert's rows are on average."""
  sizes = [min(x, tokens) for x in TILES if x * experts <= 2 * rows]
  return sorted(set(sizes)) or [min(TILES[0], tokens)]


def _next(ends, start, most):
  """The expert of row `start`, and the end of at most so many of its rows."""
  expert = (ends <= start).sum()
  return expert, jnp.minimum(ends[expert], start + most)


def _forward(cached, x, token, ends, mlps):
  """What a tile writes too far, the next expert writes again."""
  gate, up, down = mlps
  sizes = _tiles(len(x), len(token), len(gate))
  rows = x[jnp.pad(token, (0, sizes[-1]))]

  def run(size, start, tiles, expert, out, h):
    part = lambda x, row: jax.lax.dynamic_slice_in_dim(x, row, size)

    def inward(own, at, i, h):
      x = part(rows, start + i * size)
      y = jax.nn.silu(_dot(x, own[0])) * _dot(x, own[1])
      return jax.lax.dynamic_update_slice(h, y.astype(h.dtype), (i * size, at))

    def outward(own, at, i, out):
      y = _dot(part(h, i * size), own[0]).astype(out.dtype)
      return jax.lax.dynamic_update_slice(out, y, (start + i * size, at))

    h = _pieces(cached, (gate, up), expert, tiles, inward, h)
    return _pieces(cached, (down,), expert, tiles, outward, out), h

  def step(state):
    start, out, h = state
    expert, end = _next(ends, start, MOST)
    tiles = [-(-(end - start) // size) for size in sizes]
    costs = [n * (size + START) for n, size in zip(tiles, sizes, strict=True)]
    best = jnp.array(costs).argmin()
    for i, size in enumerate(sizes):  # a branch would copy `out`
      count = jnp.where(best == i, tiles[i], 0)
      out, h = run(size, start, count, expert, out, h)
    return end, out, h

  h = jnp.zeros((MOST + sizes[-1], gate.shape[1]), x.dtype)
  state = jnp.zeros((), ends.dtype), jnp.zeros_like(rows), h
  state = jax.lax.while_loop(lambda s: s[0] < ends[-1], step, state)
  return state[1][:len(token)]


def _pieces(cached, matrices, expert, tiles, body, out):
  """Runs over an expert's matrices (E, I, D) and, inside, over the tiles.

  Args:
    cached: numbers of a piece of a matrix.
    matrices: of equal shapes.
    expert: whose.
    tiles: how many.
    body: (pieces (some, D), the first one's row, tile, out) -> out.
    out: what is carried.
  """
  _, total, width = matrices[0].shape
  some = min(total, -(-cached // width))

  def piece(i, out):
    at = i * some  # slices that reach too far are moved back, all alike
    own = [
      jax.lax.dynamic_slice(x, (expert, at, 0), (1, some, width))[0]
      for x in matrices
    ]
    return jax.lax.fori_loop(0, tiles, functools.partial(body, own, at), out)

  pieces = jnp.where(tiles > 0, -(-total // some), 0)
  return jax.lax.fori_loop(0, pieces, piece, out)


def _backward(inputs, slope):
  """Gradients, an expert's tile at a time; hidden rows are computed again."""
  x, token, ends, mlps = inputs
  size = _tiles(len(x), len(token), len(mlps[0]))[-1]
  token = jnp.pad(token, (0, size))
  slope = jnp.pad(slope, ((0, size), (0, 0)))

  def step(state):
    start, rows, total = state
    expert, end = _next(ends, start, size)
    some = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size)
    here = start + jnp.arange(size) < end
    mlp = jax.tree.map(lambda x: x[expert], mlps)
    _, pull = jax.vjp(functools.partial(_mlp, dot=_dot), x[some(token)], mlp)
    row, part = pull(jnp.where(here[:, None], some(slope), 0))
    rows = jax.lax.dynamic_update_slice_in_dim(rows, row, start, 0)
    add = lambda total, part: total.at[expert].add(part)
    return end, rows, jax.tree.map(add, total, part)

  zeros = jnp.zeros_like(slope), jax.tree.map(jnp.zeros_like, mlps)
  state = jnp.zeros((), ends.dtype), *zeros
  state = jax.lax.while_loop(lambda s: s[0] < ends[-1], step, state)
  _, rows, total = state
  done = jnp.arange(len(rows)) < ends[-1]  # what is behind was written too far
  rows = jnp.where(done[:, None], rows, 0)
  return jnp.zeros_like(x).at[token].add(rows), None, None, total
