"""JSON on disk: objects, and files with one object a line."""

import functools
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from punt_jax import files

DIGITS = 100  # of a whole number


def _whole(digits):
  if len(digits) > DIGITS:
    raise ValueError(f'it has a whole number of {len(digits)} digits')
  return int(digits)


def _unique(pairs, once=False):
  found = {}
  for name, value in pairs:
    if name in found and (once or found[name] != value):
      raise ValueError(f'the name {name!r:.60} occurs twice')
    found[name] = value
  return found


def decode(data: bytes, once: bool = False) -> Any:
  """The value that JSON in UTF-8 describes; it may begin with a BOM.

  Args:
    data: bytes.
    once: whether a name that an object has twice is refused even if both have
      the same value.

  Raises:
    ValueError: a few words on what is wrong.
  """
  unique = functools.partial(_unique, once=once)
  try:
    return json.loads(
      data.decode('utf-8-sig'), object_pairs_hook=unique, parse_int=_whole
    )
  except (ValueError, RecursionError) as error:
    raise ValueError(' '.join(str(error).split())[:200]) from None


def read_object(file: pathlib.Path, most: int = files.MOST) -> dict[str, Any]:
  """The JSON object in a file of at most so many bytes, {} without a file.

  Raises:
    ValueError: one sentence, if it holds something else.
  """
  if files.size(file) is None:
    return {}
  data = files.read(file, most)
  try:
    found = decode(data)
  except ValueError as error:
    raise ValueError(f'{file} cannot be read as JSON: {error}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{file} must hold a JSON object, not {found!r:.40}')
  return found


def loads(text: str) -> Any:
  """A JSON text, as `decode` reads it.

  NaN and Infinity are no JSON: a ValueError, as in `dumps`.
  """

  def refuse(name):
    raise ValueError(f'{name} is not JSON')

  return json.loads(
    text, object_pairs_hook=_unique, parse_int=_whole, parse_constant=refuse
  )


def dumps(row: dict[str, Any]) -> str:
  """A row as JSON, in a line.

  Raises:
    ValueError: it holds NaN or an infinity: one sentence names the key.
  """
  try:
    return json.dumps(row, allow_nan=False)
  except ValueError as error:
    for key, value in row.items():
      try:
        json.dumps(value, allow_nan=False)
      except ValueError:
        raise ValueError(
          f'{key} is {value!r:.40}, and JSON has no such number'
        ) from None
    raise error


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
  lines, found = text.removeprefix('\ufeff').split('\n'), []
  end = len(lines)
  while end and not lines[end - 1].strip():
    end -= 1
  for n, line in enumerate(lines[:end], 1):
    try:
      row = loads(line)
    except (ValueError, RecursionError) as error:
      if torn and n == len(lines):
        break
      why = f': {error}' if type(error) is ValueError else ''
      raise ValueError(f'line {n} of {where} is not JSON{why:.80}') from None
    if not isinstance(row, dict):
      raise ValueError(f'line {n} of {where} is not a JSON object')
    found.append(row)
  return found


def read(file: pathlib.Path) -> list[dict[str, Any]]:
  """The rows that `append` has written to a file; [] if there is no file.

  Raises:
    ValueError: one sentence, if it is no file of JSON objects.
  """
  if files.size(file) is None:
    return []
  *whole, last = file.read_bytes().split(b'\n')
  lines = []
  for n, line in enumerate(whole, 1):
    try:
      lines.append(line.decode('utf-8'))
    except UnicodeDecodeError:
      raise ValueError(f'line {n} of {file} is not UTF-8 text') from None
  # A kill may have ended the last one in the middle of a character.
  lines.append(last.decode('utf-8', 'replace'))
  return parse('\n'.join(lines), file, True)


def append(file: pathlib.Path, row: dict[str, Any]) -> None:
  """Appends one row, all of it or nothing.

  Raises:
    ValueError: see `dumps`.
    OSError: the disk is full; the file is as it was.
  """
  data = f'{dumps(row)}\n'.encode()
  with files.whole(), open(file, 'ab', buffering=0) as stream:
    end = stream.seek(0, os.SEEK_END)
    try:
      while data:
        data = data[stream.write(data) :]
      os.fsync(stream.fileno())
    except BaseException as error:
      stream.truncate(end)
      if isinstance(error, OSError):
        error.filename = str(file)
      raise


def replace(file: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
  """Writes a file anew with these rows; see `files.write`."""
  files.write(file, ''.join(f'{dumps(row)}\n' for row in rows))
