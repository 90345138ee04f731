"""A tiny network that is causal over blocks: attention, nothing else."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import block_cache

V, D, LAYERS = 11, 12, 2
SHARP = 3.0


class Params(NamedTuple):
  """Weights, float32."""

  table: np.ndarray  # (V + 1, D)
  query: np.ndarray  # (LAYERS, D, D)
  key: np.ndarray
  value: np.ndarray
  head: np.ndarray  # (D, V)


def params(seed=0):
  """Random weights; the embedding is large, so that ties are rare."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  inner = (draw(LAYERS, D, D) / np.sqrt(D) for _ in range(3))
  return Params(2 * draw(V + 1, D), *inner, draw(D, V))


def place(position, xp=jnp):
  """What a position adds to its token: (..., D)."""
  angle = position[..., None] % 1024 * xp.asarray(0.7) ** xp.arange(D // 2)
  return xp.concatenate([xp.sin(angle), xp.cos(angle)], -1)


def window_fn(p):
  """WindowFn; one head, keys and values (LAYERS, N, W, 1, D)."""

  def window(past, past_position, past_reach, tokens, position, reach):
    x = jnp.asarray(p.table)[tokens] + place(position)
    if reach is None:
      reach = jnp.full(position.shape, block_cache.FAR - 1)
    seen = position[:, None] <= reach[..., None]
    if past is not None:
      far = past_reach.reshape(len(past_position), -1, 1)
      old = (past_position[:, None] <= far).reshape(len(tokens), 1, -1)
      old = jnp.broadcast_to(old, seen.shape[:2] + old.shape[-1:])
      seen = jnp.concatenate([old, seen], -1)

    def layer(x, weights):
      query, key, value, past = weights
      own = [(x @ w)[:, :, None] for w in (key, value)]
      k, v = own
      if past is not None:
        times = len(x) // past[0].shape[0]
        k, v = (
          jnp.concatenate([jnp.repeat(a, times, 0), b], 1)
          for a, b in zip(past, own, strict=True)
        )
      score = jnp.einsum('nid,njd->nij', x @ query, k[:, :, 0])
      score = jnp.where(seen, score / D**0.5, -1e30)
      found = jax.nn.softmax(score) @ v[:, :, 0]
      return jnp.tanh(x + found), tuple(own)

    return jax.lax.scan(layer, x, (p.query, p.key, p.value, past))

  return window


def model(p, length, **how):
  """Denoiser of the network."""
  head = lambda features: SHARP * features @ p.head
  return block_cache.from_blocks(window_fn(p), head, V, length, **how)
