"""Text to token ids and back: characters, bytes, or a tokenizers file.

The id V is MASK. It is written as BLANK. `encode` reads BLANK as MASK, so that
a canvas with open positions is also a string; where a text may hold any letter,
say what stands for MASK, or that nothing does: encode(text, '').
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from punt_jax import checks, files
from punt_jax.text import token_files, tokenizer_checks
from punt_jax.types import ArrayLike, FilePath

BLANK = '░'
MOST = 2**24  # tokens of a vocabulary
ODD = '\ufdd0'  # a noncharacter
MARK, SEAM = f'{ODD}blank', f'{ODD}seam'  # what encode puts into a text


class Text(NamedTuple):
  """A vocabulary."""

  vocab: int  # V
  encode: Callable[..., np.ndarray]  # (text, blank=BLANK, seam='') -> (n,)
  # int32 in [0, V]: MASK at each `blank`, a letter, and nowhere else ('': at
  # none); nothing at a `seam`, a letter that parts special tokens spelled out.
  # ValueError if a character or token is unknown, or is the model's own mask
  decode: Callable[[ArrayLike], str]  # of (n,) ids in [0, V]; BLANK for MASK,
  # nothing for ids without a token
  spec: Any  # JSON; from_spec(spec) builds the same vocabulary
  special: Mapping[str, int] = MappingProxyType({})  # tokens that are no text
  unused: tuple[int, ...] = ()  # ids below V without a token


def unpaired(string: str) -> None:
  """Raises ValueError for half of a UTF-16 pair, which is no text."""
  try:
    string.encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f'character {string[error.start]!r} at position {error.start} is half of'
      ' a pair (a surrogate): this is no text'
    ) from None


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
  """One token per character of `alphabet`, a string without repeats.

  Raises:
    ValueError: it is none.
  """
  if not isinstance(alphabet, str) or not alphabet:
    raise ValueError(f'{alphabet!r:.40} is no alphabet, a string of letters')
  unpaired(alphabet)
  ids = {c: i for i, c in enumerate(alphabet)}
  if len(ids) < len(alphabet):
    twice = next(c for i, c in enumerate(alphabet) if ids[c] != i)
    raise ValueError(f'the alphabet has {twice!r} twice')

  def encode(string, blank=BLANK, seam=''):
    known = ids | ({blank: len(alphabet)} if blank else {})
    string = string.replace(seam, '') if seam else string
    unknown = set(string) - set(known)
    if unknown:
      place = min(map(string.index, unknown))
      raise ValueError(
        f'character {string[place]!r} at position {place} is not among the'
        f' {len(alphabet)} characters of this vocabulary'
      )
    return np.array([known[c] for c in string], np.int32)

  def decode(tokens):
    run = lambda ids: ''.join(alphabet[i] for i in ids)
    return _pieces(tokens, len(alphabet), run)

  spec = {'kind': 'characters', 'alphabet': alphabet}
  return Text(len(alphabet), encode, decode, spec)


def utf8_bytes() -> Text:
  """One token per byte of the UTF-8 form: V = 256."""

  def encode(string, blank=BLANK, seam=''):
    unpaired(string)
    string = string.replace(seam, '') if seam else string
    arrays = []
    for run in string.split(blank) if blank else [string]:
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

  Special tokens that a text spells out are those tokens, as in transformers,
  but for the mask. What the tokenizer does around its mask token (RoBERTa's
  takes the spaces before it) it does around a blank.

  Args:
    model: the JSON text.
    vocab: V, if it is not the number of the tokenizer's tokens.
    mask: an id that text must not hold: the model's own mask, if it is < V.

  Raises:
    ValueError: one sentence, if the text describes no tokenizer.
  """
  names = tokenizer_checks.check(model)
  inner, reader = _read(model, names), _read(model, names)  # writes and reads
  spec = {'kind': 'tokenizer', 'model': model, 'vocab': vocab, 'mask': mask}
  spec = {key: value for key, value in spec.items() if value is not None}
  there = set(reader.get_vocab().values())
  size = max(there, default=-1) + 1 if vocab is None else vocab
  if checks.whole('the size of the vocabulary', size, 1) > MOST:
    raise ValueError(f'a vocabulary of {size} tokens: {MOST} are the most')
  added = reader.get_added_tokens_decoder()
  special = {x.content: i for i, x in added.items() if x.special and i < size}
  own = added.get(mask)
  if own is not None and not own.single_word:  # found wherever it stands
    mark, mark_id = own.content, mask
  else:
    mark, mark_id = token_files.add(inner, MARK, there)
  cut, cut_id = token_files.add(inner, SEAM, there)

  def encode(string, blank=BLANK, seam=''):
    unpaired(string)
    blanks = string.count(blank) if blank else 0
    string = string.replace(ODD, ODD + cut)  # so that it spells neither
    for letter, token in ((blank, mark), (seam, cut)):
      string = string.replace(letter, token) if letter else string
    with tokenizer_checks.in_a_sentence('the tokenizer fails'):  # no [UNK], ..
      ids = inner.encode(string, add_special_tokens=False).ids
    spelled = ids.count(mark_id) != blanks
    for token in ids:
      ours = token == cut_id or token == mark_id and not spelled
      if not ours and (token >= size or token in (mask, mark_id)):
        raise ValueError(
          f'the text holds {inner.id_to_token(token)!r}, id {token}, which is'
          f' no token to predict: V is {size}; write {BLANK} for MASK'
        )
    masked = [size if i == mark_id else i for i in ids if i != cut_id]
    return np.array(masked, np.int32)

  def decode_run(ids):
    known = [token for token in ids if token in there]
    with tokenizer_checks.in_a_sentence('the tokenizer fails'):
      return reader.decode(known, skip_special_tokens=False)

  decode = lambda tokens: _pieces(tokens, size, decode_run)
  unused = tuple(sorted(set(range(size)) - there))
  return Text(size, encode, decode, spec, special, unused)


def _read(model, added):
  """A tokenizers.Tokenizer that neither cuts nor pads, with these tokens."""
  package = token_files.package()
  with tokenizer_checks.in_a_sentence(
    'this is no tokenizer that tokenizers reads'
  ):
    inner = package.Tokenizer.from_str(model)
  tokenizer_checks.same_ids(inner, added)
  inner.no_truncation()  # a file may ask for these, which are for training
  inner.no_padding()
  if getattr(inner.model, 'dropout', None):
    inner.model.dropout = None
  return inner


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
    if not file.exists():
      raise ValueError(
        f'{folder} has no tokenizer.json, nor vocab.json with merges.txt'
      )
    data = files.read(file, token_files.MOST)
    return tokenizer(data.decode('utf-8-sig'), vocab, mask)
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def from_spec(spec: Any) -> Text:
  """The vocabulary that `Text.spec` describes (a dict or its JSON).

  Raises:
    ValueError: one sentence, if it describes none.
  """
  try:
    spec = json.loads(spec) if isinstance(spec, str) else spec
    kind, values = spec['kind'], {k: spec[k] for k in spec if k != 'kind'}
    make = {
      'characters': characters, 'bytes': utf8_bytes, 'tokenizer': tokenizer
    }[kind]
    return make(**values)
  except (TypeError, LookupError, RecursionError, json.JSONDecodeError):
    raise ValueError(f'{spec!r:.60} describes no vocabulary') from None
