"""A tokenizer like RoBERTa's and LLaMA's: bytes, a few merges, added tokens."""

import json

import pytest

ADDED = (
  dict(content='<s>', special=True),
  dict(content='</s>', special=True),
  dict(content='<|eot|>', special=True),
  dict(content='<tool>', special=False),
  dict(content='<mask>', special=True, lstrip=True),
)


def text_of(added=ADDED):
  """The JSON text of a tokenizer file, and the ids of its added tokens."""
  tokenizers = pytest.importorskip('tokenizers')
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  merges = [('t', 'h'), ('th', 'e'), ('Ġ', 'the'), ('<', '|'), ('a', 'b')]
  tokens = [*letters, *map(''.join, merges)]
  vocab = {token: i for i, token in enumerate(tokens)}
  inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
  inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  inner.decoder = tokenizers.decoders.ByteLevel()
  for token in added:
    inner.add_tokens([tokenizers.AddedToken(normalized=False, **token)])
  ids = {x['content']: inner.token_to_id(x['content']) for x in added}
  text = json.loads(inner.to_str())
  return json.dumps(text), ids
