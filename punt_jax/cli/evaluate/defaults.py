"""What an evaluation reads: its presets; configs/evaluate.py is the manual.

Canvas, blocks, temperature and end tokens are the authors' of the model
(punt_jax/generation/presets.py), those of `block` are ours. top_k with k = 1 is
their rule; what else stands under `samplers` takes its place.
"""

from collections.abc import Callable
from typing import Any

from punt_jax.checks import known
from punt_jax.cli import configs, families
from punt_jax.generation.presets import DREAM, LLADA, PUBLISHED
from punt_jax.text import chat

HELP = (
  'Tasks and their settings: llada, llada_base, dream, dream_base, block (the'
  ' models of configs/block.py) or block_base; some of the tasks:'
  ' llada/gsm8k,ifeval. That of the model unless told.'
)

PRESETS = {
  'llada': {
    'gsm8k': dict(shots=4, **LLADA['1.5_gsm8k']),
    'ifeval': LLADA['1.5_ifeval'],
    'humaneval_instruct': LLADA['1.5_humaneval'],
    'mbpp_instruct': dict(shots=3, **LLADA['1.5_mbpp']),
  },
  'llada_base': {
    'gsm8k': dict(shots=4, **LLADA['base']),
    'humaneval': LLADA['base'],
    'mbpp': dict(shots=3, **LLADA['base']),
  },
  'dream': {
    'gsm8k_cot': DREAM['instruct_gsm8k'],
    'ifeval': DREAM['instruct_ifeval'],
    'humaneval_instruct': DREAM['instruct_humaneval'],
    'mbpp_instruct': dict(shots=3, **DREAM['instruct_mbpp']),
  },
  'dream_base': {
    'gsm8k': dict(shots=8, **DREAM['base_gsm8k']),
    'humaneval': DREAM['base_humaneval'],
    'mbpp': dict(shots=3, **DREAM['base_mbpp']),
  },
  'block': {  # ours: each has published others, see presets.PUBLISHED
    'gsm8k': dict(shots=4, max_new_tokens=512),
    'ifeval': dict(max_new_tokens=1024),
    'humaneval_instruct': dict(max_new_tokens=512),
    'mbpp_instruct': dict(shots=3, max_new_tokens=512),
  },
  'block_base': {
    'gsm8k': dict(shots=4, max_new_tokens=512),
    'humaneval': dict(max_new_tokens=512),
    'mbpp': dict(shots=3, max_new_tokens=512),
  },
}


def get_config(name: str = 'llada') -> Any:
  """Plain values; this command and the generator read every one.

  Args:
    name: one of PRESETS, and behind a slash some of its tasks, by commas.
  """
  name, _, tasks = name.partition('/')
  preset = PRESETS[known('preset', name, PRESETS)]
  base = name.endswith('_base')
  config: Any = configs.defaults()
  del config.escapes  # nobody types a prompt
  config.data = ''  # folder of the questions
  config.limit = 0  # questions of each task; 0: all
  config.more = ''  # folder of more task files of lm-eval
  config.draws = 128  # masks per answer, for tasks that ask for likelihoods
  config.chat = not base
  if name == 'dream_base':
    config.prefix = '<|beginoftext|>'  # the tokenizer's BOS
  # What a task says stands in for the same value above; `shots` are examples.
  config.tasks = {
    task: preset[known('task', task, preset)]
    for task in (tasks.split(',') if tasks else preset)
  }
  # One value or several of each setting; every combination is run.
  order = 'entropy' if name.startswith('dream') else 'draft'
  config.samplers = dict(
    top_k=dict(k=(1, 2, 4, 8), score=order),
    entropy_bound=dict(gamma=(0.05, 0.2, 1.0), score=order),
    punt=dict(epsilon=(0.01, 0.04, 0.16), score=order),
  )
  config.sampler.name = None  # or one of them
  return config


def default(typed: Callable[[str], str | None]) -> Any:
  """The config of a command that was given none: that of --preset.

  Else that of the model's family; `_base` for one without a chat template.

  Args:
    typed: name -> what was typed for a flag, or None.
  """
  model = typed('model') or ''
  family = families.of_folder(model)
  family = 'block' if family in PUBLISHED else family
  family = family if family in ('block', 'dream') else 'llada'
  base = '' if chat.chat_template(model) else '_base'
  return get_config(typed('preset') or family + base)
