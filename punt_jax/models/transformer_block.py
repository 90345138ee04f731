"""A layer of the Transformer: attention and an MLP, each on a mixed input."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.models.attention import Past, Reach, attention
from punt_jax.models.rope import rotate
from punt_jax.types import Array


class Mix(nn.Module):
  """x + a depthwise convolution of x over `taps` neighbors.

  Where `block` (N or 1, L) is given, over those in the same block.
  """

  taps: int

  @nn.compact
  def __call__(self, x: Array, block: Array | None = None) -> Array:
    kernel = self.param(
      'kernel', nn.initializers.normal(0.1), (self.taps, x.shape[-1])
    )
    side = self.taps // 2
    padded = jnp.pad(x, ((0, 0), (side, side), (0, 0)))
    length = x.shape[1]
    shifts = (padded[:, i : i + length] * kernel[i] for i in range(self.taps))
    if block is not None:
      near = jnp.pad(block, ((0, 0), (side, side)), constant_values=-2)
      shifts = (
        jnp.where((near[:, i : i + length] == block)[..., None], shift, 0.0)
        for i, shift in enumerate(shifts)
      )
    return x + sum(shifts)


class Block(nn.Module):
  """Attention and squared-ReLU MLP, each on a normed and mixed input."""

  heads: int
  taps: int
  widen: int = 4

  @nn.compact
  def __call__(
    self, x: Array, position: Array, valid: Array | None,
    seen: Array | Reach | None, block: Array | None = None,
    past: Past | None = None,
  ) -> tuple[Array, tuple[Array, Array]]:
    """x (N, W, D) -> the same after this block, and its keys and values.

    Args:
      x: (N, W, D).
      position: (N or 1, W) int32.
      valid: (N, W) bool, or None.
      seen: which keys each query sees: broadcast to (N, 1, W, W), a Reach, or
        None for all.
      block: of Mix.
      past: further keys and values, with a Reach.
    """
    n, length, width = x.shape
    dense = lambda name, size, **kw: nn.Dense(
      size, use_bias=False, name=name, **kw
    )
    zero = nn.initializers.zeros
    h = nn.RMSNorm(name='attention_norm')(x)
    if valid is not None:  # padding must not leak through the convolution
      h = jnp.where(valid[..., None], h, 0.0)
    h = Mix(self.taps, name='mix')(h, block)
    split = lambda y: y.reshape(n, length, self.heads, width // self.heads)
    v = split(dense('value', width)(h))
    q, k = (
      rotate(split(dense(name, width)(h)), position).astype(v.dtype)
      for name in ('query', 'key')
    )
    if isinstance(seen, Reach):
      h = attention(q, k, v, seen, past)
    else:
      h = jax.nn.dot_product_attention(q, k, v, mask=seen)
    h = h.reshape(n, length, width)
    x = x + dense('out', width, kernel_init=zero)(h)
    h = nn.RMSNorm(name='mlp_norm')(x)
    h = jax.nn.relu(dense('up', self.widen * width)(h)) ** 2
    return x + dense('down', width, kernel_init=zero)(h), (k, v)
