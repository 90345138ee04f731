"""Configs of commands: their defaults, and from them to plain values."""

import inspect
import pathlib
from collections.abc import Callable, Collection
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh
from ml_collections import config_dict

from punt_jax import checkpoints, checks, parallel, samplers
from punt_jax.cli import manual
from punt_jax.generation import generator, options, sampler_text


def defaults() -> Any:
  """What the commands that generate texts read."""
  config = ml_collections.ConfigDict({
    **generator.Settings()._asdict(), 'kv_cache': config_dict.placeholder(bool)
  })
  config.model = 'shakespeare'  # that ships, a file of train.export, a folder
  config.samples = 1  # texts per prompt
  config.block_length = 0  # tokens per block, left to right; 0: all at once, or
  # the model's own blocks
  config.escapes = False  # \n in a prompt that is typed is a line break
  config.group = 1  # devices that share the weights; 1: each has all of them
  config.dtype = ''  # of the weights, 'bfloat16' or 'float32'; '': as stored
  config.ignore = ()  # keys of config.json that do not change the network
  # Of the model's own blocks, where config.json does not say it; 0: none.
  config.model_block_length = -1
  config.mask_id = -1  # where neither config.json nor the tokenizer says it
  # What the name of a sampler stands for, if nothing more is said.
  config.samplers = ml_collections.ConfigDict(options.USUAL)
  config.sampler = placeholders()  # any hyperparameter: --sampler.epsilon=0.05
  config.sampler.name = 'punt'
  return config


LIMITS = {  # of the numbers that `defaults` has, see checks.numbers
  'samples': (1,), 'block_length': (0,), 'group': (1,), 'max_new_tokens': (1,),
  'batch': (1,), 'bucket': (1,), 'temperature': (0.0,), 'top_p': (0.0, 1.0),
  'eos_penalty': (-1e9, 1e9), 'seed': (0, 2**32 - 1),
  'model_block_length': (-1,), 'mask_id': (-1,),
}


def check_numbers(config: Any) -> None:
  """Names the first number of `defaults` in a config that cannot be."""
  checks.numbers(config, {k: v for k, v in LIMITS.items() if k in config})


def is_for_texts(config: Any) -> bool:
  """Whether a config has what `defaults` has, or most of it."""
  return 'max_new_tokens' in config


def words() -> dict[str, str]:
  """{value: what it is} of `defaults`, from the comments beside them."""
  files = [inspect.getsourcefile(generator.Settings), __file__]
  found = {}
  for file in files:
    found |= manual.explained(pathlib.Path(file).read_text('utf-8'))
  return found


def write_with(
  config: Any, text: str, typed: Collection[str] = ()
) -> None:
  """Makes `text`, such as punt(epsilon=0.05), the config's one sampler.

  Args:
    config: is changed.
    text: str.
    typed: values of config.sampler that have flags of their own.

  Raises:
    ValueError: one sentence, see options.choose; or something is said twice.
  """
  name, said = sampler_text.parse(text)
  for key in {'name', *said} & {*typed}:
    raise ValueError(
      f'--sampler={text} and --sampler.{key} both say {key}: give one of them'
    )
  said = {k: config.sampler[k] for k in typed} | said
  listed = config.samplers.get(name, {})  # one value or several of each
  first = lambda value: value[0] if isinstance(value, (tuple, list)) else value
  options.choose(name, {**{k: first(v) for k, v in listed.items()}, **said})
  config.sampler.update(name=name, **said)


def placeholders() -> Any:
  """config.sampler: no name, and what any sampler can be told, all unset.

  So each can be set on the command line: --config.sampler.name=punt
  --config.sampler.epsilon=0.05.
  """
  config = ml_collections.ConfigDict({'name': config_dict.placeholder(str)})
  for name in samplers.NAMES:
    for hyperparam, default in options.signature(name).items():
      is_fixed = options.kind(default) in options.FIXED
      config[hyperparam] = config_dict.placeholder(
        type(default) if is_fixed else float
      )
  return config


def choose(config: Any) -> list[options.Choice]:
  """The samplers of this run: config.sampler if it is named, else all."""
  shared = {'block_length': config.block_length}
  chosen = config.sampler.to_dict()
  name = chosen.pop('name')
  if name is None:
    stray = [key for key, value in chosen.items() if value is not None]
    if stray:
      raise ValueError(
        f'config.sampler.{stray[0]} is set: say whose it is with'
        f' --config.sampler.name, one of {", ".join(samplers.NAMES)}'
      )
    order = {name: i for i, name in enumerate(samplers.NAMES)}
    if not config.samplers:
      raise ValueError('config.samplers is empty: name at least one sampler')
    listed = sorted(config.samplers, key=lambda name: order.get(name, -1))
    return [options.choose(n, {**shared, **config.samplers[n]}) for n in listed]
  listed = config.samplers.get(name, {})
  set_now = {k: v for k, v in chosen.items() if v is not None}
  return [options.choose(name, {**shared, **listed, **set_now})]


def one(config: Any) -> options.Choice:
  """The one sampler that config.sampler names."""
  if config.sampler.name is None:
    raise ValueError('config.sampler.name is not set: say which sampler writes')
  return choose(config)[0]


def settings(config: Any) -> generator.Settings:
  """The generator's part of a config, whose numbers are checked."""
  check_numbers(config)
  names = [name for name in generator.Settings._fields if name in config]
  return generator.Settings(**{name: config[name] for name in names})


def mesh(config: Any) -> Mesh | None:
  """The mesh of config.group devices to a group, None for groups of one."""
  group = checks.whole('group', config.group, 1)
  count = len(jax.devices())
  return None if group == 1 else parallel.mesh(count // group, group)


def load(config: Any) -> checkpoints.Pretrained:
  """The model that config.model names; it settles config.kv_cache, if unset.

  Raises:
    ValueError: one sentence, see checkpoints.load.
  """
  how = dict(dtype=config.dtype, mesh=mesh(config), ignore=config.ignore)
  how = {name: value for name, value in how.items() if value}
  told = known(config.get('model_block_length', -1), config.get('mask_id', -1))
  loaded = checkpoints.load(config.model, **how, **told)
  if config.kv_cache is None:
    config.kv_cache = bool(generator.blocks_of(loaded))
  return loaded


def known(block_length: int, mask_id: int) -> dict[str, int]:
  """Arguments of checkpoints.load; -1: config.json or the tokenizer says it."""
  told = dict(block_length=block_length, mask_id=mask_id)
  return {name: value for name, value in told.items() if value >= 0}


def unescaped(typed: str, escapes: bool) -> str:
  """What was typed, with a line break for each \\n if there are escapes."""
  return typed.replace('\\n', '\n') if escapes else typed


def generate_with(
  config: Any, loaded: checkpoints.Pretrained,
  tell: Callable[[str], Any] | None = None,
  name: Callable[[int], str] = 'row {}'.format,
) -> tuple[generator.Generator, options.Choice]:
  """(Generator, Choice) of a config and a Pretrained; see generator.prepare."""
  choice = options.fitted(one(config), generator.blocks_of(loaded))
  made = generator.prepare(
    loaded, choice, settings(config), mesh(config), tell, name
  )
  return made, choice
