"""The settings that authors published with their models.

LLADA and DREAM: {benchmark: what differs from generator.Settings, and
block_length}. What is not said: one block, temperature 0. LLaDA's are of
EVAL.md in ML-GSAI/LLaDA, Dream's of eval and eval_instruct in DreamLM/Dream;
configs/llada.py and configs/dream.py say where our loop differs from theirs.

PUBLISHED, of the models that came later: {family: {name: Preset}}. Most write
in blocks, of the length that the model has; see configs/block.py. No published
weights have been run with any of them.
"""

from typing import Any, NamedTuple

LAST = dict(eos_last=True)
# One token per step, the surest first.
LLADA = {
  'base': dict(max_new_tokens=1024),  # GSM8K, MATH, HumanEval, MBPP, BBH
  'instruct_mmlu': dict(max_new_tokens=3),
  'instruct_mmlu_pro': dict(max_new_tokens=256),
  'instruct_arc_c': dict(max_new_tokens=512),
  'instruct_gpqa': dict(max_new_tokens=64),
  'instruct_gsm8k': dict(max_new_tokens=256, block_length=8),
  'instruct_gsm8k_one_block': dict(max_new_tokens=512, **LAST),
  'instruct_math': dict(max_new_tokens=512, block_length=64),
  'instruct_math_one_block': dict(max_new_tokens=512),
  'instruct_humaneval': dict(max_new_tokens=512, ban=('eos',)),
  'instruct_mbpp': dict(max_new_tokens=256),
  '1.5_gsm8k': dict(max_new_tokens=256, block_length=16, **LAST),
  '1.5_math': dict(max_new_tokens=1024, block_length=128, **LAST),
  '1.5_gpqa': dict(max_new_tokens=256, block_length=16),
  '1.5_humaneval': dict(max_new_tokens=512, block_length=32, **LAST),
  '1.5_mbpp': dict(max_new_tokens=512, block_length=32, **LAST),
  '1.5_ifeval': dict(max_new_tokens=256, block_length=16, **LAST),
}

CHAT = dict(chat=True, temperature=0.1, top_p=0.9, judged=True)
CODE = dict(temperature=0.2, top_p=0.95, judged=True)
DREAM = {
  'base_gsm8k': dict(max_new_tokens=256),
  'base_math': dict(max_new_tokens=512),
  'base_bbh': dict(max_new_tokens=512),
  'base_humaneval': dict(max_new_tokens=512, **CODE),
  'base_mbpp': dict(max_new_tokens=512, **CODE),
  'instruct_mmlu': dict(max_new_tokens=128, **CHAT),
  'instruct_mmlu_pro': dict(max_new_tokens=128, **CHAT),
  'instruct_gsm8k': dict(max_new_tokens=256, **CHAT),
  'instruct_math': dict(max_new_tokens=512, **CHAT),
  'instruct_humaneval': dict(max_new_tokens=768, **CHAT),
  'instruct_mbpp': dict(max_new_tokens=1024, **CHAT),
  'instruct_ifeval': dict(max_new_tokens=1280, **CHAT),
}


class Preset(NamedTuple):
  """What authors wrote about a way to sample from their model."""

  source: str  # where
  sampler: str  # their rule, as sampler_text reads it
  settings: dict[str, Any]  # what differs from generator.Settings
  note: str = ''  # where ours is another
  scores: dict[str, float] = {}  # percent, by benchmark, that they report


# Written where the probability is above tau, and the surest in any case.
SURE = 'threshold(tau={})'
TURN = dict(chat=True)
LONG = dict(chat=True, max_new_tokens=2048)
CARD = (  # of LLaDA2.1
  'card of LLaDA2.1-mini, and docs of LLaDA2Pipeline in huggingface/diffusers'
)
NO_EDIT = 'theirs also edits tokens that it has written, with threshold {}'
A2D = 'examples/a2d/README.md of ZHZisZZ/dllm'
PUBLISHED = {
  'llada2': {
    '2.0': Preset(
      'defaults of generate() in modeling_llada2_moe.py of LLaDA2.0',
      SURE.format(0.95), LONG,
    ),
    '2.1_quality': Preset(CARD, SURE.format(0.7), TURN, NO_EDIT.format(0.5)),
    '2.1_speed': Preset(CARD, SURE.format(0.5), TURN),
  },
  'sdar': {
    'dynamic': Preset(
      'defaults of generate.py in JetAstra/SDAR (low_confidence_dynamic)',
      'threshold(tau=0.85, of=draft)', dict(chat=True, temperature=1.0),
    ),
    'engine': Preset(
      'examples of the engine in the README of JetAstra/SDAR',
      'threshold(tau=0.9, of=draft)', dict(chat=True, temperature=1.0),
      'the temperature is that of generate.py',
    ),
    'greedy': Preset(
      'evaluations of JetAstra/SDAR: greedy, blocks of 4 in 4 steps',
      'top_k(k=1, score=draft)', TURN,
    ),
  },
  'fast_dllm': {
    'chat': Preset(
      'v2/run_chatbot.py of NVlabs/Fast-dLLM', SURE.format(0.9),
      LONG | dict(block_length=8),
      'theirs may reuse keys and values within a block, which is approximate',
    ),
    'function': Preset(
      'the default of its function in v2 of NVlabs/Fast-dLLM',
      SURE.format(0.95), LONG | dict(block_length=8),
    ),
  },
  'nemotron': {
    'diffusion': Preset(
      'diffusion mode in Megatron-Bridge of NVIDIA-NeMo',
      'top_k(k=1, score=entropy)', TURN,
      'no negative entropy is above their threshold of 0.9, so that their rule'
      ' writes the position of the least entropy, one a pass',
    ),
  },
  'dream_reasoner': {
    '8b': Preset(
      'block_diffusion_generate of DreamReasoner-8B', SURE.format(0.9), LONG,
      'the temperature is ours',
    ),
  },
  'stable_diffcoder': {},
  'llada_moe': {},
  'rnd1': {
    'base': Preset(
      'defaults of RND1-Base-0910: 256 steps, those of high entropy wait',
      'top_k(k=1, score=entropy)', dict(max_new_tokens=256),
      'with as many steps as tokens, one token a step',
    ),
  },
  'a2d': {
    'mdlm': Preset(
      A2D, 'top_k(k=1, score=draft)', dict(chat=True, max_new_tokens=256),
      scores={'gsm8k': 29.3, 'humaneval': 30.5},
    ),
    'bd3lm': Preset(
      A2D, 'top_k(k=1, score=draft)', dict(chat=True, max_new_tokens=256),
      scores={'gsm8k': 46.3, 'humaneval': 46.3},
    ),
  },
}
