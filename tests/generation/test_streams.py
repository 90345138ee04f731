"""What is certain of a text before its last tokens are known."""

import jax
import numpy as np
import pytest

import punt_jax
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


def test_the_first_step_is_compiled_once():
  """Weights are bound to a device, and so is what a step gives."""
  table = jax.device_put(np.eye(4, 3, dtype=np.float32), jax.devices()[0])
  build = lambda params, _: (
    punt_jax.from_logits(lambda tokens, valid: params[tokens], 3),
    punt_jax.samplers.one_by_one(),
  )
  steps = punt_jax.step(build)
  run = steps.start(table, (), 0, np.full((1, 3), 3))
  for _ in range(3):
    run, _ = steps.advance(table, (), run)
  assert run.done.all() and steps.advance._cache_size() == 1
