"""MDLM's diffusion transformer (flax.linen).

Sahoo et al., 2024, Simple and Effective Masked Diffusion Language Models,
https://arxiv.org/abs/2406.07524; parameter names of kuleshov-group/mdlm. Blocks
are modulated by an embedding of the noise level (adaptive LayerNorm; Peebles
and Xie, 2022, https://arxiv.org/abs/2212.09748). These models are trained
without time conditioning: the level they see is 0 everywhere, and its embedding
depends on the weights alone.

Parameters have the dtype that is asked for, and so have matrix products; norms,
modulation, attention scores, the sum along the blocks and the logits are
float32.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.models.attention import attention
from punt_jax.models.layout import Layout, Source, fixed, layers, number
from punt_jax.models.parts import layer_norm, leaves, mask_id, stacked
from punt_jax.models.rope import rotate
from punt_jax.types import Array

FREQUENCIES = 256  # of the noise level's embedding
WIDEN = 4  # width of the MLP in units of D
EPS = 1e-5


def modulate(x: Array, change: Array) -> Array:
  """LayerNorm's output x (N, L, D), scaled and shifted by change (2 D,)."""
  shift, scale = jnp.split(change, 2)
  return x * (1 + scale) + shift


class Block(nn.Module):
  """Modulated attention and MLP; both are gated."""

  width: int
  heads: int
  dtype: str

  @nn.compact
  def __call__(
    self, x: Array, level: Array, position: Array, valid: Array | None
  ) -> tuple[Array, None]:
    """x (N, L, D) float32, level (cond,) float32 -> (like x, None)."""
    dense = lambda name, size, bias: nn.Dense(
      size, use_bias=bias, dtype=self.dtype, param_dtype=self.dtype, name=name
    )
    norm = lambda name: layer_norm(self, EPS, use_bias=False, name=name)
    changes = nn.Dense(
      6 * self.width, dtype='float32', param_dtype=self.dtype,
      name='modulation',
    )(level)
    before, gate, inside, gate_mlp = jnp.split(
      changes, [part * self.width for part in (2, 3, 5)]
    )
    h = dense('qkv', 3 * self.width, False)(modulate(norm('norm')(x), before))
    h = h.reshape(*x.shape[:2], 3, self.heads, -1)
    q, k, v = (h[:, :, part] for part in range(3))
    turn = lambda y: rotate(y, position).astype(self.dtype)
    h = attention(turn(q), turn(k), v, valid)
    x = x + gate * dense('out', self.width, False)(h)
    h = modulate(norm('mlp_norm')(x), inside)
    h = jax.nn.gelu(dense('up', WIDEN * self.width, True)(h))
    return x + gate_mlp * dense('down', self.width, True)(h), None


class Dit(nn.Module):
  """The transformer; attributes are plain numbers.

  Attributes:
    vocab: rows of the embedding, MASK among them.
    width: D, an even multiple of heads.
    cond: width of the noise level's embedding.
    layers: blocks.
    heads: attention heads.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'.
  """

  vocab: int
  width: int
  cond: int
  layers: int
  heads: int
  dtype: str = 'bfloat16'

  def setup(self):
    self.embed = nn.Embed(
      self.vocab, self.width, dtype=self.dtype, param_dtype=self.dtype
    )
    exact = functools.partial(
      nn.Dense, dtype='float32', param_dtype=self.dtype
    )
    self.level_in, self.level_out = exact(self.cond), exact(self.cond)
    self.blocks = stacked(Block, self.layers)(
      self.width, self.heads, self.dtype
    )
    self.modulation = exact(2 * self.width)
    self.norm = layer_norm(self, EPS, use_bias=False)
    self.readout = nn.Dense(
      self.vocab, dtype=self.dtype, param_dtype=self.dtype,
      dot_general=functools.partial(
        jax.lax.dot_general, preferred_element_type=jnp.float32
      ),
    )

  def features(self, tokens: Array, valid: Array | None = None) -> Array:
    """What the readout needs.

    Args:
      tokens: (N, L) int32 in [0, vocab).
      valid: (N, L) bool, one run of True per row, or None for all True.
        Padding on either side changes nothing at the valid positions.

    Returns:
      (N, L, D) in the module's dtype.
    """
    if valid is None:
      position = jnp.arange(tokens.shape[1])[None]
    else:
      position = jnp.cumsum(valid, axis=1) - 1
    # The cosines of noise level 0 are 1, its sines 0.
    level = jnp.arange(FREQUENCIES) < FREQUENCIES // 2
    level = nn.silu(self.level_in(level.astype(jnp.float32)))
    level = nn.silu(self.level_out(level))
    x = self.embed(tokens).astype(jnp.float32)
    x, _ = self.blocks(x, level, position, valid)
    x = modulate(self.norm(x), self.modulation(level))
    return x.astype(self.dtype)

  def head(self, features: Array) -> Array:
    """features (..., D) -> logits (..., vocab) float32."""
    return self.readout(features)

  def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
    """(N, L) tokens -> (N, L, vocab) logits."""
    return self.head(self.features(tokens, valid))


def layout(config: dict[str, Any]) -> Layout:
  """Where the parameters of an MDLM stand.

  Args:
    config: config.json, parsed, with the keys of kuleshov-group/mdlm-owt.
      MASK is the last row of the embedding, unless mask_token_id says
      otherwise; as the last row it is not in the vocabulary.

  Raises:
    ValueError: one sentence, if a size is missing or makes no sense, or a
      setting is not implemented.
  """
  fixed(config, time_conditioning=False, cfg=False)
  rows = number(config, 'vocab_size', 2)
  module = Dit(
    vocab=rows,
    width=number(config, 'hidden_dim'),
    cond=number(config, 'cond_dim'),
    layers=layers(config, 'n_blocks'),
    heads=number(config, 'n_heads'),
  )
  if module.width % (2 * module.heads):
    raise ValueError(
      f'config.json: hidden_dim = {module.width} is not an even multiple of'
      f' n_heads = {module.heads}'
    )
  mask = mask_id(config, rows, rows - 1)
  return Layout(
    module=module,
    sources=_sources(module),
    vocab=rows - (mask == rows - 1),
    mask=mask,
    length=number(config, 'model_length'),
    ignored=(r'backbone\.rotary_emb\.inv_freq',),
  )


def _sources(module):
  """{path of a parameter: Source}."""
  head = 'backbone.output_layer.'
  # Ours -> theirs, and whether it has a bias.
  parts: dict[str, tuple[tuple[str, ...], bool]] = {
    'level_in': (('backbone.sigma_map.mlp.0',), True),
    'level_out': (('backbone.sigma_map.mlp.2',), True),
    'modulation': ((f'{head}adaLN_modulation',), True),
    'norm': ((f'{head}norm_final',), False),
    'readout': ((f'{head}linear',), True),
  }
  layer = {
    'norm': ('norm1', False),
    'qkv': ('attn_qkv', False),
    'out': ('attn_out', False),
    'mlp_norm': ('norm2', False),
    'up': ('mlp.0', True),
    'down': ('mlp.2', True),
    'modulation': ('adaLN_modulation', True),
  }
  for ours, (theirs, bias) in layer.items():
    names = (f'backbone.blocks.{i}.{theirs}' for i in range(module.layers))
    parts[f'blocks/{ours}'] = tuple(names), bias
  sources = {
    'embed/embedding': Source(('backbone.vocab_embed.embedding',)),
  }
  for ours, (names, bias) in parts.items():
    sources |= leaves(ours, names, bias)
  return sources
