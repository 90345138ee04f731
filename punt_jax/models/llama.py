"""LLaDA and Dream: Llama-like transformers that look both ways.

LLaDA (Nie et al., 2025, https://arxiv.org/abs/2502.09992) is Llama without its
causal mask; Dream (Ye et al., 2025, https://arxiv.org/abs/2508.15487) is Qwen2
likewise: biases on query, key and value, grouped heads, and output i - 1
predicts token i.

One forward pass is one question: (N, L) tokens -> (N, L, D) features. With a
KV cache (`prefill`, `window`) a question computes W of the L positions.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.models.attention import attention, rotate
from punt_jax.models.layout import Layout, Source, fixed, flag, layers, number
from punt_jax.models.parts import mask_id, stacked
from punt_jax.types import Array, Tree


class Block(nn.Module):
  """One layer; attributes as in Llama."""

  heads: int
  groups: int
  size: int
  hidden: int
  theta: float
  eps: float
  bias: bool
  dtype: str

  @nn.compact
  def __call__(
    self, x: Array, position: Array, mask: Array | None,
    past: tuple[Array, Array] | None, keep: bool,
  ) -> tuple[Array, tuple[Array, Array] | None]:
    n, length, width = x.shape
    norm = functools.partial(
      nn.RMSNorm, epsilon=self.eps, dtype=self.dtype, param_dtype=self.dtype
    )
    dense = lambda name, wide, bias=False: nn.Dense(
      wide, use_bias=bias, name=name, dtype=self.dtype, param_dtype=self.dtype
    )
    split = lambda y: y.reshape(n, length, -1, self.size)
    turn = lambda y: rotate(y, position, self.theta).astype(self.dtype)
    h = norm(name='attention_norm')(x)
    q = turn(split(dense('query', self.heads * self.size, self.bias)(h)))
    k = turn(split(dense('key', self.groups * self.size, self.bias)(h)))
    v = split(dense('value', self.groups * self.size, self.bias)(h))
    own = (k, v) if keep else None
    if past is not None:
      k = jnp.concatenate([past[0], k], 1)
      v = jnp.concatenate([past[1], v], 1)
    x = x + dense('out', width)(attention(q, k, v, mask))
    h = norm(name='mlp_norm')(x)
    h = jax.nn.silu(dense('gate', self.hidden)(h)) * dense('up', self.hidden)(h)
    return x + dense('down', width)(h), own


class Llama(nn.Module):
  """A bidirectional Llama.

  Attributes:
    vocab: rows of the embedding, MASK among them.
    width: D.
    layers: blocks; a scan runs over them.
    heads: attention heads.
    groups: key and value heads, a divisor of heads.
    size: of a head.
    hidden: width of the gated MLP.
    theta: base of the rotary embedding.
    eps: of the norms.
    bias: whether query, key and value have one.
    tied: whether the head is the embedding.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'.
  """

  vocab: int
  width: int
  layers: int
  heads: int
  groups: int
  size: int
  hidden: int
  theta: float
  eps: float
  bias: bool = False
  tied: bool = False
  dtype: str = 'bfloat16'

  def setup(self):
    own: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.dtype)
    self.embed = nn.Embed(self.vocab, self.width, **own)
    in_axes = nn.broadcast, nn.broadcast, 0, nn.broadcast
    self.blocks = stacked(Block, self.layers, in_axes)(
      self.heads, self.groups, self.size, self.hidden, self.theta, self.eps,
      self.bias, self.dtype,
    )
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

    Args:
      tokens: (N, L) int32, the checkpoint's own ids.
      valid: (N, L) bool, one run of True per row, or None for all True.

    Returns:
      (N, L, D).
    """
    return self._run(tokens, _position(tokens, valid), valid)[0]

  def prefill(self, tokens: Array, valid: Array) -> tuple[Array, Tree]:
    """Features (N, L, D), and keys and values (layers, N, L, groups, size)."""
    return self._run(tokens, _position(tokens, valid), valid, keep=True)

  def window(
    self, past: Tree, tokens: Array, position: Array, seen: Array
  ) -> Array:
    """Features (N, W, D) of some positions; the others are remembered.

    Args:
      past: what `prefill` gave of all L positions.
      tokens: (N, W) int32.
      position: (N, W) int32.
      seen: (N, L + W) bool, the keys that are seen: of `past`, then own.
    """
    return self._run(tokens, position, seen, past)[0]

  def _run(self, tokens, position, mask, past=None, keep=False):
    x, own = self.blocks(self.embed(tokens), position, mask, past, keep)
    return self.norm(x), own

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


def _position(tokens, valid):
  if valid is None:
    return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  return jnp.cumsum(valid, axis=1) - 1


def llada(config: dict[str, Any]) -> Layout:
  """LLaDA 8B, 1.5 and their kin, from config.json."""
  fixed(
    config, block_type='llama', layer_norm_type='rms', activation_type='silu',
    rope=True, alibi=False, attention_layer_norm=False, include_bias=False,
    include_qkv_bias=False, scale_logits=False, multi_query_attention=False,
    input_emb_norm=False, block_group_size=1, rope_scaling=None,
    layer_norm_with_affine=True, bias_for_layer_norm=False,
  )
  size = lambda key, **how: number(config, key, **how)
  width, heads = size('d_model'), size('n_heads')
  if width % heads:
    raise ValueError(
      f'config.json: d_model = {width} is not a multiple of n_heads = {heads}'
    )
  tied = flag(config, 'weight_tying', False)
  vocab = number(config, 'vocab_size')
  rows = number(config, 'embedding_size', low=vocab, default=vocab)
  module = Llama(
    vocab=rows,
    width=width,
    layers=layers(config, 'n_layers'),
    heads=heads,
    groups=number(config, 'n_kv_heads', default=heads),
    size=width // heads,
    hidden=size('mlp_hidden_size'),
    theta=size('rope_theta', kind=float),
    eps=size('rms_norm_eps', low=0, kind=float),
    tied=tied,
  )
  names = dict(
    attention_norm='attn_norm', mlp_norm='ff_norm', query='q_proj',
    key='k_proj', value='v_proj', out='attn_out', gate='ff_proj',
    up='up_proj', down='ff_out',
  )
  top = 'model.transformer'
  return Layout(
    _divides(module),
    _sources(
      module, f'{top}.wte.weight', f'{top}.ln_f.weight',
      f'{top}.ff_out.weight',
      lambda i, part, leaf: f'{top}.blocks.{i}.{names[part]}.{leaf}',
    ),
    vocab,
    mask_id(config),
    size('max_sequence_length'),
    copies={f'{top}.ff_out.weight': f'{top}.wte.weight'} if tied else {},
  )


def dream(config: dict[str, Any]) -> Layout:
  """Dream 7B and its kin, from config.json."""
  fixed(
    config, hidden_act='silu', rope_scaling=None, use_sliding_window=False,
    use_mrope=False,
  )
  rope = config.get('rope_parameters') or config  # transformers 5
  if not isinstance(rope, dict):
    raise ValueError(
      f'config.json: rope_parameters is {rope!r:.40}, it must be an object'
    )
  fixed(rope, rope_type='default')
  size = lambda key, **how: number(config, key, **how)
  width, heads = size('hidden_size'), size('num_attention_heads')
  module = Llama(
    vocab=size('vocab_size'),
    width=width,
    layers=layers(config, 'num_hidden_layers'),
    heads=heads,
    groups=size('num_key_value_heads', default=heads),
    size=size('head_dim', default=width // heads),
    hidden=size('intermediate_size'),
    theta=number(rope, 'rope_theta', kind=float),
    eps=size('rms_norm_eps', low=0, kind=float),
    bias=True,
    tied=flag(config, 'tie_word_embeddings', False),
  )
  names = dict(
    attention_norm='input_layernorm', mlp_norm='post_attention_layernorm',
    query='self_attn.q_proj', key='self_attn.k_proj',
    value='self_attn.v_proj', out='self_attn.o_proj', gate='mlp.gate_proj',
    up='mlp.up_proj', down='mlp.down_proj',
  )
  return Layout(
    _divides(module),
    _sources(
      module, 'model.embed_tokens.weight', 'model.norm.weight',
      'lm_head.weight',
      lambda i, part, leaf: f'model.layers.{i}.{names[part]}.{leaf}',
    ),
    module.vocab,
    mask_id(config),
    size('max_position_embeddings'),
    shifted=True,
    ignored=(r'.*rotary_emb\.inv_freq',),
    copies=(
      {'lm_head.weight': 'model.embed_tokens.weight'} if module.tied else {}
    ),
  )


def _divides(module):
  if module.heads % module.groups or module.size % 2:
    raise ValueError(
      f'config.json: {module.heads} heads of size {module.size} with'
      f' {module.groups} key heads: the key heads must divide the heads, and'
      ' the size must be even'
    )
  return module


def _sources(module, embed, norm, readout, name):
  """{parameter: Source}; name(layer, part, 'weight' or 'bias') -> tensor."""

  def stack(part, leaf, transpose=False):
    every = (name(i, part, leaf) for i in range(module.layers))
    return Source(tuple(every), transpose)

  sources = {
    'embed/embedding': Source((embed,)), 'norm/scale': Source((norm,)),
  }
  for part in ('attention_norm', 'mlp_norm'):
    sources[f'blocks/{part}/scale'] = stack(part, 'weight')
  for part in ('query', 'key', 'value', 'out', 'gate', 'up', 'down'):
    sources[f'blocks/{part}/kernel'] = stack(part, 'weight', True)
    if module.bias and part in ('query', 'key', 'value'):
      sources[f'blocks/{part}/bias'] = stack(part, 'bias')
  if not module.tied:
    sources['readout/kernel'] = Source((readout,), True)
  return sources
