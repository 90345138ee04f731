"""LLaDA 8B and 1.5 (Nie et al., 2025, https://arxiv.org/abs/2502.09992), and
LLaDA-MoE 7B-A1B (Zhu et al., 2025, https://arxiv.org/abs/2509.24389).

Both call themselves llada; the second is OLMoE's body with OLMoE's names.
"""

from typing import Any

from punt_jax.models.decoder import Decoder
from punt_jax.models.families import body
from punt_jax.models.families.names import Names, sources
from punt_jax.models.layout import Layout, fixed, flag, layers, number
from punt_jax.models.parts import mask_id
from punt_jax.models.rope import Rope

TOP = 'model.transformer.'
NAMES = Names(
  embed=f'{TOP}wte.weight', norm=f'{TOP}ln_f.weight',
  readout=f'{TOP}ff_out.weight', layer=f'{TOP}blocks.{{}}.',
  attention_norm='attn_norm', mlp_norm='ff_norm', query='q_proj',
  key='k_proj', value='v_proj', out='attn_out', gate='ff_proj',
  up='up_proj', down='ff_out',
)


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
  vocab = size('vocab_size')
  module = body.divides(Decoder(
    vocab=size('embedding_size', low=vocab, default=vocab),
    width=width,
    layers=layers(config, 'n_layers'),
    heads=heads,
    groups=size('n_kv_heads', default=heads),
    size=width // heads,
    hidden=size('mlp_hidden_size'),
    rope=Rope(size('rope_theta', kind=float)),
    eps=size('rms_norm_eps', low=0, kind=float),
    tied=flag(config, 'weight_tying', False),
  ))
  return Layout(
    module,
    sources(module, NAMES),
    vocab,
    mask_id(config),
    size('max_sequence_length'),
    copies={NAMES.readout: NAMES.embed} if module.tied else {},
  )


def llada_moe(config: dict[str, Any]) -> Layout:
  """LLaDA-MoE, from config.json."""
  fixed(
    config, clip_qkv=None, moe_router_score_function='softmax',
    norm_topk_prob=False, router_num_group=None, router_topk_group=None,
  )
  config.get('routed_scaling_factor')  # their network does not read it either
  wide = number(config, 'expert_intermediate_size')
  settings = body.experts(
    config, hidden=wide, router='softmax', renormalize=False,
    bias=flag(config, 'moe_router_enable_expert_bias', False),
    shared=number(config, 'shared_expert_intermediate_size', 0, 0),
  )
  bias = flag(config, 'attention_bias', False)
  module = body.decoder(
    config, experts=settings, dense=_dense(config), bias=bias, out_bias=bias,
    hidden=number(config, 'dense_intermediate_size', default=wide),
    qk_norm=flag(config, 'qk_layernorm', False),
  )
  return body.layout(config, module, Names(shared='shared_expert.'))


def _dense(config):
  """How many layers have no experts: the first ones, by moe_layer_freq."""
  depth = layers(config, 'num_hidden_layers')
  said = config.get('moe_layer_freq')
  said = [1] * depth if said in (None, 1) else said
  dense = said.count(0) if isinstance(said, list) else depth
  if dense == depth or said != [0] * dense + [1] * (depth - dense):
    raise ValueError(
      f'config.json: moe_layer_freq = {said!r:.60} is not implemented: it must'
      f' have {depth} numbers, of which the last are 1 and those before them 0'
    )
  return dense
