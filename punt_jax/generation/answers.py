"""Answers that lm-eval was given: a file of them, each under a hash of all
that it depends on.
"""

import math
import pathlib
from typing import Any, NamedTuple

from punt_jax import jsonl


class Answers(NamedTuple):
  """What has been answered already."""

  file: pathlib.Path | None  # JSONL
  rows: dict[str, dict]  # by the hash of a request


def answers(file: str | pathlib.Path | None = None) -> Answers:
  """Those in a file, one for each key; a half-written last line is dropped.

  Raises:
    ValueError: one sentence, if the file holds something else, or one twice.
  """
  if file is None:
    return Answers(None, {})
  file = pathlib.Path(file)
  found = [] if file.is_dir() else jsonl.read(file)
  if file.is_dir() or not all(map(is_answer, found)):
    raise ValueError(f'{file} holds no answers: name another file for them')
  file.parent.mkdir(parents=True, exist_ok=True)
  known = {}
  for n, row in enumerate(found, 1):
    if known.setdefault(row['key'], row) is not row:
      raise ValueError(
        f'line {n} of {file} is an answer for the second time: delete it'
      )
  jsonl.replace(file, found)
  return Answers(file, known)


def is_answer(row: dict[str, Any]) -> bool:
  """Whether it is a row that harness.Harness has written."""
  nats = row.get('nats')
  known = isinstance(nats, float) and math.isfinite(nats)
  known = known or isinstance(row.get('text'), str) or 'same' in row
  return isinstance(row.get('key'), str) and known
