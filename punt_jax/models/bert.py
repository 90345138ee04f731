"""BERT and RoBERTa as masked language models (flax.linen).

Encoders with learned positions and a LayerNorm after each part (Devlin et al.,
2018, https://arxiv.org/abs/1810.04805; Liu et al., 2019,
https://arxiv.org/abs/1907.11692), with the parameter names of the transformers
library. They saw about 15 % of the tokens masked, not every share as a masked
diffusion model does; the samplers do not mind.

Parameters have the dtype that is asked for, and so have matrix products; norms,
attention scores, the sum along the layers and the logits are float32.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.models.attention import attention
from punt_jax.models.layout import Layout, Source, fixed, flag, layers, number
from punt_jax.models.parts import layer_norm, leaves, mask_id, stacked
from punt_jax.types import Array

ACTIVATIONS = {
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_new': jax.nn.gelu,
  'relu': jax.nn.relu,
}
# Our part of a layer -> theirs. What ends in norm is a LayerNorm.
LAYER = {
  'query': 'attention.self.query',
  'key': 'attention.self.key',
  'value': 'attention.self.value',
  'out': 'attention.output.dense',
  'attention_norm': 'attention.output.LayerNorm',
  'up': 'intermediate.dense',
  'down': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
}


class Layer(nn.Module):
  """Attention and MLP, each followed by a LayerNorm of its sum with x."""

  width: int
  heads: int
  hidden: int
  eps: float
  activation: str
  dtype: str

  @nn.compact
  def __call__(self, x: Array, valid: Array | None) -> tuple[Array, None]:
    """x (N, L, D) float32, valid (N, L) or None -> (like x, None)."""
    dense = lambda name, size: nn.Dense(
      size, dtype=self.dtype, param_dtype=self.dtype, name=name
    )
    norm = lambda name: layer_norm(self, self.eps, name=name)
    heads = lambda name: dense(name, self.width)(x).reshape(
      *x.shape[:2], self.heads, -1
    )
    h = attention(heads('query'), heads('key'), heads('value'), valid)
    x = norm('attention_norm')(x + dense('out', self.width)(h))
    h = ACTIVATIONS[self.activation](dense('up', self.hidden)(x))
    return norm('mlp_norm')(x + dense('down', self.width)(h)), None


class Bert(nn.Module):
  """The encoder, and the head of a masked language model.

  Attributes:
    vocab: ids 0 .. vocab - 1, MASK among them.
    width: D, a multiple of heads.
    layers: blocks.
    heads: attention heads.
    hidden: width of the MLP.
    positions: rows of the table of positions.
    kinds: rows of the table of token types; row 0 is used.
    first: row of the first position that is not padding.
    eps: of the LayerNorms.
    activation: of the MLP, a key of ACTIVATIONS.
    head_activation: of the head.
    tied: whether the head reads the input embedding.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'.
  """

  vocab: int
  width: int
  layers: int
  heads: int
  hidden: int
  positions: int
  kinds: int = 1
  first: int = 0
  eps: float = 1e-12
  activation: str = 'gelu'
  head_activation: str = 'gelu'
  tied: bool = True
  dtype: str = 'bfloat16'

  def setup(self):
    embed = functools.partial(
      nn.Embed, features=self.width, dtype=self.dtype, param_dtype=self.dtype
    )
    self.embed = embed(self.vocab)
    self.position = embed(self.positions)
    self.kind = embed(self.kinds)
    self.norm = layer_norm(self, self.eps)
    self.blocks = stacked(Layer, self.layers)(
      self.width, self.heads, self.hidden, self.eps, self.activation,
      self.dtype,
    )
    self.transform = nn.Dense(
      self.width, dtype=self.dtype, param_dtype=self.dtype
    )
    self.transform_norm = layer_norm(self, self.eps)
    if not self.tied:
      self.decoder = embed(self.vocab)
    self.bias = self.param(
      'bias', nn.initializers.zeros, (self.vocab,), self.dtype
    )

  def features(self, tokens: Array, valid: Array | None = None) -> Array:
    """What the readout needs.

    Args:
      tokens: (N, L) int32 in [0, vocab).
      valid: (N, L) bool, one run of True per row, or None for all True.
        Padding on either side changes nothing at the valid positions.

    Returns:
      (N, L, D) in the module's dtype: after the head's transform.
    """
    if valid is None:
      place = jnp.arange(tokens.shape[1])[None]
    else:
      place = jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)
    first_kind = self.kind(jnp.zeros((1, 1), jnp.int32))
    parts = self.embed(tokens), first_kind, self.position(place + self.first)
    x = sum(part.astype(jnp.float32) for part in parts)
    x, _ = self.blocks(self.norm(x), valid)
    h = ACTIVATIONS[self.head_activation](self.transform(x))
    return self.transform_norm(h).astype(self.dtype)

  def head(self, features: Array) -> Array:
    """features (..., D) -> logits (..., vocab) float32."""
    table = (self.embed if self.tied else self.decoder).embedding
    return self.bias + jnp.einsum(
      '...d,vd->...v', features, table, preferred_element_type='float32'
    )

  def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
    """(N, L) tokens -> (N, L, vocab) logits."""
    return self.head(self.features(tokens, valid))


def layout(config: dict[str, Any]) -> Layout:
  """Where the parameters of a BERT or RoBERTa stand.

  Args:
    config: config.json, parsed; model_type 'bert' or 'roberta'. It must also
      hold mask_token_id, which the transformers library keeps with the
      tokenizer.

  Raises:
    ValueError: one sentence, if a size is missing or makes no sense, or a
      setting is not implemented.
  """
  roberta = config.get('model_type') == 'roberta'
  fixed(
    config, position_embedding_type='absolute', is_decoder=False,
    add_cross_attention=False,
  )
  activation = config.get('hidden_act', 'gelu')
  if activation not in tuple(ACTIVATIONS):
    raise ValueError(
      f'config.json: hidden_act = {activation!r:.40} is not implemented, only'
      f' {", ".join(ACTIVATIONS)} are'
    )
  module = Bert(
    vocab=number(config, 'vocab_size'),
    width=number(config, 'hidden_size'),
    layers=layers(config, 'num_hidden_layers'),
    heads=number(config, 'num_attention_heads'),
    hidden=number(config, 'intermediate_size'),
    positions=number(config, 'max_position_embeddings'),
    kinds=number(config, 'type_vocab_size'),
    # RoBERTa counts its positions from the id of padding on.
    first=number(config, 'pad_token_id', 0, 1) + 1 if roberta else 0,
    eps=number(config, 'layer_norm_eps', 0, 1e-12, float),
    activation=activation,
    head_activation='gelu' if roberta else activation,
    tied=flag(config, 'tie_word_embeddings', True),
  )
  if module.width % module.heads:
    raise ValueError(
      f'config.json: hidden_size = {module.width} is not a multiple of'
      f' num_attention_heads = {module.heads}'
    )
  if module.positions <= module.first:
    raise ValueError(
      f'config.json: max_position_embeddings = {module.positions} leaves no'
      f' position behind the {module.first} that pad_token_id reserves'
    )
  return Layout(
    module=module,
    sources=_sources(module, roberta),
    vocab=module.vocab,
    mask=mask_id(config, module.vocab),
    length=module.positions - module.first,
    ignored=(
      r'(bert|roberta)\.(pooler\..*|embeddings\.\w+_ids)',
      r'cls\.(seq_relationship|species|chain|graft)\..*',
      r'(cls\.predictions|lm_head)\.(decoder\..*|bias)',
    ),
    copies=_copies(roberta) if module.tied else {},
  )


def _copies(roberta):
  """The head's tensors that a tied model may store again."""
  base = 'roberta' if roberta else 'bert'
  head = 'lm_head.' if roberta else 'cls.predictions.'
  return {
    f'{head}decoder.weight': f'{base}.embeddings.word_embeddings.weight',
    f'{head}decoder.bias': f'{head}bias',
  }


def _sources(module, roberta):
  """{path of a parameter: Source}."""
  base = 'roberta.' if roberta else 'bert.'
  head = 'lm_head.' if roberta else 'cls.predictions.'
  transform = ('dense', 'layer_norm') if roberta else (
    'transform.dense', 'transform.LayerNorm'
  )
  parts: dict[str, tuple[str, ...]] = {
    'norm': (f'{base}embeddings.LayerNorm',),
    'transform': (head + transform[0],),
    'transform_norm': (head + transform[1],),
  }
  for ours, theirs in LAYER.items():
    parts[f'blocks/{ours}'] = tuple(
      f'{base}encoder.layer.{i}.{theirs}' for i in range(module.layers)
    )
  # An untied head reads its own bias; the tied one's copy may be there too.
  bias = 'bias' if module.tied else 'decoder.bias'
  sources = {'bias': Source((head + bias,))}
  tables = {'embed': 'word', 'position': 'position', 'kind': 'token_type'}
  for ours, theirs in tables.items():
    name = f'{base}embeddings.{theirs}_embeddings.weight'
    sources[f'{ours}/embedding'] = Source((name,))
  if not module.tied:
    sources['decoder/embedding'] = Source((f'{head}decoder.weight',))
  for ours, names in parts.items():
    sources |= leaves(ours, names)
  return sources
