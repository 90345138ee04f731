"""The words of a command line, before absl reads them.

A value of the config is a flag, --config.KEY=VALUE, and --KEY=VALUE unless the
command has a flag of that name.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import ml_collections
from absl import flags


def typed(argv: Sequence[str], name: str) -> str | None:
  """What was typed last for --name or --config.name, or None."""
  found = None
  for i, argument in enumerate(argv):
    match = re.fullmatch(
      rf'--?(?:config\.)?{name}(?:=(.*))?', argument, re.DOTALL
    )
    if match:
      found = match[1] if match[1] is not None else (argv[i + 1 :] or [''])[0]
  return found


def as_values(
  argv: list[str], own: Collection[str], config: Any
) -> list[str]:
  """argv with --KEY=VALUE as --config.KEY=VALUE where KEY is a value's.

  Raises:
    ValueError: an unknown flag or value; the sentence lists what there is.
  """
  there = [] if config is None else list(config)
  out = argv[:1]
  for n, argument in enumerate(argv[1:], 1):
    if argument == '--':
      return out + argv[n:]
    match = re.match(r'--?(no)?([A-Za-z]\w*)((?:\.\w+)*)(?==|$)', argument)
    if match and match[1] and f'no{match[2]}' in {*own, *there}:
      match = re.match(r'--?()([A-Za-z]\w*)((?:\.\w+)*)(?==|$)', argument)
    if match:
      no, name, path = match.groups(default='')
      if name == 'config' and path:
        name, path = path[1:].partition('.')[0], path[1:].partition('.')[2]
        argument = _value(config, no, [name, *path.split('.')], argument, match)
      elif name in there and (path or name not in own):
        path = path.split('.')[1:]
        argument = _value(config, no, [name, *path], argument, match)
      elif name not in flags.FLAGS or path:
        raise ValueError(
          f'unknown flag --{name}{path}: use one of'
          f' {closest(f"--{name}", [f"--{x}" for x in [*own, *there]])}'
        )
    out.append(argument)
  return out


def _value(config, no, path, argument, match):
  """--config.PATH=... of an argument that names a value."""
  node: Any = config
  path = [part for part in path if part]
  for part in path:
    if not isinstance(node, ml_collections.ConfigDict) or part not in node:
      there = closest(part, node) if hasattr(node, 'keys') else 'nothing'
      raise ValueError(
        f'unknown config value config.{".".join(path)}: here is {there}'
      )
    node = node[part]
  return f'--{no}config.{".".join(path)}{argument[match.end() :]}'


def fault(error: flags.Error, argv: Sequence[str]) -> str:
  """What is wrong with a flag, in the words of the command line `argv`."""
  said = str(error).strip().splitlines()[-1].removeprefix('ValueError: ')
  match = re.match(r'flag --(no)?config\.([\w.]+)', said)
  if match and typed(argv, f'(?:no)?{re.escape(match[2])}') is not None:
    long = any(re.match(rf'--?(no)?config\.{match[2]}', x) for x in argv)
    said = said if long else said.replace('config.', '', 1)
  return said


def closest(name: str, names: Iterable[str]) -> str:
  """'a, b, c': what a person may have meant comes first."""
  names = list(dict.fromkeys(names))
  close = difflib.get_close_matches(name, names, 5)
  return ', '.join([*close, *(x for x in names if x not in close)])
