"""What is said of a network, line by line."""

import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any

from punt_jax.checkpoints import huggingface


def network(kind: str, module: Any, vocab: int) -> str:
  """The shape of a network, in a line."""
  said = f'{kind}: {module.layers} layers of width {module.width}'
  said += f', {module.heads} heads'
  if getattr(module, 'groups', module.heads) != module.heads:
    said += f' ({module.groups} of keys)'
  return f'{said}, {vocab:,} tokens'


def origin(
  folder: pathlib.Path, keys: Collection[str], told: int | None
) -> str:
  """Who says a number: a key of config.json, an argument or the tokenizer."""
  config = huggingface.read_config(folder)
  found = [f'{x} in config.json' for x in keys if config.get(x) is not None]
  return found[0] if found else (
    'the tokenizer' if told is None else 'the command line'
  )


def blocks(module: Any, said: str = '') -> list[str]:
  """How a model writes in blocks, in a line; none for one that does not.

  Args:
    module: of a Layout.
    said: who says how long they are.
  """
  length = getattr(module, 'block_length', 0)
  if not length:
    return []
  where = 'the end of the prompt' if _has(module, 'anchored') else 'position 0'
  before = 'token by token' if _has(module, 'causal') else 'block by block'
  by = f' (by {said})' if said else ''
  return [
    f'writes in blocks of {length} positions{by} from {where}: each sees itself'
    f' whole, and all before it, which was computed {before}; the KV cache of'
    ' that is exact, and on'
  ]


def experts(module: Any, like: Mapping[str, Any]) -> list[str]:
  """What experts a model has, in a line; none for one without."""
  some = getattr(module, 'experts', None)
  if some is None:
    return []
  total = sum(x.size for x in like.values())
  own = sum(
    x.size for path, x in like.items()
    if re.search('experts/(gate|up|down)$', path)
  )
  active = total - own + own * some.chosen // some.experts
  shared = f' and one of {some.shared} that all pass' * bool(some.shared)
  dense = f' in all layers but the first {module.dense}' * bool(module.dense)
  return [
    f'{some.experts} experts of width {some.hidden}, {some.chosen} for each'
    f' token ({some.router} router){shared}{dense}:'
    f' {active / 1e6:,.1f} M parameters are active'
  ]


def _has(module, name):
  return getattr(module, name, False)


def offer(offers: Collection[str], module: Any) -> str:
  """What samplers can have of the model, in a line."""
  words = {
    'attention': 'attention (dapd, adas)', 'window': 'KV cache',
    'in_order': 'in_order (speculative)',
  }
  if _has(module, 'block_length'):  # it has another one
    del words['window']
  split = [[], []]
  for name, said in words.items():
    split[name not in offers].append(said)
  given, lacks = (', '.join(x) or 'nothing' for x in split)
  return f'offers samplers: {given}; not: {lacks}'
