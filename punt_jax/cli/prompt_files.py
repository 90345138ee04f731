"""The input of batch mode: a JSONL file of prompts, checked line by line."""

import hashlib
import pathlib
from typing import Any

from punt_jax import jsonl
from punt_jax.generation import generator, prompts

# Keys of a result.
OWN = 'line', 'sample', 'sampler', 'settings', 'schema', 'origin'


def read(file: pathlib.Path) -> tuple[list[dict[str, Any]], str]:
  """The lines of a JSONL file of prompts -> (list of dicts, digest).

  Raises:
    ValueError: one sentence naming the first line that is none.
  """
  try:
    data = file.read_bytes()
    text = '\n'.join(
      line.removeprefix('\ufeff') for line in data.decode().split('\n')
    )  # files with a byte order mark, put together
  except OSError as error:
    raise ValueError(f'cannot read {file}: {error.strerror}') from None
  except UnicodeDecodeError:
    raise ValueError(f'{file} is not UTF-8 text') from None
  if not text.strip():
    raise ValueError(f'{file} has no prompts: write one JSON object a line')
  lines = jsonl.parse(text, file)
  for n, line in enumerate(lines, 1):
    fault = wrong(line)
    if fault:
      raise ValueError(f'line {n} of {file} {fault}')
  return lines, hashlib.sha256(data).hexdigest()


def wrong(line: dict[str, Any]) -> str | None:
  """What is wrong with a line of prompts, or None."""
  if ('prompt' in line) == ('messages' in line):
    return 'must have either "prompt" or "messages"'
  if 'prompt' in line and not isinstance(line['prompt'], str):
    return 'has a "prompt" that is not a string'
  if 'messages' in line and not prompts.is_chat(line['messages']):
    return 'has "messages" that are not [{"role": "...", "content": "..."}]'
  taken = sorted({*OWN, *generator.Written._fields} & set(line))
  return f'has the key {taken[0]!r}, which results use' if taken else None
