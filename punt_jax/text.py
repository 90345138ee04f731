"""Text to token ids and back: characters, bytes, or a tokenizers file.

The id V is MASK. It is written as BLANK, and BLANK in a prompt is read as
MASK, so that a canvas with open positions is also a string.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BLANK = '░'


class Text(NamedTuple):
  """A vocabulary."""

  vocab: int  # V
  encode: Callable  # str -> (n,) int32 in [0, V]; ValueError if unknown
  decode: Callable  # (n,) ids in [0, V] -> str
  spec: Any  # JSON; from_spec(spec) builds the same vocabulary


def _pieces(ids, vocab, decode_run):
  """Decodes runs of real tokens; each MASK becomes one BLANK."""
  out, run = [], []
  for token in np.asarray(ids).tolist():
    if not 0 <= token <= vocab:
      raise ValueError(f'token id {token} is not in 0..{vocab} (MASK)')
    if token < vocab:
      run.append(token)
      continue
    out.append(decode_run(run) + BLANK)
    run = []
  return ''.join(out) + decode_run(run)


def characters(alphabet):
  """One token per character of `alphabet`, a string without repeats."""
  ids = {c: i for i, c in enumerate(alphabet)}
  ids.setdefault(BLANK, len(alphabet))

  def encode(string):
    unknown = sorted(set(string) - set(ids))
    if unknown:
      raise ValueError(
        f'character {unknown[0]!r} at position {string.index(unknown[0])} is'
        f' not among the {len(alphabet)} characters of this vocabulary'
      )
    return np.array([ids[c] for c in string], np.int32)

  def decode(tokens):
    run = lambda ids: ''.join(alphabet[i] for i in ids)
    return _pieces(tokens, len(alphabet), run)

  spec = {'kind': 'characters', 'alphabet': alphabet}
  return Text(len(alphabet), encode, decode, spec)


def utf8_bytes():
  """One token per byte of the UTF-8 form: V = 256."""

  def encode(string):
    runs = string.split(BLANK)
    arrays = []
    for run in runs:
      arrays += [np.frombuffer(run.encode(), np.uint8), [256]]
    return np.concatenate(arrays[:-1]).astype(np.int32)

  def decode(tokens):
    run = lambda ids: bytes(ids).decode(errors='replace')
    return _pieces(tokens, 256, run)

  return Text(256, encode, decode, {'kind': 'bytes'})


def tokenizer(model):
  """A vocabulary from the JSON text of a `tokenizers` file."""
  import tokenizers  # optional: pip install tokenizers

  inner = tokenizers.Tokenizer.from_str(model)
  vocab = inner.get_vocab_size()

  def encode(string):
    ids = []
    for run in string.split(BLANK):
      ids += inner.encode(run, add_special_tokens=False).ids + [vocab]
    return np.array(ids[:-1], np.int32)

  def decode(tokens):
    run = lambda ids: inner.decode(ids, skip_special_tokens=False)
    return _pieces(tokens, vocab, run)

  return Text(vocab, encode, decode, {'kind': 'tokenizer', 'model': model})


def from_spec(spec):
  """The vocabulary that `Text.spec` describes (a dict or its JSON)."""
  spec = json.loads(spec) if isinstance(spec, str) else spec
  if spec['kind'] == 'characters':
    return characters(spec['alphabet'])
  if spec['kind'] == 'bytes':
    return utf8_bytes()
  return tokenizer(spec['model'])
