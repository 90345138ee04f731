"""LLaDA2.0 and 2.1, mini and flash (Bie et al., 2025,
https://arxiv.org/abs/2512.15745).

Blocks that see what is before them; one matrix for query, key and value; a
router that chooses experts by groups.
"""

from typing import Any

from punt_jax.models.families import body
from punt_jax.models.families.names import Names
from punt_jax.models.layout import Layout, fixed, flag, number

NAMES = Names(
  embed='model.word_embeddings.weight',
  **dict.fromkeys(('query', 'key', 'value'), 'attention.query_key_value'),
  query_norm='attention.query_layernorm',
  key_norm='attention.key_layernorm',
  out='attention.dense',
  router_bias='mlp.gate.expert_bias',
)


def llada2(config: dict[str, Any]) -> Layout:
  """LLaDA2.0 and 2.1, from config.json."""
  fixed(
    config, score_function='sigmoid', router_dtype='fp32', norm_head=False,
    norm_softmax=False, use_rmsnorm=True,
    using_split_qkv_in_self_attention=False,
  )
  wide = number(config, 'moe_intermediate_size')
  settings = body.experts(
    config, hidden=wide, router='sigmoid',
    renormalize=flag(config, 'norm_topk_prob', True),
    scale=number(config, 'routed_scaling_factor', 0, 1.0, float),
    groups=number(config, 'n_group', default=1),
    chosen_groups=number(config, 'topk_group', default=1),
    bias=flag(config, 'moe_router_enable_expert_bias', True),
    shared=wide * number(config, 'num_shared_experts', 0, 0),
  )
  head = number(config, 'head_dim')
  module = body.decoder(
    config, experts=settings, rope=body.rope(config, head, 0.5),
    dense=number(config, 'first_k_dense_replace', 0, 0),
    bias=flag(config, 'use_qkv_bias', False),
    out_bias=flag(config, 'use_bias', False),
    qk_norm=flag(config, 'use_qk_norm', True),
    block_length=body.block_length(config, 'LLaDA2.0 and 2.1: 32'),
  )
  if module.dense >= module.layers:
    raise ValueError(
      f'config.json: first_k_dense_replace = {module.dense} leaves none of the'
      f' {module.layers} layers to the experts'
    )
  return body.layout(config, module, NAMES)
