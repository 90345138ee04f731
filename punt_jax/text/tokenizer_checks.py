"""What a tokenizer's file may make us do, bounded before it is read.

The file of a tokenizer is a small program: rules that replace, split and join,
one after another. Five of them that replace a letter by fifty make 6 GiB of one
letter. So what the rules can make of a letter is computed from the file alone,
and what is raised by the package, a panic of its own included, is a sentence.
Its regular expressions give up by themselves, after 10 million steps.
"""

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

from punt_jax import jsonl

GROWTH = 64  # bytes that a byte of text may become
UNICODE = 33  # bytes that one character becomes in Unicode's longest rule
PARTS = 100  # rules in a row
LETTERS = 10_000  # of a token
AFFIX = 64  # letters that a model adds to each piece
WORD = 1000  # letters of a word that WordPiece takes apart: time is their cube
IDS = 2**31
GROWS = {  # factors of those that are not computed
  'ByteLevel': 2, 'ByteFallback': 1, 'Metaspace': 4,
}


@contextlib.contextmanager
def in_a_sentence(what: str) -> Iterator[None]:
  """Whatever the package tokenizers raises becomes a ValueError: `what`: ..."""
  try:
    yield
  except BaseException as error:  # its panics are no Exceptions
    panic = type(error).__name__ == 'PanicException'
    if not panic and not isinstance(error, Exception):
      raise
    raise ValueError(f'{what}: {" ".join(str(error).split()):.200}') from None


def check(model: str) -> dict[str, int]:
  """{added token: id} of a tokenizer's JSON text, once it is known to be small.

  Raises:
    ValueError: a few words on what is wrong.
  """
  with in_a_sentence('this is no tokenizer that tokenizers reads'):
    spec = jsonl.decode(model.encode())
    if not isinstance(spec, dict):
      raise ValueError('its JSON is no object')
    for names in (('normalizer', 'pre_tokenizer'), ('decoder',)):
      rules = [x for name in names for x in _rules(spec.get(name))]
      if len(rules) > PARTS:
        raise ValueError(f'its {names[0]} has more than {PARTS} parts')
      if growth(rules) > GROWTH:
        raise ValueError(
          f'its {names[0]} makes up to {growth(rules):.3g} letters of one, more'
          f' than {GROWTH}'
        )
    _model(spec.get('model') or {})
    return _added(spec.get('added_tokens') or ())


def same_ids(inner: Any, added: dict[str, int]) -> None:
  """Refuses a tokenizers.Tokenizer that numbers its added tokens otherwise.

  The package counts on from the last id, whatever the file says.

  Raises:
    ValueError: one sentence.
  """
  for token, i in added.items():
    if inner.token_to_id(token) != i:
      raise ValueError(
        f'the added token {token!r:.60} has the id {i}, but'
        f' {inner.token_to_id(token)} is the next: fetch the tokenizer again'
      )


def growth(rules: list[dict[str, Any]]) -> float:
  """The most bytes that rules make of a byte, one after another.

  What one rule has written the next may replace again, unless it looks for
  letters that were not written.
  """
  found, written = 1.0, set()
  for rule in rules:
    factor, pattern, content = _factor(rule)
    if pattern and written is not None and not written & set(pattern):
      found = max(found, factor)
    elif factor > 1:
      found *= factor
    if content is None and found > 1:
      written = None  # anything: letters may have been changed
    elif written is not None:
      written |= set(content or '')
  return found


def _rules(part):
  """A part of a tokenizer as a flat list of rules."""
  if not part:
    return []
  if part.get('type') != 'Sequence':
    return [part]
  names = 'normalizers', 'pretokenizers', 'decoders'
  return [
    rule for name in names for x in part.get(name) or () for rule in _rules(x)
  ]


def _factor(rule):
  """(bytes for a byte, the text it looks for or '', what it writes or None)."""
  kind = rule.get('type')
  if kind == 'Replace':
    pattern, content = rule['pattern'].get('String') or '', rule['content']
    size = len(content.encode())
    if pattern:
      return max(1, size / len(pattern.encode())), pattern, content
    return 1 + size, '', content  # a regular expression may match nothing
  if kind == 'Prepend':
    return 1 + len(rule['prepend'].encode()), '', rule['prepend']
  if kind == 'Precompiled':
    return _longest(rule['precompiled_charsmap']), '', None
  return GROWS.get(kind, 1), '', None


def _longest(charsmap):
  """The factor of a table of sentencepiece: beyond Unicode's own."""
  data = base64.b64decode(charsmap)
  texts = data[4 + int.from_bytes(data[:4], 'little') :]
  return max(1, max(map(len, texts.split(b'\0')), default=0) / UNICODE)


def _model(model):
  """Checks the tokens and the numbers of a model."""
  for key in ('continuing_subword_prefix', 'end_of_word_suffix'):
    if len(model.get(key) or '') > AFFIX:
      raise ValueError(f'its {key} has more than {AFFIX} letters')
  if (model.get('max_input_chars_per_word') or 0) > WORD:
    raise ValueError(f'its max_input_chars_per_word is more than {WORD}')
  vocab = model.get('vocab') or {}
  if isinstance(vocab, dict):
    _ids(vocab, vocab.values())
  else:
    _ids([token for token, _ in vocab], range(len(vocab)))


def _added(tokens):
  """{added token: id}."""
  found = {}
  for token in tokens:
    name, i = token['content'], token['id']
    if found.setdefault(name, i) != i or not name:
      raise ValueError(f'its added token {name!r:.60} is empty or has two ids')
  _ids(found, found.values())
  return found


def _ids(tokens, ids):
  """Checks that ids are such, and no two tokens have the same."""
  ids = list(ids)
  for i in ids:
    if type(i) is not int or not 0 <= i < IDS:
      raise ValueError(f'it has a token with the id {i!r:.40}')
  if len(set(ids)) < len(ids):
    raise ValueError('two of its tokens have one id')
  long = next((token for token in tokens if len(token) > LETTERS), None)
  if long is not None:
    raise ValueError(
      f'its token {long!r:.60}... has more than {LETTERS} letters'
    )
