"""JSON on disk: objects, and files with one object a line."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from punt_jax import files


def read_object(file: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file (pathlib.Path), {} if there is no file.

  Raises:
    ValueError: one sentence, if it holds something else.
  """
  try:
    found = json.loads(file.read_text('utf-8')) if file.exists() else {}
  except (OSError, ValueError, RecursionError) as error:
    said = ' '.join(str(error).split())[:200]
    raise ValueError(f'{file} cannot be read as JSON: {said}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{file} must hold a JSON object, not {found!r:.40}')
  return found


def parse(text: str, where: Any, torn: bool = False) -> list[dict[str, Any]]:
  """The objects of a text with one a line; empty lines may only end it.

  Args:
    text: str.
    where: what to call it in a sentence.
    torn: drop a last line without a line break that is not JSON: its writer was
      killed.

  Raises:
    ValueError: one sentence naming the first line that is no JSON object.
  """
  lines, found = text.split('\n'), []
  end = len(lines)
  while end and not lines[end - 1].strip():
    end -= 1
  for n, line in enumerate(lines[:end], 1):
    try:
      row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
      if torn and n == len(lines):
        break
      raise ValueError(f'line {n} of {where} is not JSON') from None
    if not isinstance(row, dict):
      raise ValueError(f'line {n} of {where} is not a JSON object')
    found.append(row)
  return found


def read(file: pathlib.Path) -> list[dict[str, Any]]:
  """The rows that `append` has written to a file; [] if there is no file."""
  return parse(file.read_text('utf-8'), file, True) if file.exists() else []


def append(file: pathlib.Path, row: dict[str, Any]) -> None:
  """Appends one row."""
  with open(file, 'a', encoding='utf-8') as stream:
    stream.write(json.dumps(row) + '\n')


def replace(file: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
  """Writes a file anew with these rows; see `files.write`."""
  files.write(file, ''.join(json.dumps(row) + '\n' for row in rows))
