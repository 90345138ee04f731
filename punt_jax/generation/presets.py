"""The evaluation settings that authors published with their models.

{benchmark: what differs from generator.Settings, and block_length}. What is not
said: one block, temperature 0. LLaDA's are of EVAL.md in ML-GSAI/LLaDA, Dream's
of eval and eval_instruct in DreamLM/Dream; configs/llada.py and
configs/dream.py say where our loop differs from theirs. No published weights
have been run with them.
"""

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
