"""Which family a config.json is of, and what it says of the network.

A family is a function, config.json as a dict -> Layout. `model_type` alone says
little: LLaDA-MoE calls itself llada, Stable-DiffCoder llama, and what is called
qwen3 writes from left to right. So `recognise` reads what a config calls the
model and its code, and looks at keys that only one of two has.
"""

import re
from collections.abc import Callable
from typing import Any

from punt_jax.models import bert, dit
from punt_jax.models.families import body, llada, llada2, qwen
from punt_jax.models.layout import Layout

Family = Callable[[dict[str, Any]], Layout]

ALONE = {  # model_type, which says it all
  'bert': bert.layout, 'mdlm': dit.layout, 'roberta': bert.layout,
}
Either = tuple[str, Family, Family]  # a key; if a config has it, and if not
FAMILIES: dict[str, Family | Either] = {  # what a config calls its model
  r'\ba2d': qwen.a2d,
  r'\bdream': ('attention_bias', qwen.dream_reasoner, qwen.dream),
  r'\bfast_dllm': qwen.fast_dllm,
  r'\bllada2': llada2.llada2,
  r'\bllada': ('num_experts', llada.llada_moe, llada.llada),
  r'\bnemotron_?labs_?diffusion': qwen.nemotron,
  r'\brnd1': qwen.rnd1,
  r'\bsdar': qwen.sdar,
  r'\bstable_?diffcoder': qwen.stable_diffcoder,
}
KNOWN = (
  'bert, roberta, mdlm, llada (and its MoE), llada2_moe (2.0, 2.1), dream,'
  ' DreamReasoner, sdar, sdar_moe, Fast_dLLM_Qwen, nemotron_labs_diffusion,'
  ' rnd1, a2d-qwen3, a2d-qwen2, a2d-llama and Stable-DiffCoder'
)
IMAGES = (  # a key of models that see
  'vision_config', 'vision_tower', 'mm_vision_tower', 'visual', 'audio_config',
  'image_token_id', 'image_token_index', 'image_token_offset', 'codebook_size',
)
NO_MASK = 'has no MASK: its noise is tokens drawn at random'
WHY_NOT = (  # what a config calls its model, or a key that it has: why not
  (r'diffusion_?gemma', (), f'DiffusionGemma {NO_MASK}'),
  (r'\blfm2', (), f'LFM2 {NO_MASK}; its layers convolve'),
  (
    r'\bwedlm', (), 'WeDLM puts known tokens in front of the masks of a window,'
    ' under causal attention: that is a loop of its own',
  ),
  (
    r'vl(m|for|chat|\b)|llava|mmada', IMAGES,
    'this model reads images or sound: only models of text are read',
  ),
  (
    None, ('delete_token_id', 'split_token_id', 'expert_capacity'),
    'LLaDA2.2 chooses experts for a whole block, and has tokens that delete and'
    ' split positions: only LLaDA2.0 and 2.1 are read',
  ),
)
AUTOREGRESSIVE = (
  r'causallm|lmheadmodel|\b(llama|qwen\d|mistral|gemma\d?|gpt2)(_moe)?\b'
)


def recognise(config: dict[str, Any]) -> Family:
  """The family that a config.json belongs to.

  Raises:
    ValueError: one sentence that says why it is of none.
  """
  kind, said = config.get('model_type'), body.said(config)
  if isinstance(kind, str) and kind.lower() in ALONE:
    return ALONE[kind.lower()]
  for pattern, keys, why in WHY_NOT:
    has = any(config.get(key) is not None for key in keys)
    if has or pattern and re.search(pattern, said):
      raise ValueError(f'config.json: {why}')
  for pattern, family in FAMILIES.items():
    if not re.search(pattern, said):
      continue
    if not isinstance(family, tuple):
      return family
    key, with_it, without = family
    return without if config.get(key) is None else with_it
  if re.search(AUTOREGRESSIVE, said):
    raise ValueError(
      f'config.json: {said.split()[0]:.60} writes from left to right, one token'
      ' after the other, and was not trained to fill in masks'
    )
  raise ValueError(
    f'config.json: model_type {kind!r:.40} is not implemented, only {KNOWN}'
  )


def name(config: dict[str, Any]) -> str:
  """What the family of a config.json is called; errors as of `recognise`."""
  family, kind = recognise(config), str(config.get('model_type')).lower()
  return kind if kind in ALONE else family.__name__
