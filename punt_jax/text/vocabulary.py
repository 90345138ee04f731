"""Text to token ids and back: characters, bytes, or a tokenizers file.

The id V is MASK. It is written as BLANK, and BLANK in a prompt is read as
MASK, so that a canvas with open positions is also a string.
"""

import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from punt_jax.text import token_files
from punt_jax.types import ArrayLike, FilePath

BLANK = '░'


class Text(NamedTuple):
  """A vocabulary."""

  vocab: int  # V
  encode: Callable[[str], np.ndarray]  # (n,) int32 in [0, V]; ValueError if a
  # character or token is unknown
  decode: Callable[[ArrayLike], str]  # of (n,) ids in [0, V]
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


def characters(alphabet: str) -> Text:
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


def utf8_bytes() -> Text:
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


def tokenizer(
  model: str, vocab: int | None = None, mask: int | None = None
) -> Text:
  """A vocabulary from the JSON text of a `tokenizers` file.

  Args:
    model: the JSON text.
    vocab: V, if it is not the number of the tokenizer's tokens. Ids that have
      no token are written <id 7>.
    mask: an id that text must not hold: the model's own mask, if it is < V.

  Raises:
    ValueError: one sentence, if the text describes no tokenizer.
  """
  package = token_files.package()
  try:
    inner = package.Tokenizer.from_str(model)
  except Exception as error:  # the package raises nothing narrower
    raise ValueError(
      f'this is no tokenizer that tokenizers reads: {str(error)[:200]}'
    ) from error
  inner.no_truncation()  # a file may ask for both, which is for training
  inner.no_padding()
  spec = {'kind': 'tokenizer', 'model': model, 'vocab': vocab, 'mask': mask}
  spec = {key: value for key, value in spec.items() if value is not None}
  size = inner.get_vocab_size() if vocab is None else vocab

  def encode_run(string):
    try:
      ids = inner.encode(string, add_special_tokens=False).ids
    except Exception as error:  # such as a missing [UNK]
      raise ValueError(f'the tokenizer fails: {error}') from error
    for token in ids:
      if token >= size or token == mask:
        raise ValueError(
          f'the text holds {inner.id_to_token(token)!r}, id {token}, which is'
          f' no token to predict: V is {size}; write {BLANK} for MASK'
        )
    return ids

  def encode(string):
    ids = []
    for run in string.split(BLANK):
      ids += encode_run(run) + [size]
    return np.array(ids[:-1], np.int32)

  def decode_run(ids):
    known = lambda token: inner.id_to_token(token) is not None
    return ''.join(
      inner.decode(list(part), skip_special_tokens=False) if there
      else ''.join(f'<id {token}>' for token in part)
      for there, part in itertools.groupby(ids, known)
    )

  decode = lambda tokens: _pieces(tokens, size, decode_run)
  return Text(size, encode, decode, spec)


def from_folder(folder: FilePath, vocab: int, mask: int | None) -> Text:
  """The vocabulary of a checkpoint's folder.

  From its tokenizer.json; without it from vocab.json and merges.txt, if they
  are GPT-2's, Qwen2's or Dream's.

  Args:
    folder: of the checkpoint.
    vocab: V of the model; its embedding may have more rows than there are
      tokens.
    mask: the checkpoint's own id of MASK. Here MASK is V.

  Raises:
    ValueError: one sentence, if the files are missing or damaged.
  """
  folder = pathlib.Path(folder)
  file = folder / 'tokenizer.json'
  try:
    if not file.exists() and (folder / 'merges.txt').exists():
      file = folder / 'vocab.json'
      return tokenizer(token_files.from_merges(folder), vocab, mask)
    return tokenizer(file.read_text('utf-8'), vocab, mask)
  except OSError:
    raise ValueError(
      f'{folder} has no tokenizer.json, nor vocab.json with merges.txt'
    ) from None
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def from_spec(spec: Any) -> Text:
  """The vocabulary that `Text.spec` describes (a dict or its JSON)."""
  spec = json.loads(spec) if isinstance(spec, str) else spec
  if spec['kind'] == 'characters':
    return characters(spec['alphabet'])
  if spec['kind'] == 'bytes':
    return utf8_bytes()
  return tokenizer(spec['model'], spec.get('vocab'), spec.get('mask'))
