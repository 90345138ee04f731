"""A sampler as a person writes it: punt(epsilon=0.05, first=msb).

On command lines, in punt_jax.generate, in lm-eval's --model_args.
"""

import re
from typing import Any

WRITTEN = re.compile(r'\s*(\w+)\s*(?:\(([^()]*)\))?\s*')


def parse(text: str) -> tuple[str, dict[str, Any]]:
  """'punt(epsilon=0.05, first=msb)' -> ('punt', {'epsilon': 0.05, ...}).

  A value is a number or a word; `;` may stand for a comma where a comma has
  another meaning (lm-eval's --model_args). `choose` checks what it means.

  Raises:
    ValueError: one sentence: this is not a sampler, or a value stands twice.
  """
  if not isinstance(text, str):
    raise ValueError(
      f'{text!r:.60} is no text: write a sampler like punt(epsilon=0.05); what'
      ' samplers.punt makes is for punt_jax.sample and compile'
    )
  found = WRITTEN.fullmatch(text)
  if not found:
    raise ValueError(
      f'{text!r} is not a sampler: write a name, or a name with values like'
      ' punt(epsilon=0.05, first=msb)'
    )
  name, inside = found[1], found[2] or ''
  settings = {}
  for part in filter(None, map(str.strip, re.split('[,;]', inside))):
    key, equals, value = map(str.strip, part.partition('='))
    if not (key and value):
      raise ValueError(
        f'{part!r} in the sampler {text!r} is not of the form NAME=VALUE'
      )
    if key in settings:
      raise ValueError(f'{key} stands twice in the sampler {text!r}')
    settings[key] = value_of(value)
  return name, settings


def parse_all(text: str) -> list[tuple[str, dict[str, Any]]]:
  """'punt(epsilon=0.05) top_k(k=2)' -> [parse(...), ...]; at least one.

  Spaces, commas or semicolons stand between samplers.
  """
  parts = re.findall(r'[^\s,;()]+\s*(?:\([^()]*\))?|[()]', text)
  if not parts:
    raise ValueError('name at least one sampler, like punt(epsilon=0.05)')
  return [parse(part) for part in parts]


def value_of(word: str) -> int | float | str:
  """An int, a float, or the word itself, its quotes left out."""
  for number in int, float:
    try:
      return number(word)
    except ValueError:
      pass
  return word.strip('\'"')
