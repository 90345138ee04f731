"""Any Unicode through every vocabulary: data stays data, MASK is no letter."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from punt_jax.text import vocabulary
from punt_jax.text.vocabulary import BLANK, MARK, SEAM
from tests.helpers import byte_level

ODD = [
  '', BLANK, 'a░b', '\x00', '\ufeff', '\r\n', '𝔘é', 3 * BLANK, MARK, SEAM + MARK
]
LETTERS = ''.join(dict.fromkeys(''.join(ODD) + 'abc '))


@pytest.fixture(scope='module')
def vocabularies():
  model, ids = byte_level.text_of()
  return {
    'characters': vocabulary.characters(LETTERS),
    'bytes': vocabulary.utf8_bytes(),
    'tokenizer': vocabulary.tokenizer(model),
    'masked': vocabulary.tokenizer(model, mask=ids['<mask>']),
    'padded': vocabulary.tokenizer(model, 300, ids['<mask>']),
  }


def fuzz(examples):
  """A test of any text, the odd ones among them."""

  def wrap(test):
    test = settings(max_examples=examples, deadline=None)(
      given(st.text(st.characters(exclude_categories=['Cs']), max_size=12))(
        test
      )
    )
    for odd in ODD:
      test = example(odd)(test)
    return test

  return wrap


def survives(vocabularies, string):
  """Text is never MASK, and comes back."""
  for name, text in vocabularies.items():
    if name == 'characters' and not set(string) <= set(LETTERS):
      with pytest.raises(ValueError, match='at position'):
        text.encode(string, '')
      continue
    ids = text.encode(string, '')
    assert ids.dtype == np.int32 and ids.ndim == 1
    assert not (ids >= text.vocab).any() and not (ids < 0).any()
    assert text.decode(ids) == string, name
    # A blank is MASK, and the letters around it are what they are.
    opened = text.encode(f'a{string}\ue000b', '\ue000')
    if '\ue000' not in string:
      assert (opened == text.vocab).sum() == 1
      if name not in ('masked', 'padded'):  # theirs takes the space before it
        assert text.decode(opened) == f'a{string}{BLANK}b'


@fuzz(40)
def test_any_text_is_data(vocabularies, string):
  survives(vocabularies, string)


@pytest.mark.slow
@fuzz(2000)
def test_any_text_is_data_at_length(vocabularies, string):
  survives(vocabularies, string)


@pytest.mark.parametrize('name', ['characters', 'bytes', 'masked'])
def test_half_a_pair_is_no_text(vocabularies, name):
  with pytest.raises(ValueError, match=r"'\\ud800' at position 1 "):
    vocabularies[name].encode('a\ud800')


def test_a_mask_that_is_spelled_out_is_refused(vocabularies):
  for name in ('masked', 'padded'):
    text = vocabularies[name]
    for string in ('a<mask>', 'a<mask>░', '<mask>'):
      with pytest.raises(ValueError, match="holds '<mask>', id .* to predict"):
        text.encode(string)
      with pytest.raises(ValueError, match="holds '<mask>'"):
        text.encode(string, '')
  # Where MASK is no token of the tokenizer's, the word is an ordinary token.
  ids = vocabularies['tokenizer'].encode('a<mask>', '')
  assert (ids < vocabularies['tokenizer'].vocab).all() and len(ids) == 2


def test_blanks_follow_the_rules_of_the_mask_token(vocabularies):
  """RoBERTa's has lstrip: the space before a blank belongs to it."""
  text = vocabularies['padded']
  ids = text.encode('the the ░, the')
  letter = lambda x: text.encode(x, '').item()
  the, comma = letter(' the'), letter(',')
  assert ids.tolist() == [letter('the'), the, 300, comma, the]
  assert text.encode('the the_, the', '_').tolist() == ids.tolist()


@pytest.mark.torch
def test_blanks_are_those_of_transformers(tmp_path):
  transformers = pytest.importorskip('transformers')
  for added in (byte_level.ADDED, [
    {**token, 'lstrip': False, 'rstrip': True} for token in byte_level.ADDED
  ]):
    model, ids = byte_level.text_of(added)
    file = tmp_path / 'tokenizer.json'
    file.write_text(model)
    theirs = transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(file), mask_token='<mask>'
    )
    mask = ids['<mask>']
    ours = vocabulary.tokenizer(model, mask=mask)
    for string in (
      '░', ' ░ ', 'a ░ b', '░░', '░ ░', 'the ░.\n ░ the', '</s>░<s> ░<tool>',
      'ab ░ab', '  ░  ', 'é ░ 漢',
    ):
      want = theirs.encode(
        string.replace(BLANK, '<mask>'), add_special_tokens=False
      )
      found = [mask if i == ours.vocab else i for i in ours.encode(string)]
      assert found == want, string


def test_ids_without_a_token_are_nothing(vocabularies):
  text = vocabularies['padded']
  first = vocabularies['tokenizer'].vocab
  assert text.unused == tuple(range(first, 300))
  ids = text.encode('the', '').tolist()
  assert text.decode([first, *ids, 299, 300]) == 'the░'
  assert vocabularies['masked'].unused == ()
  assert text.special['</s>'] == vocabularies['tokenizer'].special['</s>']
  assert '<tool>' not in text.special


def test_a_vocabulary_with_gaps_in_its_ids():
  tokenizers = pytest.importorskip('tokenizers')
  model = tokenizers.models.WordLevel({'a': 0, 'b': 2}, unk_token='a')
  inner = tokenizers.Tokenizer(model)
  inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  text = vocabulary.tokenizer(inner.to_str())
  assert text.vocab == 3 and text.unused == (1,)
  assert text.encode('a ░ b').tolist() == [0, 3, 2]
  assert text.decode([0, 1, 2]) == 'a b'


@pytest.mark.parametrize('spec, said', [
  ({'kind': 'characters', 'alphabet': 'aba'}, "the alphabet has 'a' twice"),
  ({'kind': 'characters', 'alphabet': ''}, 'is no alphabet'),
  ({'kind': 'characters', 'alphabet': ['a']}, 'is no alphabet'),
  ({'kind': 'characters'}, 'describes no vocabulary'),
  ({'kind': 'words'}, 'describes no vocabulary'),
  ({'kind': []}, 'describes no vocabulary'),
  ({}, 'describes no vocabulary'),
  (7, 'describes no vocabulary'),
  (None, 'describes no vocabulary'),
  ('{"kind"', 'describes no vocabulary'),
  ({'kind': 'bytes', 'more': 1}, 'describes no vocabulary'),
  ({'kind': 'tokenizer', 'model': 7}, 'no tokenizer that'),
  ({'kind': 'tokenizer', 'model': None, 'vocab': 2**60}, 'no tokenizer that'),
])
def test_a_spec_that_describes_nothing(spec, said):
  pytest.importorskip('tokenizers')
  with pytest.raises(ValueError, match=said) as caught:
    vocabulary.from_spec(spec)
  assert '\n' not in str(caught.value)


def test_the_size_of_a_vocabulary_is_bounded():
  model, _ = byte_level.text_of()
  for vocab in (2**60, 0, -1, 2.5):
    with pytest.raises(ValueError, match='vocabulary'):
      vocabulary.tokenizer(model, vocab)
  assert json.loads(model)['model']['type'] == 'BPE'
