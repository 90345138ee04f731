"""Tokenizer files that would fill memory, number tokens twice, or panic."""

import json

import pytest

from punt_jax.text import tokenizer_checks, vocabulary

pytest.importorskip('tokenizers')


def file(model=(), **parts):
  """The JSON text of a tokenizer of the letters a and b."""
  bpe = dict(
    type='BPE', dropout=None, unk_token=None, continuing_subword_prefix=None,
    end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
    vocab={'a': 0, 'b': 1}, merges=[],
  )
  empty = dict.fromkeys((
    'truncation', 'padding', 'normalizer', 'pre_tokenizer', 'post_processor',
    'decoder',
  ))
  return json.dumps(
    {'version': '1.0', 'added_tokens': [], **empty}
    | {'model': {**bpe, **dict(model)}} | parts
  )


def replace(pattern, content, times=1):
  if isinstance(pattern, str):
    pattern = {'String': pattern}
  rule = {'type': 'Replace', 'pattern': pattern, 'content': content}
  return {'type': 'Sequence', 'normalizers': [rule] * times}


def several(*rules):
  return {'type': 'Sequence', 'normalizers': list(rules)}


def added(content, i):
  flags = dict.fromkeys(
    ('single_word', 'lstrip', 'rstrip', 'normalized', 'special'), False
  )
  return {'id': i, 'content': content, **flags}


def level(times):
  rule = dict(
    type='ByteLevel', add_prefix_space=False, trim_offsets=True, use_regex=False
  )
  return {'type': 'Sequence', 'pretokenizers': [rule] * times}


def deep(times):
  text = 'null'
  for _ in range(times):
    text = f'{{"type": "Sequence", "normalizers": [{text}]}}'
  return file().replace('"normalizer": null', f'"normalizer": {text}')


LARGE = r'makes up to .* letters of one, more than 64'
WORDS = {
  'type': 'WordPiece', 'unk_token': 'b', 'continuing_subword_prefix': '##',
  'max_input_chars_per_word': 10**9, 'vocab': {'a': 0, 'b': 1},
}
REFUSED = {
  'five times fifty': (file(normalizer=replace('a', 'a' * 50, 5)), LARGE),
  'eight doublings': (file(normalizer=replace('a', 'aa', 8)), LARGE),
  'of nothing': (file(normalizer=replace('', 'a' * 8, 3)), LARGE),
  'expressions': (
    file(normalizer=replace({'Regex': 'a*'}, 'a' * 8, 3)), LARGE,
  ),
  'nested': (
    file(normalizer=several(*[replace('a', 'a' * 50)] * 5)), LARGE,
  ),
  'other letters between': (
    file(normalizer=several(
      replace('a', 'A' * 50), {'type': 'Lowercase'}, replace('a', 'A' * 50)
    )), LARGE,
  ),
  'bytes of bytes': (file(pre_tokenizer=level(30)), LARGE),
  'when decoding': (file(decoder={
    'type': 'Sequence',
    'decoders': replace('a', 'a' * 50, 5)['normalizers'],
  }), LARGE),
  'many rules': (file(normalizer=replace('a', 'a', 1000)), 'more than 100 par'),
  'deep': (deep(20_000), 'recursion'),
  'no rule': (file(normalizer=[1]), 'no tokenizer that'),
  'half a rule': (file(normalizer={'type': 'Replace'}), 'no tokenizer that'),
  'a table that is none': (file(
    normalizer={'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}
  ), 'Cannot parse precompiled_charsmap'),
  'ids 2**40': (file({'vocab': {'a': 0, 'b': 2**40}}), 'the id 1099511627776'),
  'ids -1': (file({'vocab': {'a': -1, 'b': 1}}), 'the id -1'),
  'ids in words': (file({'vocab': {'a': 'x', 'b': 1}}), "the id 'x'"),
  'ids of true': (file({'vocab': {'a': 0, 'b': True}}), 'the id True'),
  'two of one id': (file({'vocab': {'a': 0, 'b': 0}}), 'have one id'),
  'a token twice': (
    file().replace('"a": 0', '"a": 0, "a": 7'), "'a' occurs twice",
  ),
  'a long token': (
    file({'vocab': {'a': 0, 'b' * 20_000: 1}}), "'b{59}... has more than 10000",
  ),
  'a long prefix': (
    file({'continuing_subword_prefix': 'x' * 10**4}), 'more than 64 letters',
  ),
  'cubes of a word': (file(model=WORDS), 'per_word is more than 1000'),
  'ids of 5,000 digits': (
    file().replace('"a": 0', f'"a": {"9" * 5000}'), '5000 digits',
  ),
  'added elsewhere': (
    file(added_tokens=[added('zz', 7)]), "'zz' has the id 7, but 2 is the next",
  ),
  'added nothing': (file(added_tokens=[added('', 2)]), "'' is empty or has"),
  'added twice': (
    file(added_tokens=[added('zz', 2), added('zz', 3)]), 'or has two ids',
  ),
  'no object': ('3', 'no object'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_files_that_are_refused(case):
  text, said = REFUSED[case]
  with pytest.raises(ValueError, match=said) as error:
    vocabulary.tokenizer(text)
  assert '\n' not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize('normalizer, ids', [
  (replace('a', 'aa', 5), [0] * 32 + [1]),
  (several(*(replace(chr(200 + i), 'abab') for i in range(20))), [0, 1]),
  (replace({'Regex': 'a+'}, 'b'), [1, 1]),
  (several({'type': 'NFKC'}, {'type': 'Lowercase'}), [0, 1]),
])
def test_files_that_are_read(normalizer, ids):
  text = vocabulary.tokenizer(file(normalizer=normalizer))
  assert text.encode('ab').tolist() == ids


def test_growth_is_what_the_rules_make():
  rules = [replace('a', 'bb'), replace('b', 'ccc'), replace('x', 'ddddd')]
  rules = [rule['normalizers'][0] for rule in rules]
  assert tokenizer_checks.growth(rules) == 6  # a -> bb -> cccccc
  assert tokenizer_checks.growth(rules[::-1]) == 5  # and no b makes more


def test_a_panic_of_the_package_is_a_sentence():
  """It is no Exception, and ended in a traceback."""
  split = {
    'type': 'Split', 'pattern': {'Regex': '(a+)+c'}, 'behavior': 'Isolated',
    'invert': False,
  }
  text = vocabulary.tokenizer(file(pre_tokenizer=split))
  assert text.encode('aab').tolist() == [0, 0, 1]
  with pytest.raises(ValueError, match='fails: .*retry-limit-in-match over'):
    text.encode('a' * 2000 + 'b')
  cut = {'type': 'Strip', 'content': 'a', 'start': 10**9, 'stop': 10**9}
  text = vocabulary.tokenizer(file(decoder=cut))
  with pytest.raises(ValueError, match='the tokenizer fails: index out of'):
    text.decode([0, 1])


def test_nothing_is_drawn():
  """A file may ask for dropout, which is for training."""
  merges = {'vocab': {'a': 0, 'b': 1, 'ab': 2}, 'merges': ['a b']}
  text = vocabulary.tokenizer(file({**merges, 'dropout': 0.9}))
  assert text.encode('ab' * 40).tolist() == [2] * 40
