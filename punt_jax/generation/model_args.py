"""What lm-eval says about a model and a text, as values of this library.

  --model_args pretrained=DIR,sampler=punt(epsilon=0.05;first=msb),seed=1

Nothing here needs lm-eval.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from punt_jax import checks
from punt_jax.generation import generator, options, sampler_text


class Arguments(NamedTuple):
  """What --model_args may say beside generator.Settings."""

  pretrained: str = ''  # folder, file or name of the model
  sampler: str = 'punt'  # who writes, with values or without: top_k(k=2)
  block_length: int = 0  # tokens per block, left to right; 0: all at once, or
  # the model's own blocks
  dtype: str = ''  # of the weights, 'bfloat16' or 'float32'; '': as stored
  group: int = 1  # devices that share the weights
  ignore: tuple = ()  # keys of config.json that do not change the network
  model_block_length: int = -1  # of its own blocks, where config.json does not
  # say it; 0: none
  mask_id: int = -1  # where neither config.json nor the tokenizer says it
  draws: int = 128  # masks per answer whose likelihood is asked for
  answers: str = ''  # JSONL file that keeps every answer for the next start


# Settings that lm-eval has a flag of its own for, or that have no meaning here.
ELSEWHERE = {
  'batch': 'give --batch_size',
  'batch_size': 'give --batch_size',
  'chat': 'give --apply_chat_template',
  'blank': 'a task has no blanks',
}
DEFAULTS = {**Arguments()._asdict(), **generator.DEFAULTS._asdict()}
NAMES = [name for name in DEFAULTS if name not in ELSEWHERE]
# What a task may call the number of tokens, the first one counts.
LENGTHS = (
  'max_gen_toks', 'max_new_tokens', 'max_tokens', 'max_completion_tokens',
)


def read(
  values: Mapping[str, Any], batch_size: int | str
) -> tuple[Arguments, generator.Settings, frozenset[str]]:
  """(Arguments, generator.Settings, what was said) of --model_args.

  Args:
    values: {name: value}, as lm-eval has read them.
    batch_size: rows at a time, an int or its digits.

  Raises:
    ValueError: one sentence: an unknown name, or a value of another kind.
  """
  said = {}
  for name, value in values.items():
    if name in ELSEWHERE:
      raise ValueError(f'{name} is not for --model_args: {ELSEWHERE[name]}')
    checks.known('value of --model_args', name, NAMES)
    said[name] = like(name, value, DEFAULTS[name])
  if not str(batch_size).isdecimal():
    raise ValueError(
      f'batch_size = {batch_size} must be a whole number: what fits in memory'
      ' is not searched for'
    )
  own = {name: said[name] for name in Arguments._fields if name in said}
  rest = {name: said[name] for name in said if name not in own}
  arguments = Arguments(**own)
  if not arguments.pretrained:
    raise ValueError(
      'say which model, with --model_args pretrained=DIR (a folder, a file or'
      ' the name of a model that ships)'
    )
  settings = generator.Settings(**rest)._replace(batch=int(batch_size))
  return arguments, settings, frozenset(said)


def like(name: str, value: Any, default: Any) -> Any:
  """A value of the kind that its default has; several are divided by `;`."""
  if isinstance(default, str):
    return str(value)
  if isinstance(default, tuple):
    if isinstance(value, str):
      value = [sampler_text.value_of(x.strip()) for x in value.split(';')]
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
  default = False if default is None else default  # kv_cache is not set
  fits = {bool: (bool,), int: (int,), float: (int, float)}[type(default)]
  if type(value) not in fits:
    said = {bool: 'True or False', int: 'a whole number', float: 'a number'}
    raise ValueError(
      f'{name} = {value!r} of --model_args must be {said[type(default)]}'
    )
  return type(default)(value)


def choose(arguments: Arguments) -> options.Choice:
  """The sampler that --model_args name."""
  blocks = {'block_length': arguments.block_length or None}
  return options.written(arguments.sampler, blocks)


def asked(
  settings: generator.Settings, said: frozenset[str], wanted: Mapping[str, Any]
) -> tuple[generator.Settings, list[str]]:
  """(Settings, sentences) of a text: what it asks for, and what is not done.

  What --model_args say holds for every text; what they leave open, the task
  says (or --gen_kwargs), as generation_kwargs.

  Args:
    settings: generator.Settings of the model.
    said: names that --model_args set.
    wanted: generation_kwargs of the request; `until` is not read here.
  """
  wanted = {k: v for k, v in wanted.items() if v is not None and k != 'until'}
  found = {}
  lengths = [wanted.pop(name) for name in LENGTHS if name in wanted]
  if lengths:
    found['max_new_tokens'] = number('max_new_tokens', lengths[0], int)
  sample = wanted.pop('do_sample', None)
  heat = wanted.pop('temperature', 1.0 if sample else None)
  if sample is False:
    heat = 0.0
  if heat is not None:
    found['temperature'] = number('temperature', heat, float)
  if 'top_p' in wanted:
    found['top_p'] = number('top_p', wanted.pop('top_p'), float)
  sentences = [f'{k}={v} of a task is not used' for k, v in wanted.items()]
  for name, value in found.items():
    if name in said and getattr(settings, name) != value:
      sentences.append(
        f'{name}={value} of a task is not used: --model_args say'
        f' {getattr(settings, name)}'
      )
  new = {name: found[name] for name in found if name not in said}
  return settings._replace(**new), sentences


def number(name: str, value: Any, kind: type) -> Any:
  """What a task says, as an int or a float, or a ValueError."""
  try:
    found = kind(value)
  except (TypeError, ValueError, OverflowError):
    found = None
  if found is None or isinstance(value, float) and found != value == value:
    said = 'a whole number' if kind is int else 'a number'
    raise ValueError(f'{name} = {value!r:.40} of a task must be {said}')
  return found


def stops(wanted: Mapping[str, Any]) -> list[str]:
  """The strings that end a text, of its generation_kwargs.

  Raises:
    ValueError: `until` is neither a string nor several.
  """
  until = wanted.get('until') or []
  found = [until] if isinstance(until, str) else until
  if not isinstance(found, (list, tuple)) or not all(
    isinstance(x, str) for x in found
  ):
    raise ValueError(f'until = {until!r:.60} of a task must be strings')
  return list(found)
