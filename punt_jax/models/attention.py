"""Attention of the networks of checkpoints.

What a query sees is two numbers: a key has a position (FAR if it is padding), a
query a reach, the last position that it sees. So full, causal and block-causal
attention are one, and nothing (W, S) is ever stored.
"""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax.types import Array

SCORES = 2**18  # of attention, that a CPU's cache holds: 1 MiB


class Reach(NamedTuple):
  """Key s is seen by query w where position[s] <= reach[w]."""

  position: Array  # (N, S) int32, of the keys; FAR: of none
  reach: Array  # (N, W) int32, of the queries


class Past(NamedTuple):
  """Keys and values that are remembered; row b serves N / B rows of queries."""

  key: Array  # (B, S, G, K)
  value: Array  # (B, S, G, K)
  position: Array  # (B, S) int32
  reach: Array  # (N,) int32, of all queries of a row


def attention(
  q: Array, k: Array, v: Array, mask: Array | Reach | None = None,
  past: Past | None = None,
) -> Array:
  """Softmax attention with float32 scores.

  jax.nn.dot_product_attention, in half precision on a GPU through cuDNN. A CPU
  has its own: less than half the time (experiments/bench/torch_forward.py).

  Args:
    q: (N, W, H, K).
    k: (N, S, G, K), H a multiple of G.
    v: (N, S, G, K).
    mask: (N, S) bool, the keys that are seen, a Reach, or None for all.
    past: further keys and values, never copied.

  Returns:
    (N, W, H K).
  """
  elsewhere = _elsewhere if past is None else _in_two_parts
  return jax.lax.platform_dependent(
    q, k, v, mask, past, cpu=_on_cpu, default=elsewhere
  )


def _elsewhere(q, k, v, mask, past):
  del past  # there is none
  n, window, _, _ = q.shape
  if isinstance(mask, Reach):
    mask = _seen(mask.position, mask.reach)[:, None]
  elif mask is not None:
    shape = n, 1, window, mask.shape[1]
    mask = jnp.broadcast_to(mask[:, None, None], shape)
  y = jax.nn.dot_product_attention(
    q, k, v, mask=mask, implementation='cudnn' if _flash(q) else 'xla'
  )
  return y.reshape(n, window, -1)


def _flash(q):
  """Whether cuDNN has a kernel for it: Ampere or later, half precision."""
  capability = getattr(jax.local_devices()[0], 'compute_capability', '')
  cuda = re.fullmatch(r'\d+\.\d+', str(capability))  # ROCm has names
  fits = q.dtype != jnp.float32 and q.shape[-1] in range(8, 129, 8)
  return bool(cuda) and float(capability) >= 8 and fits


def _seen(position, reach):
  return position[..., None, :] <= reach[..., :, None]


def _in_two_parts(q, k, v, mask, past):
  """Own keys and those of the past, all heads at once."""
  return _attend_all(q, k, v, mask, past, _attend)


def _on_cpu(q, k, v, mask, past):
  """One group of heads after the other, and few queries at a time.

  So scores stay in the processor's cache.
  """
  return _attend_all(q, k, v, mask, past, _few_at_a_time)


def _attend_all(q, k, v, mask, past, attend):
  n, window, _, size = q.shape
  rows = _grouped(q, k.shape[2])
  reach = None
  if isinstance(mask, Reach):
    # Queries of one group stand as (window, heads of the group).
    each = rows.shape[2] // window
    reach, mask = jnp.repeat(mask.reach, each, 1), mask.position
  part = attend(rows, k.swapaxes(1, 2), v.swapaxes(1, 2), mask, reach)
  if past is not None:
    part = _merge(part, _of_past(rows, past, attend))
  y, _, total = part
  y = (y / total).astype(q.dtype)
  y = y.reshape(n, k.shape[2], window, -1, size).swapaxes(1, 2)
  return y.reshape(n, window, -1)


def _grouped(q, groups):
  """(N, W, H, K) -> (N, G, W H / G, K): a group's heads are more queries."""
  n, window, _, size = q.shape
  rows = q.reshape(n, window, groups, -1, size).swapaxes(1, 2)
  return rows.reshape(n, groups, -1, size)


def _of_past(rows, past, attend):
  """The queries (N, G, R, K) of the N / B probes of a row are more queries."""
  n, groups, count, size = rows.shape
  batch = past.key.shape[0]
  probes = n // batch
  split = lambda x: x.reshape(batch, probes, groups, count, -1)
  rows = split(rows).swapaxes(1, 2).reshape(batch, groups, -1, size)
  reach = jnp.repeat(past.reach.reshape(batch, probes), count, 1)
  part = attend(
    rows, past.key.swapaxes(1, 2), past.value.swapaxes(1, 2), past.position,
    reach,
  )
  join = lambda x: (
    x.reshape(batch, groups, probes, count, -1).swapaxes(1, 2)
    .reshape(n, groups, count, -1)
  )
  return tuple(join(x) for x in part)


def _merge(one, other):
  """Softmax over two sets of keys; of a set without any nothing is left."""
  top = jnp.maximum(one[1], other[1])
  scale = lambda part: jnp.exp(part[1] - top)
  y = one[0] * scale(one) + other[0] * scale(other)
  return y, top, one[2] * scale(one) + other[2] * scale(other)


def _few_at_a_time(rows, keys, values, seen, reach):
  n, groups, count, _ = rows.shape
  if n * groups * count * keys.shape[2] <= SCORES:
    return _attend(rows, keys, values, seen, reach)

  def of_row(row):
    *each, seen, reach = row
    group = lambda own: _in_chunks(own[0], own[1], own[2], seen, reach)
    return jax.lax.map(group, tuple(each))

  return jax.lax.map(of_row, (rows, keys, values, seen, reach))


def _attend(rows, keys, values, seen, reach):
  """Attention without its last division.

  Args:
    rows: (..., R, K) queries; leading axes (N, G) or none.
    keys: (..., S, K).
    values: (..., S, K).
    seen: (N, S) or (S,): bool, positions if there is a reach, or None.
    reach: (N, R) or (R,) int32, or None.

  Returns:
    (..., R, K) float32 sums of values, (..., R, 1) the largest score (scaled as
    the weights are), (..., R, 1) sums of weights.
  """
  dot = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
  scores = dot(rows, keys.swapaxes(-1, -2))
  if seen is not None:
    seen = seen[..., None, :] if reach is None else _seen(seen, reach)
    seen = seen[:, None] if rows.ndim == 4 else seen
    scores = jnp.where(seen, scores, jnp.finfo(jnp.float32).min)
  scale = rows.shape[-1] ** -0.5
  top = scores.max(-1, keepdims=True)
  weights = jnp.exp((scores - top) * scale)
  y = dot(weights.astype(values.dtype), values)
  return y, top * scale, weights.sum(-1, keepdims=True)


def _in_chunks(rows, keys, values, seen, reach):
  """_attend of one group for some SCORES at a time."""
  total, size = rows.shape
  chunks = -(-total * len(keys) // SCORES)
  # What is padded reaches as far as position 0; it is cut off below.
  cut = lambda x: jnp.pad(
    x, ((0, -total % chunks),) + ((0, 0),) * (x.ndim - 1)
  ).reshape((chunks, -1) + x.shape[1:])
  given = cut(rows), None if reach is None else cut(reach)
  parts = jax.lax.map(
    lambda own: _attend(own[0], keys, values, seen, own[1]), given
  )
  return jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:])[:total], parts)
