"""The bodies of Qwen2, Qwen3, Qwen3-MoE and Llama that were taught to fill in.

Dream (https://arxiv.org/abs/2508.15487), SDAR (https://arxiv.org/abs/2510.06303),
Fast-dLLM v2 (https://arxiv.org/abs/2509.26328), DreamReasoner
(https://arxiv.org/abs/2606.19257), Nemotron-Labs-Diffusion
(https://arxiv.org/abs/2607.05722), Stable-DiffCoder, RND1, and dllm's Tiny-A2D.
All have the names of transformers; what differs is said in a line or two.
"""

from typing import Any

from punt_jax.models import moe
from punt_jax.models.families import body
from punt_jax.models.families.names import Names
from punt_jax.models.layout import Layout, fixed, flag, number


def dream(config: dict[str, Any]) -> Layout:
  """Dream 7B, DiffuCoder, Dream-Coder: Qwen2, outputs shifted."""
  fixed(config, rope_scaling=None)
  return body.layout(config, body.decoder(config, bias=True), shifted=True)


def sdar(config: dict[str, Any]) -> Layout:
  """SDAR 1.7B to 30B-A3B: Qwen3, dense or with experts, in blocks."""
  hint = "SDAR: 4, or what stands behind -b at the end of the model's name"
  return _qwen3(config, block_length=body.block_length(config, hint))


def dream_reasoner(config: dict[str, Any]) -> Layout:
  """DreamReasoner 8B: Qwen3 in blocks; unlike Dream not shifted."""
  length = body.block_length(config, 'DreamReasoner-8B: 32')
  return _qwen3(config, block_length=length)


def rnd1(config: dict[str, Any]) -> Layout:
  """RND1 30B-A3B: Qwen3-MoE that looks both ways, outputs shifted."""
  return _qwen3(config, shifted=True)


def fast_dllm(config: dict[str, Any]) -> Layout:
  """Fast-dLLM v2 1.5B and 7B: Qwen2 in blocks, outputs shifted."""
  length = body.block_length(config, 'Fast-dLLM v2: 32')
  module = body.decoder(config, bias=True, block_length=length)
  return body.layout(config, module, shifted=True)


def nemotron(config: dict[str, Any]) -> Layout:
  """Nemotron-Labs-Diffusion 3B, 8B, 14B: Ministral 3, causal before a block."""
  module = _llama(
    config, causal=True, anchored=True,
    block_length=body.block_length(config, 'Nemotron-Labs-Diffusion: 32'),
  )
  names = Names(
    embed='encoder.embed_tokens.weight', norm='encoder.norm.weight',
    readout='diffusion_head.weight', layer='encoder.layers.{}.',
  )
  shifted = flag(config, 'shift_logits', False)
  return body.layout(config, module, names, shifted)


def stable_diffcoder(config: dict[str, Any]) -> Layout:
  """Stable-DiffCoder 8B: Llama in blocks."""
  hint = 'Stable-DiffCoder-8B: 4'
  length = body.block_length(config, hint)
  return body.layout(config, _llama(config, block_length=length))


def a2d(config: dict[str, Any]) -> Layout:
  """Tiny-A2D by dllm: Qwen3, Qwen2 or Llama, whole (mdlm) or in blocks."""
  hint = 'Tiny-A2D: 0, all positions at once, for mdlm; 32 for bd3lm'
  length = body.block_length(config, hint, low=0)
  name = body.said(config)
  if 'qwen3' in name:
    return _qwen3(config, block_length=length)
  if 'qwen2' in name:
    fixed(config, attention_bias=True)
    module = body.decoder(config, bias=True, block_length=length)
  else:
    module = _llama(config, block_length=length)
  return body.layout(config, module)


def _llama(config, **switches):
  bias = flag(config, 'attention_bias', False)
  return body.decoder(config, bias=bias, out_bias=bias, **switches)


def _qwen3(config, shifted=False, **switches):
  """Qwen3: query and key are normed; with experts if it has their number."""
  if config.get('num_experts') is not None:
    switches['experts'] = _experts(config)
  return body.layout(
    config, _llama(config, qk_norm=True, **switches), shifted=shifted
  )


def _experts(config) -> moe.Settings:
  """Qwen3-MoE's, in every layer."""
  fixed(config, decoder_sparse_step=1, mlp_only_layers=[])
  return body.experts(
    config, hidden=number(config, 'moe_intermediate_size'), router='softmax',
    renormalize=flag(config, 'norm_topk_prob', True),
  )
