"""Small configs of the families of decoders, with settings that can be seen.

As published, but for sizes, an eps that matters, YaRN and a scale of queries
that begin after a few positions, and heads that are no share of the width.
"""

BODY = dict(
  vocab_size=23, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
  num_key_value_heads=2, head_dim=6, intermediate_size=24, hidden_act='silu',
  max_position_embeddings=64, rms_norm_eps=1e-3, tie_word_embeddings=False,
  mask_token_id=22,
)
QWEN3 = BODY | dict(rope_theta=1e6, attention_bias=False)
EXPERTS = dict(
  num_experts=6, num_experts_per_tok=2, moe_intermediate_size=8,
  norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
)
LLADA_MOE = {
  key: value for key, value in BODY.items() if key != 'intermediate_size'
} | dict(
  model_type='llada', architectures=['LLaDAMoEModelLM'], rope_theta=5e4,
  attention_bias=False, qk_layernorm=True, num_experts=6,
  num_experts_per_tok=2, expert_intermediate_size=8,
  dense_intermediate_size=24, norm_topk_prob=None,
  moe_router_score_function='softmax', partial_rotary_factor=1.0,
  moe_layer_freq=[1, 1],
)
SMALL = {
  'sdar': QWEN3 | dict(
    model_type='sdar', architectures=['SDARForCausalLM'], block_length=4,
    tie_word_embeddings=True,
  ),
  'sdar_moe': QWEN3 | EXPERTS | dict(
    model_type='sdar_moe', architectures=['SDARMoeForCausalLM'],
    block_length=3,
  ),
  'dream_reasoner': QWEN3 | dict(
    model_type='DreamReasoner', architectures=['DreamReasonerForCausalLM'],
    block_length=5,
  ),
  'rnd1': QWEN3 | EXPERTS | dict(
    model_type='rnd1', architectures=['RND1LM'], is_causal=False,
  ),
  'a2d': QWEN3 | dict(
    model_type='a2d-qwen3', architectures=['A2DQwen3LMHeadModel'],
    tie_word_embeddings=True, block_length=0,
  ),
  'fast_dllm': {
    key: value for key, value in BODY.items() if key != 'head_dim'
  } | dict(
    model_type='Fast_dLLM_Qwen', architectures=['Fast_dLLM_QwenForCausalLM'],
    bd_size=4, rope_theta=1e6,
  ),
  'stable_diffcoder': BODY | dict(
    model_type='llama', architectures=['StableDiffcoderForCausalLM'],
    block_length=4, rope_theta=5e5, attention_bias=False, mlp_bias=False,
  ),
  'nemotron': BODY | dict(
    model_type='nemotron_labs_diffusion', block_size=4, attention_bias=False,
    architectures=['NemotronLabsDiffusionModel'], mlp_bias=False,
    rope_parameters=dict(
      rope_type='yarn', rope_theta=100.0, factor=4.0, beta_fast=2.0,
      beta_slow=0.5, mscale=1.0, mscale_all_dim=0.5,
      llama_4_scaling_beta=0.1, original_max_position_embeddings=6,
    ),
  ),
  'llada_moe': LLADA_MOE,
  'llada_moe_bias': LLADA_MOE | dict(  # what its code can do and none has
    moe_router_enable_expert_bias=True, shared_expert_intermediate_size=7,
    moe_layer_freq=[0, 1],
  ),
  'llada2': BODY | dict(
    model_type='llada2_moe', architectures=['LLaDA2MoeModelLM'],
    num_hidden_layers=3, head_dim=8, rope_theta=6e5,
    partial_rotary_factor=0.5, first_k_dense_replace=1, num_experts=12,
    num_experts_per_tok=3, moe_intermediate_size=8, num_shared_experts=1,
    n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True,
    score_function='sigmoid', router_dtype='fp32', use_qk_norm=True,
    moe_router_enable_expert_bias=True, use_qkv_bias=False, use_bias=False,
    block_length=4,
  ),
}
SHIFTED = 'rnd1', 'fast_dllm'


def block_length(config):
  """B, under any of its names; 0: all positions see each other."""
  keys = 'block_length', 'block_size', 'bd_size'
  return next((config[key] for key in keys if key in config), 0)


def renamed(config, arrays):
  """Tensors of a family under the names of transformers' Llama and Qwen.

  Experts one by one; a router's bias is mlp.gate.bias, and shared experts are
  mlp.shared_experts, as in no family.
  """
  names = {
    'encoder.': 'model.', 'diffusion_head.': 'lm_head.',
    'word_embeddings': 'embed_tokens', '.attention.': '.self_attn.',
    'self_attn.dense': 'self_attn.o_proj', 'query_layernorm': 'q_norm',
    'key_layernorm': 'k_norm', '.shared_expert.': '.mlp.shared_experts.',
    'mlp.gate.expert_bias': 'mlp.gate.bias', 'mlp.expert_bias': 'mlp.gate.bias',
  }
  made = {}
  for name, x in arrays.items():
    for old, new in names.items():
      name = name.replace(old, new)
    made[name] = x
    if 'query_key_value' in name:
      del made[name]
      heads, groups = (
        config[f'num_{key}_heads'] for key in ('attention', 'key_value')
      )
      size = config['head_dim']
      rows = x.reshape(heads + 2 * groups, size, -1)
      parts = dict(
        q=rows[:heads], k=rows[heads:-groups], v=rows[-groups:]
      )
      for part, x in parts.items():
        new = name.replace('query_key_value', f'{part}_proj')
        made[new] = x.reshape(-1, x.shape[-1])
  return made
