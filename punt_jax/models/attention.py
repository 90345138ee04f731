"""Attention of the networks of checkpoints, and every network's rotation."""

import functools
import re

import jax
import jax.numpy as jnp

from punt_jax.types import Array

SCORES = 2**18  # of attention, that a CPU's cache holds: 1 MiB


def rotate(x: Array, position: Array, theta: float = 10000.0) -> Array:
  """Rotary embedding on halves. x (N, L, H, K), position (N, L), float32."""
  half = x.shape[-1] // 2
  rate = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = position[:, :, None, None] * rate
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, -1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
  """Softmax attention with float32 scores.

  jax.nn.dot_product_attention, in half precision on a GPU through cuDNN. A CPU
  has its own: less than half the time (experiments/bench/torch_forward.py).

  Args:
    q: (N, W, H, K).
    k: (N, S, G, K), H a multiple of G.
    v: (N, S, G, K).
    mask: (N, S) bool, the keys that are seen, or None for all.

  Returns:
    (N, W, H K).
  """
  n, window, _, _ = q.shape
  if jax.default_backend() == 'cpu':
    return _on_cpu(q, k, v, mask)
  if mask is not None:
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


def _on_cpu(q, k, v, mask):
  """One group of heads after the other, and few queries at a time.

  So scores stay in the processor's cache.
  """
  n, window, heads, size = q.shape
  seen, groups = k.shape[1:3]
  # (N, G, queries, K): the heads of a group are further queries.
  rows = q.reshape(n, window, groups, -1, size).swapaxes(1, 2)
  rows = rows.reshape(n, groups, -1, size)
  given = rows, k.swapaxes(1, 2), v.swapaxes(1, 2), mask
  if n * heads * window * seen > SCORES:
    row = lambda x: jax.lax.map(lambda own: _in_chunks(*own, seen=x[3]), x[:3])
    y = jax.lax.map(row, given)
  else:
    y = jax.vmap(jax.vmap(_attend, (0, 0, 0, None)))(*given)
  y = y.reshape(n, groups, window, -1, size).swapaxes(1, 2)
  return y.reshape(n, window, -1)


def _attend(rows, keys, values, seen):
  """Attention of one group: (R, K), (S, K), (S, K), (S,) bool -> (R, K)."""
  dot = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
  scores = dot(rows, keys.T)
  if seen is not None:
    scores = jnp.where(seen, scores, jnp.finfo(jnp.float32).min)
  rise = scores - scores.max(-1, keepdims=True)
  weights = jnp.exp(rise * rows.shape[-1] ** -0.5)
  y = dot(weights.astype(values.dtype), values)
  return (y / weights.sum(-1, keepdims=True)).astype(rows.dtype)


def _in_chunks(rows, keys, values, seen):
  """_attend for some SCORES at a time."""
  total, size = rows.shape
  chunks = -(-total * len(keys) // SCORES)
  rows = jnp.pad(rows, ((0, -total % chunks), (0, 0)))
  rows = rows.reshape(chunks, -1, size)
  y = jax.lax.map(lambda some: _attend(some, keys, values, seen), rows)
  return y.reshape(-1, size)[:total]
