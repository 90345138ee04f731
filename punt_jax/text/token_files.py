"""The files of a tokenizer in a checkpoint directory.

Its special tokens, and older tokenizers that are vocab.json and merges.txt:
those of GPT-2, Qwen2 and Dream, as Hugging Face's transformers reads them.
"""

import functools
import pathlib
from collections.abc import Collection
from types import ModuleType
from typing import Any

from punt_jax import extras, files, jsonl
from punt_jax.text import tokenizer_checks
from punt_jax.types import FilePath

FILES = 'tokenizer.json', 'vocab.json'  # a folder with a tokenizer has one
FLAGS = 'special', 'lstrip', 'rstrip', 'normalized', 'single_word'
MOST = 2**26  # bytes of such a file
IDS = 2**31
# How Qwen2 and Dream split a text before merging bytes (Qwen2's tokenizer).
QWEN2 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def package() -> ModuleType:
  """The module tokenizers; ValueError if it is not installed."""
  return extras.load('tokenizers', 'this vocabulary')


def present(folder: FilePath) -> bool:
  """Whether a folder has a tokenizer."""
  there = (files.size(pathlib.Path(folder) / name) for name in FILES)
  return any(size is not None for size in there)


def card(folder: FilePath) -> dict[str, Any]:
  """tokenizer_config.json, with the names that only special_tokens_map has.

  Raises:
    ValueError: one sentence, if one of these files is damaged.
  """
  read = lambda name: jsonl.read_object(pathlib.Path(folder) / name)
  return read('special_tokens_map.json') | {
    key: value for key, value in read('tokenizer_config.json').items()
    if value is not None
  }


def add(
  inner: Any, content: str, there: Collection[int]
) -> tuple[str, int]:
  """Adds a token that parts the text -> its content and id, not one `there`."""
  lib = package()
  while True:
    inner.add_special_tokens([lib.AddedToken(content, normalized=False)])
    if inner.token_to_id(content) not in there:
      return content, inner.token_to_id(content)
    content += '.'


def named_token(card: dict[str, Any], name: str) -> str | None:
  """'<s>' of a card's 'bos_token', an object or a string; None without one."""
  token = card.get(name)
  token = token.get('content') if isinstance(token, dict) else token
  return token if isinstance(token, str) else None


def added_tokens(folder: FilePath) -> dict[str, int]:
  """{token: id} of a checkpoint's tokens that no merging of letters makes.

  Those of tokenizer.json; without it those of tokenizer_config.json and
  added_tokens.json, and those in vocab.json that end a text or are named.

  Raises:
    ValueError: one sentence, if one of these files is damaged.
  """
  folder = pathlib.Path(folder)
  read = lambda name: jsonl.read_object(folder / name, MOST)
  if files.size(folder / 'tokenizer.json') is not None:
    objects = [read('tokenizer.json')]
  else:
    objects = [card(folder), read('vocab.json'), read('added_tokens.json')]
  try:
    found = _added(*objects)
    if not all(0 <= i < IDS for i in found.values()):
      raise ValueError('an id is no such number')
    return found
  except (LookupError, ValueError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{folder}: the special tokens of the tokenizer cannot be read'
      f' ({type(error).__name__}): fetch its files again'
    ) from None


def _added(card, vocab=None, more=()):
  """{token: id} of these JSON objects: of tokenizer.json, or the older ones."""
  if vocab is None:
    stored = card.get('added_tokens') or ()
    return {str(x['content']): int(x['id']) for x in stored}
  named = [named_token(card, key) for key in card if key.endswith('_token')]
  found = {x: vocab[x] for x in (*named, '<|endoftext|>') if x in vocab}
  stored = card.get('added_tokens_decoder') or {}
  found |= dict(more) | {x['content']: i for i, x in stored.items()}
  return {str(x): int(i) for x, i in found.items()}


def from_merges(folder: pathlib.Path) -> str:
  """The JSON text of a tokenizer that is vocab.json and merges.txt.

  Raises:
    ValueError: one sentence, if the files are damaged, or if how this class of
      tokenizer splits a text is not known here.
  """
  lib, about = package(), card(folder)
  kind = str(about.get('tokenizer_class')).removesuffix('Fast')
  if kind not in ('GPT2Tokenizer', 'Qwen2Tokenizer', 'DreamTokenizer'):
    raise ValueError(
      f'tokenizer_class is {kind:.60} and there is no tokenizer.json: put one'
      ' there'
    )
  names = str(folder / 'vocab.json'), str(folder / 'merges.txt')
  if sum(files.size(name) or 0 for name in names) > MOST:
    raise ValueError(f'these are more than {MOST} bytes')
  try:
    inner = lib.Tokenizer(lib.models.BPE.from_file(*names))
  except Exception as error:  # the package raises nothing narrower
    said = ' '.join(str(error).split())[:200]
    raise ValueError(f'these are no vocabulary and merges: {said}') from None
  split = lib.pre_tokenizers
  by_bytes = functools.partial(
    split.ByteLevel, add_prefix_space=bool(about.get('add_prefix_space'))
  )
  if kind == 'GPT2Tokenizer':
    inner.pre_tokenizer = by_bytes()
  else:
    inner.normalizer = lib.normalizers.NFC()
    words = split.Split(lib.Regex(QWEN2), 'isolated')
    inner.pre_tokenizer = split.Sequence([words, by_bytes(use_regex=False)])
  inner.decoder = lib.decoders.ByteLevel()
  ids = added_tokens(folder)
  stored = (about.get('added_tokens_decoder') or {}).values()
  told = {str(x['content']): x for x in stored}
  for token in sorted(ids, key=ids.__getitem__):
    flags = {'special': True, 'normalized': False}
    flags |= {k: bool(v) for k, v in told.get(token, {}).items() if k in FLAGS}
    made = lib.AddedToken(token, **flags)
    (inner.add_special_tokens if made.special else inner.add_tokens)([made])
  tokenizer_checks.same_ids(inner, ids)
  return inner.to_str()
