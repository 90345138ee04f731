"""Configs for the families of models: our settings, and their authors'.

configs/llada.py, configs/dream.py, configs/mdlm.py and configs/block.py say
what they are.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from punt_jax import jsonl
from punt_jax.checks import known
from punt_jax.cli import configs
from punt_jax.generation import sampler_text
from punt_jax.generation.presets import DREAM, LLADA, PUBLISHED
from punt_jax.models import families as networks
from punt_jax.text import chat
from punt_jax.types import FilePath

BLOCKS = dict(chat=True, max_new_tokens=256, block_length=64, eos_last=True)
OURS = {  # where one canvas is one block, for a chat or not
  'rnd1': BLOCKS | dict(chat=False), 'llada_moe': BLOCKS,
}
HELP = (
  'Settings of a family, llada, dream, mdlm, llada2, sdar, ..., or of its'
  ' authors: llada:instruct_gsm8k, sdar:greedy. That of the model unless told.'
)


def llada(name: str = 'punt') -> Any:
  """The config called `name`: 'punt' or one of presets.LLADA."""
  known('preset', name, ('punt', *LLADA))
  config = configs.defaults()
  if name == 'punt':
    config.update(BLOCKS)
    return config
  config.chat = name != 'base'
  config.update(LLADA[name])
  config.samplers.top_k = dict(k=1, score='draft')
  config.sampler.name = 'top_k'
  return config


def dream(name: str = 'punt') -> Any:
  """The config called `name`: 'punt' or one of presets.DREAM."""
  known('preset', name, ('punt', *DREAM))
  config = configs.defaults()
  if name == 'punt':
    config.update(BLOCKS | dict(temperature=0.1, top_p=0.9))
    return config
  config.update(DREAM[name])
  if name.startswith('base'):
    config.prefix = '<|beginoftext|>'  # the tokenizer's BOS
  config.samplers.top_k = dict(k=1, score='entropy')
  config.sampler.name = 'top_k'
  return config


def mdlm(name: str = 'punt') -> Any:
  """The config called `name`: 'punt' or 'ancestral'."""
  config = configs.defaults()
  config.max_new_tokens = 1024
  config.temperature = 1.0
  config.stop = False
  config.samplers.ancestral = dict(steps=1000)
  config.sampler.name = known('preset', name, ('punt', 'ancestral'))
  return config


def published(family: str, name: str = 'punt') -> Any:
  """The config called `name`: 'punt' or one of presets.PUBLISHED[family]."""
  there = PUBLISHED[family]
  known('preset', name, ('punt', *there))
  config = configs.defaults()
  if name == 'punt':
    config.update(OURS.get(family, dict(chat=True, max_new_tokens=256)))
    return config
  config.update(there[name].settings)
  rule, said = sampler_text.parse(there[name].sampler)
  config.samplers[rule] = said
  config.sampler.name = rule
  return config


FAMILIES = {'llada': llada, 'dream': dream, 'mdlm': mdlm} | {
  family: functools.partial(published, family) for family in PUBLISHED
}


def preset(text: str) -> Any:
  """The config of 'llada', 'llada:instruct_gsm8k', 'sdar:greedy', ..."""
  family, *name = text.split(':', 1)
  return FAMILIES[known('family', family, FAMILIES)](*name)


def of_folder(model: FilePath) -> str | None:
  """The family of a checkpoint directory, None for all else."""
  config = jsonl.read_object(pathlib.Path(model, 'config.json'))
  try:
    family = networks.name(config)
  except ValueError:  # it is said when the model is loaded
    return None
  return family if family in FAMILIES else None


def default(typed: Callable[[str], str | None]) -> Any:
  """The config of a command that was given none.

  That of --preset, else that of the model's family, which is asked as in a chat
  if it has a template for it.

  Args:
    typed: name -> what was typed for a flag, or None.
  """
  wanted = typed('preset')
  if wanted:
    return preset(wanted)
  config = configs.defaults()
  model = typed('model') or config.model
  family = of_folder(model)
  if family:
    config = preset(family)
  elif not pathlib.Path(model, 'config.json').exists():
    config.temperature = 0.5  # a small model of train.export, as in the demo
  config.model = model
  config.chat = chat.chat_template(model) is not None
  # Lowers max_new_tokens where the canvas would be longer than the model knows.
  config.fit = typed('max_new_tokens') is None
  return config


def said(config: Any, preset: str | None) -> str:
  """Whose settings `default` has chosen by itself (preset ''), or ''."""
  family = of_folder(config.model)
  if preset != '' or not family:
    return ''
  asked = ', as a chat (--nochat: no chat)' if config.chat else ''
  return f'settings of {family}{asked}; --preset has others, --help lists all'
