"""What random checkpoints are: config.json, special tokens and chat template.

Keys and templates are those of the published models; sizes and ids are not.
"""

from typing import Any, NamedTuple

from punt_jax import checks

SIZES = {  # width, layers, heads, key heads, hidden
  'tiny': (64, 2, 4, 2, 128),
  'small': (512, 8, 8, 4, 1536),
  '1b': (2048, 16, 16, 8, 6144),
  '8b': (4096, 32, 32, 32, 12288),
}
EXPERTS = {'tiny': (8, 2), 'small': (32, 4), '1b': (64, 8), '8b': (128, 8)}
LENGTH = 4096
LLADA = (
  '{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}'
  '<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}'
  "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
CHATML = (
  '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>'
  "\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
ROLES = (  # LLaDA2 and LLaDA-MoE
  "{% if messages[0].role != 'system' %}<role>SYSTEM</role>detailed thinking"
  ' off<|role_end|>{% endif %}{% for m in messages %}<role>'
  "{{ 'HUMAN' if m.role == 'user' else m.role | upper }}</role>"
  '{{ m.content }}<|role_end|>{% endfor %}<role>ASSISTANT</role>'
)


class Special(NamedTuple):
  """The tokens of a model that are no bytes: the ids from 256 on."""

  tokens: tuple[str, ...]
  mask: str
  bos: str | None = None
  eos: str | None = None
  template: str | None = None

  def id(self, token: str | None) -> int:
    """The id of one of them."""
    return 256 + self.tokens.index(str(token))


QWEN = Special(
  ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|MASK|>'), '<|MASK|>',
  eos='<|im_end|>', template=CHATML,
)
ANT = Special(
  ('<|startoftext|>', '<|endoftext|>', '<role>', '</role>', '<|role_end|>',
   '<|mask|>'),
  '<|mask|>', '<|startoftext|>', '<|endoftext|>', ROLES,
)
SPECIAL = {
  'llada': Special(
    ('<|startoftext|>', '<|endoftext|>', '<|eot_id|>', '<|mdm_mask|>',
     '<|start_header_id|>', '<|end_header_id|>'),
    '<|mdm_mask|>', '<|startoftext|>', '<|endoftext|>', LLADA,
  ),
  'dream': Special(
    ('<|beginoftext|>', '<|endoftext|>', '<|im_end|>', '<|mask|>',
     '<|im_start|>', '<|pad|>'),
    '<|mask|>', '<|beginoftext|>', '<|endoftext|>', CHATML,
  ),
  'mdlm': Special(
    ('<|begin|>', '<|endoftext|>', '[MASK]'), '[MASK]', '<|begin|>',
    '<|endoftext|>',
  ),
  'bert': Special(
    ('[CLS]', '[SEP]', '[PAD]', '[MASK]'), '[MASK]', '[CLS]', '[SEP]'
  ),
  'llada_moe': ANT,
  'llada2': ANT,
  'sdar': QWEN,
  'sdar_moe': QWEN,
  'fast_dllm': QWEN._replace(
    tokens=(*QWEN.tokens[:3], '|<MASK>|'), mask='|<MASK>|'
  ),
  'nemotron': Special(
    ('<s>', '</s>', '<|im_start|>', '<|im_end|>', '<mask>'), '<mask>', '<s>',
    '<|im_end|>', CHATML,
  ),
  'dream_reasoner': QWEN,
  'stable_diffcoder': Special(
    ('<s>', '<pad>', '</s>', '<|im_start|>', '<|im_end|>', '<mask>'), '<mask>',
    '<s>', '</s>', CHATML,
  ),
  'rnd1': QWEN,
  'a2d': QWEN._replace(tokens=(*QWEN.tokens[:3], '<|mask|>'), mask='<|mask|>'),
  'a2d_block': QWEN._replace(
    tokens=(*QWEN.tokens[:3], '<|mask|>'), mask='<|mask|>'
  ),
}
SAYS = {  # beside sizes and ids: what tells a model of transformers' keys
  'dream': dict(model_type='Dream', bos_token_id=257),
  'sdar': dict(
    model_type='sdar', architectures=['SDARForCausalLM'], attention_bias=False,
    block_length=4,
  ),
  'sdar_moe': dict(
    model_type='sdar_moe', architectures=['SDARMoeForCausalLM'],
    attention_bias=False, block_length=4, decoder_sparse_step=1,
    mlp_only_layers=[],
  ),
  'fast_dllm': dict(
    model_type='Fast_dLLM_Qwen', architectures=['Fast_dLLM_QwenForCausalLM'],
    bd_size=8,
  ),
  'nemotron': dict(
    model_type='nemotron_labs_diffusion', attention_bias=False, mlp_bias=False,
    architectures=['NemotronLabsDiffusionModel'], block_size=8,
    rope_parameters=dict(
      rope_type='yarn', rope_theta=1e6, factor=16.0, beta_fast=32.0,
      beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1,
      original_max_position_embeddings=256,
    ),
  ),
  'dream_reasoner': dict(
    model_type='DreamReasoner', architectures=['DreamReasonerForCausalLM'],
    attention_bias=False, block_length=8,
  ),
  'stable_diffcoder': dict(
    model_type='llama', architectures=['StableDiffcoderForCausalLM'],
    attention_bias=False, mlp_bias=False, block_length=4,
  ),
  'rnd1': dict(
    model_type='rnd1', architectures=['RND1LM'], attention_bias=False,
    is_causal=False, decoder_sparse_step=1, mlp_only_layers=[],
  ),
  'a2d': dict(
    model_type='a2d-qwen3', architectures=['A2DQwen3LMHeadModel'],
    attention_bias=False, tie_word_embeddings=True, block_length=0,
  ),
  'a2d_block': dict(
    model_type='a2d-qwen3', architectures=['A2DQwen3LMHeadModel'],
    attention_bias=False, tie_word_embeddings=True, block_length=8,
  ),
  'llada_moe': dict(
    model_type='llada', architectures=['LLaDAMoEModelLM'], clip_qkv=None,
    attention_bias=False, qk_layernorm=True, norm_topk_prob=None,
    moe_router_score_function='softmax', partial_rotary_factor=1.0,
  ),
  'llada2': dict(
    model_type='llada2_moe', architectures=['LLaDA2MoeModelLM'],
    first_k_dense_replace=1, num_shared_experts=1, n_group=4, topk_group=2,
    routed_scaling_factor=2.5, score_function='sigmoid', router_dtype='fp32',
    moe_router_enable_expert_bias=True, use_qk_norm=True, use_qkv_bias=False,
    use_bias=False, partial_rotary_factor=0.5, block_length=8,
  ),
}
MOE = 'sdar_moe', 'rnd1', 'llada_moe', 'llada2'


def describe(model: str, size: str, vocab: int | None = None) -> dict[str, Any]:
  """config.json of a model of this size.

  Args:
    model: one of SPECIAL.
    size: one of SIZES.
    vocab: rows of the embedding; 256 bytes and the specials by default.
  """
  checks.known('model', model, SPECIAL)
  checks.known('size', size, SIZES)
  special = SPECIAL[model]
  vocab = vocab or 256 + len(special.tokens)
  shared = dict(vocab_size=vocab, mask_token_id=special.id(special.mask))
  if model in SAYS:
    return shared | _transformers(model, size)
  width, layers, heads, groups, hidden = SIZES[size]
  if model == 'llada':
    return shared | dict(
      model_type='llada', d_model=width, n_layers=layers, n_heads=heads,
      n_kv_heads=groups, mlp_hidden_size=hidden, embedding_size=vocab,
      max_sequence_length=LENGTH, rope_theta=500000.0, rms_norm_eps=1e-5,
      weight_tying=False, block_type='llama', eos_token_id=257,
      pad_token_id=257,
    )
  if model == 'mdlm':
    return shared | dict(
      model_type='mdlm', hidden_dim=width, n_blocks=layers, n_heads=heads,
      cond_dim=width // 4, model_length=LENGTH, dropout=0.1,
      time_conditioning=False,
    )
  return shared | dict(
    model_type='bert', hidden_size=width, num_hidden_layers=layers,
    num_attention_heads=heads, intermediate_size=hidden, hidden_act='gelu',
    max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12,
    pad_token_id=258,
  )


def _transformers(model, size):
  """Of a model with the keys of transformers' Llama and Qwen."""
  width, layers, heads, groups, hidden = SIZES[size]
  special = SPECIAL[model]
  config = dict(
    hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
    num_key_value_heads=groups, intermediate_size=hidden,
    max_position_embeddings=LENGTH, rms_norm_eps=1e-6, hidden_act='silu',
    tie_word_embeddings=False, eos_token_id=special.id(special.eos),
    pad_token_id=special.id(special.eos),
  )
  if model != 'nemotron':
    config['rope_theta'] = 1e6
  if model not in ('dream', 'fast_dllm'):
    config['head_dim'] = width // heads
  if model in MOE:
    count, chosen = EXPERTS[size]
    kind = 'expert' if model == 'llada_moe' else 'moe'
    config |= {
      'num_experts': count, 'num_experts_per_tok': chosen,
      f'{kind}_intermediate_size': hidden // count,
    }
  if model == 'llada_moe':
    config['dense_intermediate_size'] = config.pop('intermediate_size')
  return config | SAYS[model]
