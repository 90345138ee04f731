"""From config.json to a Decoder: LLaDA, Dream and their kin."""

from typing import Any

from punt_jax.models.decoder import Decoder
from punt_jax.models.layout import Layout, Source, fixed, flag, layers, number
from punt_jax.models.parts import mask_id
from punt_jax.models.rope import Rope


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
  module = Decoder(
    vocab=rows,
    width=width,
    layers=layers(config, 'n_layers'),
    heads=heads,
    groups=number(config, 'n_kv_heads', default=heads),
    size=width // heads,
    hidden=size('mlp_hidden_size'),
    rope=Rope(size('rope_theta', kind=float)),
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
  module = Decoder(
    vocab=size('vocab_size'),
    width=width,
    layers=layers(config, 'num_hidden_layers'),
    heads=heads,
    groups=size('num_key_value_heads', default=heads),
    size=size('head_dim', default=width // heads),
    hidden=size('intermediate_size'),
    rope=Rope(number(rope, 'rope_theta', kind=float)),
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
