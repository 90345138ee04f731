"""Vocabularies, corpora and the iterator over them."""

import json
import pathlib
import sys

import ml_collections
import numpy as np
import pytest

from punt_jax.text import vocabulary
from tests.helpers import byte_level
from train import data


def tokenizer_file(folder):
  tokenizers = pytest.importorskip('tokenizers')
  words = {word: i for i, word in enumerate(['[UNK]', 'to', 'be', 'or', 'not'])}
  model = tokenizers.models.WordLevel(words, unk_token='[UNK]')
  inner = tokenizers.Tokenizer(model)
  inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  file = folder / 'tokenizer.json'
  inner.save(str(file))
  return str(file)


def test_characters():
  found = vocabulary.characters('abc')
  assert found.vocab == 3
  ids = found.encode('cab' + vocabulary.BLANK)
  np.testing.assert_array_equal(ids, [2, 0, 1, 3])
  assert found.decode([2, 3, 0]) == 'c' + vocabulary.BLANK + 'a'
  with pytest.raises(ValueError, match="character 'z' at position 1 is not"):
    found.encode('azc')
  with pytest.raises(ValueError, match='token id 4 is not in 0..3'):
    found.decode([4])


def test_bytes():
  found = vocabulary.utf8_bytes()
  string = 'é' + vocabulary.BLANK + vocabulary.BLANK + 'b'
  ids = found.encode(string)
  np.testing.assert_array_equal(ids, [0xC3, 0xA9, 256, 256, 0x62])
  assert found.decode(ids) == string
  assert found.encode('').shape == (0,)


def test_tokenizer(tmp_path):
  with open(tokenizer_file(tmp_path)) as file:
    found = vocabulary.tokenizer(file.read())
  ids = found.encode('to be ' + vocabulary.BLANK + ' not')
  np.testing.assert_array_equal(ids, [1, 2, 5, 4])
  assert found.decode(ids) == 'to be' + vocabulary.BLANK + 'not'


def test_a_folder_of_a_checkpoint(tmp_path):
  tokenizer_file(tmp_path)  # [UNK] to be or not, ids 0 .. 4
  found = vocabulary.from_folder(tmp_path, vocab=7, mask=4)
  assert found.vocab == 7
  ids = found.encode('to be ' + vocabulary.BLANK + ' or')
  np.testing.assert_array_equal(ids, [1, 2, 7, 3])
  # Ids without a token (the embedding has more rows) are nothing.
  assert found.decode([1, 4, 5, 6, 7, 0]) == 'to not░[UNK]'
  with pytest.raises(ValueError, match="holds 'not', id 4, which is no token"):
    found.encode('to be or not to be')
  for again in (
    vocabulary.from_spec(found.spec), vocabulary.from_folder(tmp_path, 7, 4)
  ):
    np.testing.assert_array_equal(again.encode('to be ░ or'), ids)
    assert (again.vocab, again.spec) == (7, found.spec)
    with pytest.raises(ValueError, match='id 4'):
      again.encode('not')


@pytest.mark.parametrize('vocab, mask', [(4, 4), (4, 0), (3, 5)])
def test_ids_that_the_model_lacks(tmp_path, vocab, mask):
  tokenizer_file(tmp_path)
  found = vocabulary.from_folder(tmp_path, vocab, mask)
  with pytest.raises(ValueError, match=f'id 4, .* V is {vocab}; write ░'):
    found.encode('to not')


@pytest.mark.parametrize(
  'change, said',
  [
    (lambda x: '', 'no tokenizer that'),
    (lambda x: x[:-9], 'no tokenizer that'),
    (lambda x: '[' * 100_000, 'no tokenizer that'),
    (lambda x: '[]', 'no tokenizer that'),
    (lambda x: '{}', 'Model missing'),
    (lambda x: x.replace('WordLevel', 'Other'), 'no tokenizer that'),
    (lambda x: x.replace('"to": 1', '"to": -1'), 'no tokenizer that'),
    (lambda x: x.replace('"to": 1', '"to": 99999999999'), 'no tokenizer that'),
    (lambda x: '\udcff', "can't decode"),
    (None, 'has no tokenizer.json, nor vocab.json'),
  ],
)
def test_a_bad_tokenizer_file(tmp_path, change, said):
  file = pathlib.Path(tokenizer_file(tmp_path))
  if change is None:
    file.unlink()
  else:
    good = file.read_text()
    assert change(good) != good
    file.write_text(change(good), errors='surrogateescape')
  with pytest.raises(ValueError, match=said) as error:
    vocabulary.from_folder(tmp_path, 7, 4)
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


def test_a_file_that_cuts_and_pads(tmp_path):
  tokenizers = pytest.importorskip('tokenizers')
  inner = tokenizers.Tokenizer.from_file(tokenizer_file(tmp_path))
  inner.enable_truncation(3)
  inner.enable_padding(length=3)
  found = vocabulary.tokenizer(inner.to_str())
  assert found.encode('to').tolist() == [1]
  assert found.encode('to be or not').tolist() == [1, 2, 3, 4]


def merges_folder(folder, kind='Qwen2Tokenizer', added=None, **card):
  """A tokenizer of vocab.json and merges.txt, added tokens behind it."""
  tokenizers = pytest.importorskip('tokenizers')
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  pairs = "t h,th e,Ġ the,1 2,Ċ Ċ,. Ċ,Ġ Ġ,' t,Ã ©".split(',')
  tokens = ['<|endoftext|>', *letters, *(p.replace(' ', '') for p in pairs)]
  vocab = {token: i for i, token in enumerate(tokens)}
  added = {len(vocab): '<|m_end|>', len(vocab) + 1: '<|mask|>'} | (added or {})
  card |= {
    'tokenizer_class': kind,
    'added_tokens_decoder': {
      str(i): {'content': token, 'special': True}
      for i, token in added.items()
    },
  }
  (folder / 'vocab.json').write_text(json.dumps(vocab))
  (folder / 'merges.txt').write_text('\n'.join(['#version: 0.2', *pairs, '']))
  (folder / 'tokenizer_config.json').write_text(json.dumps(card))
  return vocab


def test_a_folder_of_vocabulary_and_merges(tmp_path):
  vocab = merges_folder(tmp_path, 'DreamTokenizer')
  size = len(vocab) + 2
  found = vocabulary.from_folder(tmp_path, size, size - 1)
  say = lambda string: [vocab[x] for x in string.split(',')]
  # Digits stand alone, and what follows a dot does not join the next word.
  assert found.encode('the the12').tolist() == say('the,Ġthe,1,2')
  assert found.encode('a<|m_end|>.\n').tolist() == [
    vocab['a'], size - 2, vocab['.Ċ']
  ]
  assert found.encode('e\u0301░').tolist() == [vocab['Ã©'], size]  # NFC
  assert found.decode(found.encode("<|endoftext|>thé n't ░")) == (
    "<|endoftext|>thé n't ░"
  )
  with pytest.raises(ValueError, match="holds '<|mask|>'"):
    found.encode('a<|mask|>')
  merges_folder(tmp_path, 'GPT2TokenizerFast')
  gpt2 = vocabulary.from_folder(tmp_path, size, size)
  assert gpt2.encode('the12').tolist() == say('the,12')
  again = vocabulary.from_spec(gpt2.spec)
  assert again.encode('the12').tolist() == say('the,12')


@pytest.mark.parametrize('change, said', [
  (dict(kind='CLIPTokenizer'), 'tokenizer_class is CLIPTokenizer and there is'),
  (dict(kind=None), 'tokenizer_class is None and there is no tokenizer.json'),
  (dict(added={999: '<|far|>'}), "'<|far|>' has the id 999, but"),
  (dict(added={'x': '<|far|>'}), 'special tokens .* fetch its files again'),
  (dict(merges='t\n'), 'no vocabulary and merges'),
  (dict(vocab='[]'), 'no vocabulary and merges'),
  (dict(vocab=None), 'no vocabulary and merges'),
])
def test_bad_vocabularies_and_merges(tmp_path, change, said):
  files = {x: change.pop(x) for x in ('merges', 'vocab') if x in change}
  merges_folder(tmp_path, **change)
  for name, content in files.items():
    file = tmp_path / ('merges.txt' if name == 'merges' else 'vocab.json')
    file.write_text(content) if content else file.unlink()
  said = said.replace('|', r'\|')
  with pytest.raises(ValueError, match=said) as error:
    vocabulary.from_folder(tmp_path, 300, 299)
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.torch
@pytest.mark.parametrize('kind', ['Qwen2Tokenizer', 'GPT2Tokenizer'])
def test_merges_as_transformers_reads_them(tmp_path, kind):
  transformers = pytest.importorskip('transformers')
  vocab = merges_folder(tmp_path, kind)
  theirs = getattr(transformers, kind).from_pretrained(tmp_path)
  ours = vocabulary.from_folder(tmp_path, len(vocab) + 2, len(vocab) + 2)
  for string in (
    'the the12 3456', "can't WE'LL n't'th", ' the\n\n\nthe.\n\n  the  ',
    'e\u0301 é 漢字 🙂 \u00bd\u0663', 'a<|m_end|>the<|endoftext|> the <|mask|>',
    '\t\r\n the!?\r\nthe', '', ' ', '_x-y(12.5)',
  ):
    ids = theirs.encode(string, add_special_tokens=False)
    assert ours.encode(string).tolist() == ids, string
    said = theirs.decode(
      ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    assert ours.decode(ids) == said


def test_a_tokenizer_that_fails(tmp_path):
  file = pathlib.Path(tokenizer_file(tmp_path))
  file.write_text(file.read_text().replace('"[UNK]": 0', '"none": 0'))
  found = vocabulary.from_folder(tmp_path, 7, 4)
  with pytest.raises(ValueError, match='the tokenizer fails: WordLevel'):
    found.encode('unknown')


def test_without_tokenizers(tmp_path, monkeypatch):
  (tmp_path / 'tokenizer.json').write_text('{}')
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  with pytest.raises(ValueError, match=r"pip install 'punt-jax\[hf\]'"):
    vocabulary.from_folder(tmp_path, 7, 4)


@pytest.mark.parametrize('kind', ['characters', 'bytes', 'file'])
def test_a_vocabulary_survives_its_spec(tmp_path, kind):
  kind = tokenizer_file(tmp_path) if kind == 'file' else kind
  found = data.vocabulary(kind, 'to be or not to be')
  again = vocabulary.from_spec(found.spec)
  ids = found.encode('not to be')
  np.testing.assert_array_equal(again.encode('not to be'), ids)
  assert again.decode(ids) == 'not to be'
  assert again.vocab == found.vocab


def test_reading_a_folder(tmp_path):
  (tmp_path / 'inner').mkdir()
  (tmp_path / 'inner' / 'b.txt').write_text('second', 'utf-8')
  (tmp_path / 'a.txt').write_text('first', 'utf-8')
  assert data.read_text(str(tmp_path)) == 'first\nsecond'
  # What other systems write at the beginning and at the end of lines.
  (tmp_path / 'inner' / 'b.txt').write_bytes('\ufeffse\r\ncond'.encode())
  (tmp_path / 'a.txt').write_bytes('\ufefffirst'.encode())
  assert data.read_text(str(tmp_path)) == 'first\nse\ncond'


def test_pydoc_topics_are_there():
  assert len(data.read_text('pydoc')) > 100_000


@pytest.mark.parametrize(
  'content, said',
  [
    (b'', 'is empty'),
    (b' \n', 'is empty'),
    (b'ab\xff', r'is not UTF-8 \(byte 2\)'),
    (None, 'there is no corpus at'),
  ],
)
def test_a_bad_corpus(tmp_path, content, said):
  file = tmp_path / 'corpus.txt'
  if content is not None:
    file.write_bytes(content)
  with pytest.raises(ValueError, match=said):
    data.read_text(str(file))


def text_config(path, **values):
  values = {'tokens': 'characters', 'length': 8, 'heldout': 0.2, **values}
  config = ml_collections.ConfigDict({'seed': 0, 'batch': 4})
  config.data = ml_collections.ConfigDict({'path': str(path), **values})
  return config


def test_text_data(tmp_path):
  file = tmp_path / 'corpus.txt'
  file.write_text('abcdefghij' * 20)
  found = data.load(text_config(file))
  assert (found.vocab, found.units) == (10, 1.0)
  assert found.heldout.shape == (5, 8)  # 40 characters held out
  batch = found.batch(3)
  assert batch.shape == (4, 8)
  # Windows of the text: each character is followed by the next one.
  np.testing.assert_array_equal((batch[:, 1:] - batch[:, :-1]) % 10, 1)


@pytest.mark.parametrize('tokens', ['characters', 'bytes', 'file'])
def test_no_letter_of_a_corpus_is_mask(tmp_path, tokens):
  if tokens == 'file':
    file, tokens = byte_level.text_of()[0], str(tmp_path / 'tokenizer.json')
    pathlib.Path(tokens).write_text('\ufeff' + file, 'utf-8')
  file = tmp_path / 'corpus.txt'
  file.write_text('ab░\x00🙂 ' * 40, 'utf-8')
  found = data.load(text_config(file, tokens=tokens))
  for step in range(3):
    assert found.batch(step).max() < found.vocab > found.heldout.max()
  assert '░' in found.text.decode(found.heldout.ravel())


def test_units_count_tokens_per_character(tmp_path):
  file = tmp_path / 'corpus.txt'
  file.write_text('é' * 100, 'utf-8')
  assert data.load(text_config(file, tokens='bytes')).units == 2.0


@pytest.mark.parametrize(
  'values, said',
  [
    ({'length': 64}, 'is too short: 80 tokens to train on and 20 held out'),
    ({'length': 32, 'heldout': 0.1}, 'is too short'),
    ({'tokens': 'words'}, "data.tokens is 'words': use 'characters'"),
  ],
)
def test_bad_text_settings(tmp_path, values, said):
  file = tmp_path / 'corpus.txt'
  file.write_text('abcde' * 20)
  with pytest.raises(ValueError, match=said):
    data.load(text_config(file, **values))


def test_windows_are_shuffled_and_each_epoch_shows_all():
  ids = np.arange(103)
  batch = data.windows(ids, length=10, batch=3, seed=1)  # 9 windows
  epochs = [
    np.concatenate([batch(step)[:, 0] for step in range(3 * e, 3 * e + 3)])
    for e in range(3)
  ]
  for starts in epochs:
    assert sorted(np.diff(np.sort(starts))) == [10] * 8
    assert list(starts) != sorted(starts)
  assert list(epochs[0]) != list(epochs[1])
  np.testing.assert_array_equal(
    data.windows(ids, 10, 3, seed=1)(7), batch(7)
  )
  assert (data.windows(ids, 10, 3, seed=2)(7) != batch(7)).any()
