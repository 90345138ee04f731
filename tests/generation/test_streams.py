"""What is certain of a text before its last tokens are known."""

import pytest

from punt_jax.generation import streams
from punt_jax.text import vocabulary
from tests.helpers import byte_level

WORDS = ['[UNK]', 'i', 'do', 'n', "'", 't', 'not', '##s', '.', ',', 'é']


def word_pieces():
  """BERT's way: no space before a point."""
  tokenizers = pytest.importorskip('tokenizers')
  ids = {word: i for i, word in enumerate(WORDS)}
  inner = tokenizers.Tokenizer(tokenizers.models.WordPiece(
    ids, unk_token='[UNK]'
  ))
  inner.decoder = tokenizers.decoders.WordPiece()
  return vocabulary.tokenizer(inner.to_str())


def check(text, ids):
  """Each beginning is part of those that follow -> all of them."""
  whole = text.decode(ids)
  shown = [
    streams.certain(text.decode(ids[:n])) for n in range(len(ids) + 1)
  ]
  for one, after in zip(shown, [*shown[1:], whole], strict=True):
    assert after.startswith(one), (one, after)
  return shown


def test_letters_of_several_bytes():
  text = vocabulary.utf8_bytes()
  shown = check(text, text.encode('€uro ✓ é𝄞!', ''))
  assert shown[:5] == ['', '', '', '€', '€u'] and shown[-1] == '€uro ✓ é𝄞!'
  # What is no UTF-8 is shown when something follows.
  bad = check(text, [0xE2, 0x82, 65, 0x80, 0xFF, 66])
  assert bad[-1] == '\ufffdA\ufffd\ufffdB'


def test_tokens_of_bytes():
  text = vocabulary.tokenizer(byte_level.text_of()[0])
  assert check(text, text.encode('naïve — 日本', ''))[-1] == 'naïve — 日本'


def test_tokens_that_are_joined_in_their_own_way():
  text = word_pieces()
  ids = [WORDS.index(word) for word in "i do n ' t ##s . i do not , é".split()]
  assert check(text, ids)[-1] == "i do n ' ts. i do not, é"
