"""The body of most masked diffusion models of text: a Llama that looks ahead.

LLaDA (Nie et al., 2025, https://arxiv.org/abs/2502.09992) is Llama without its
causal mask; Dream (Ye et al., 2025, https://arxiv.org/abs/2508.15487) is Qwen2
likewise. Those that came later see whole blocks and what is before them
(BD3-LM, Arriola et al., 2025, https://arxiv.org/abs/2503.09573): LLaDA2, SDAR,
Fast-dLLM v2, Nemotron-Labs-Diffusion. What differs is in the attributes.

One forward pass is one question: (N, L) tokens -> (N, L, D) features. With a
KV cache (`prefill`, `window`) a question computes W of the L positions.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.models import moe
from punt_jax.models.attention import Past, Reach, attention
from punt_jax.models.parts import stacked
from punt_jax.models.rope import Rope, rotate, rotate_query
from punt_jax.types import FAR, Array, Tree


class Block(nn.Module):
  """One layer; attributes as in Decoder."""

  heads: int
  groups: int
  size: int
  hidden: int
  rope: Rope
  eps: float
  bias: bool
  out_bias: bool
  qk_norm: bool
  experts: moe.Settings | None
  dtype: str

  @nn.compact
  def __call__(
    self, x: Array, position: Array, mask: Array | Reach | None,
    seen: tuple[Array, Array] | None, past: tuple[Array, Array] | None,
    keep: bool,
  ) -> tuple[Array, tuple[Array, Array] | None]:
    n, length, width = x.shape
    norm = functools.partial(
      nn.RMSNorm, epsilon=self.eps, dtype=self.dtype, param_dtype=self.dtype
    )
    dense = lambda name, wide, bias=False: nn.Dense(
      wide, use_bias=bias, name=name, dtype=self.dtype, param_dtype=self.dtype
    )

    def heads(name, count):
      y = dense(name, count * self.size, self.bias)(h)
      y = y.reshape(n, length, count, self.size)
      if self.qk_norm and name != 'value':
        y = norm(name=f'{name}_norm')(y)
      return y

    h = norm(name='attention_norm')(x)
    q = rotate_query(heads('query', self.heads), position, self.rope)
    k = rotate(heads('key', self.groups), position, self.rope)
    q, k = q.astype(self.dtype), k.astype(self.dtype)
    v = heads('value', self.groups)
    others = Past(*past, *seen) if past and seen else None
    h = attention(q, k, v, mask, others)
    x = x + dense('out', width, self.out_bias)(h)
    h = norm(name='mlp_norm')(x)
    if self.experts:
      h = moe.Experts(self.experts, self.dtype, name='experts')(h)
    else:
      gate = jax.nn.silu(dense('gate', self.hidden)(h))
      h = dense('down', width)(gate * dense('up', self.hidden)(h))
    return x + h, (k, v) if keep else None


class Decoder(nn.Module):
  """Layers of attention and gated MLP, each on a normed input.

  Attributes:
    vocab: rows of the embedding, MASK among them.
    width: D.
    layers: how many, of all kinds; a scan runs over those of one kind.
    heads: attention heads.
    groups: key and value heads, a divisor of heads.
    size: of a head.
    hidden: width of the gated MLP, where there is one.
    rope: how queries and keys turn.
    eps: of the norms.
    bias: whether query, key and value have one.
    out_bias: whether the output of attention has one.
    qk_norm: whether each head's query and key are normed before they turn.
    tied: whether the head is the embedding.
    block_length: B: position i sees position j where i // B >= j // B. 0: all
      see all.
    causal: whether only the block that is being written sees itself whole, and
      what is before it was computed causally.
    anchored: whether blocks are counted from the first MASK of a run, not from
      position 0.
    experts: a mixture of experts in the place of the MLP; None: there is none.
    dense: layers that have the MLP even so, the first ones.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'.
  """

  vocab: int
  width: int
  layers: int
  heads: int
  groups: int
  size: int
  hidden: int
  rope: Rope
  eps: float
  bias: bool = False
  out_bias: bool = False
  qk_norm: bool = False
  tied: bool = False
  block_length: int = 0
  causal: bool = False
  anchored: bool = False
  experts: moe.Settings | None = None
  dense: int = 0
  dtype: str = 'bfloat16'

  def setup(self):
    own: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.dtype)
    self.embed = nn.Embed(self.vocab, self.width, **own)
    everywhere = nn.broadcast
    in_axes = everywhere, everywhere, everywhere, 0, everywhere

    def stack(layers, experts):
      return stacked(Block, layers, in_axes)(
        self.heads, self.groups, self.size, self.hidden, self.rope, self.eps,
        self.bias, self.out_bias, self.qk_norm, experts, self.dtype,
      )

    if self.dense:
      self.first = stack(self.dense, None)
    self.blocks = stack(self.layers - self.dense, self.experts)
    self.norm = nn.RMSNorm(epsilon=self.eps, **own)
    if not self.tied:
      exact = functools.partial(
        jax.lax.dot_general, preferred_element_type=jnp.float32
      )
      self.readout = nn.Dense(
        self.vocab, use_bias=False, dot_general=exact, **own
      )

  def features(self, tokens: Array, valid: Array | None = None) -> Array:
    """What the readout needs.

    Blocks are block-causal from position 0, whatever `causal` and `anchored`
    are: a run that goes by these is block_cache.from_blocks'.

    Args:
      tokens: (N, L) int32, the checkpoint's own ids.
      valid: (N, L) bool, one run of True per row, or None for all True.

    Returns:
      (N, L, D).
    """
    return self._whole(tokens, valid)[0]

  def prefill(self, tokens: Array, valid: Array) -> tuple[Array, Tree]:
    """Features (N, L, D), keys and values (layers, N, L, groups, size)."""
    return self._whole(tokens, valid, keep=True)

  def window(
    self, past: Tree | None, past_position: Array | None,
    past_reach: Array | None, tokens: Array, position: Array,
    reach: Array | None = None,
  ) -> tuple[Array, Tree]:
    """Some positions beside others that are remembered.

    A key is seen where its position is at most the reach of the query.

    Args:
      past: what this or `prefill` gave of other positions, leaves
        (layers, B, S, groups, size), or None. Row b serves the N / B rows of
        tokens from b N / B on, and is never repeated.
      past_position: (B, S) int32, FAR where nothing is.
      past_reach: (N,) int32, of all queries of a row.
      tokens: (N, W) int32.
      position: (N, W) int32, FAR at padding.
      reach: (N, W) int32, among own keys; None: all that are no padding.

    Returns:
      features (N, W, D), and their keys and values, as in `prefill`.
    """
    reach = jnp.full_like(position, FAR - 1) if reach is None else reach
    seen = None if past is None else (past_position, past_reach)
    mask = Reach(position, reach)
    return self._run(tokens, position, mask, seen, past, True)

  def _whole(self, tokens, valid, keep=False):
    length = tokens.shape[1]
    position, mask = jnp.arange(length)[None], valid
    if valid is not None:
      position = jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)
    position = jnp.broadcast_to(position, tokens.shape)
    if self.block_length:
      keys = position if valid is None else jnp.where(valid, position, FAR)
      last = (position // self.block_length + 1) * self.block_length - 1
      mask = Reach(keys, last)
    return self._run(tokens, position, mask, keep=keep)

  def _run(self, tokens, position, mask, seen=None, past=None, keep=False):
    x, found = self.embed(tokens), []
    stacks = (self.first, self.blocks) if self.dense else (self.blocks,)
    for stack, others in zip(stacks, past or (None, None), strict=False):
      x, own = stack(x, position, mask, seen, others, keep)
      found.append(own)
    return self.norm(x), tuple(found)

  def head(self, features: Array) -> Array:
    """features (..., D) -> logits (..., vocab) float32."""
    if not self.tied:
      return self.readout(features)
    return jnp.einsum(
      '...d,vd->...v', features, self.embed.embedding,
      preferred_element_type=jnp.float32,
    )

  def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
    """(N, L) tokens -> (N, L, vocab) logits."""
    return self.head(self.features(tokens, valid))
