"""Prompts: from what a person gives to rows of a batch, for the generator."""

import numpy as np

from punt_jax import checks
from punt_jax.text.vocabulary import BLANK


def ends_of(loaded):
  """Sorted ids of the tokens that end a text, as far as they are known.

  In Pretrained.ids they are 'eos', 'eos_2', ... and 'eot'.
  """
  ids = loaded.ids or {}
  return sorted({ids[x] for x in ids if x.split('_')[0] in ('eos', 'eot')})


def ids_of(loaded, wanted):
  """Token ids from names ('eos', ...) and ids; ValueError if unknown."""
  ids = loaded.ids or {}
  known = lambda name: ids[checks.known('token of this model', name, ids)]
  return [known(x) if isinstance(x, str) else x for x in wanted]


def encode(settings, loaded, prompt):
  """(n,) int32 ids of a prompt, V at blanks.

  Args:
    settings: generator.Settings.
    loaded: checkpoints.Pretrained.
    prompt: str, or messages [{'role': str, 'content': str}, ...].

  Raises:
    ValueError: one sentence: no chat template, a token that the model does
      not have, a mask where none belongs or none where one does, too long.
  """
  if settings.chat and isinstance(prompt, str):
    prompt = [{'role': 'user', 'content': prompt}]
  open_ = lambda x: x.replace(settings.blank, BLANK) if settings.blank else x
  if isinstance(prompt, str):
    prompt = open_(prompt)
  elif loaded.chat is None:
    raise ValueError('the model has no chat template, only plain prompts')
  else:  # a template may hold what stands for a blank
    prompt = loaded.chat([m | {'content': open_(m['content'])} for m in prompt])
  vocab, most = loaded.text.vocab, loaded.room
  ids = loaded.text.encode(settings.prefix + prompt)
  masks = int((ids == vocab).sum())
  new = 0 if settings.blank else settings.max_new_tokens
  if settings.blank and not masks:
    raise ValueError(
      f'the prompt has no blank: write {settings.blank} for each one to fill'
    )
  if masks and not settings.blank:
    raise ValueError(
      f'the prompt has a mask ({BLANK}): to have masks filled, say what they'
      f' look like with blank={BLANK}'
    )
  if len(ids) + new > most:
    raise ValueError(
      f'the prompt has {len(ids)} tokens and {new} are to follow, but the model'
      f' has room for {most}: shorten it or lower max_new_tokens'
    )
  return ids.astype(np.int32)


def canvas(settings, vocab, ids):
  """The prompt and the masks behind it, (n,) int32."""
  masks = [] if settings.blank else [vocab] * settings.max_new_tokens
  return np.append(ids, masks).astype(np.int32)


def padded(settings, loaded, length):
  """The canvas length of a row: a multiple of settings.bucket if there is room.

  `length` if it is longer than the model's: from prompts not of `encode`.
  """
  rounded = -(-length // settings.bucket) * settings.bucket
  return max(length, min(rounded, loaded.room))


def batches(lengths, size):
  """[(length, indices of at most `size` rows of it), ...], longest first.

  The longest first, so that what does not fit in memory shows at once.
  """
  return [
    (length, group[i : i + size])
    for length in sorted(set(lengths), reverse=True)
    for group in [[i for i, n in enumerate(lengths) if n == length]]
    for i in range(0, len(group), size)
  ]


def lay(rows, count, length):
  """Rows padded on the left -> tokens (count, length), valid.

  Missing rows have one valid position and nothing to write.
  """
  tokens = np.zeros((count, length), np.int32)
  valid = np.zeros((count, length), bool)
  valid[:, -1] = True
  for r, row in enumerate(rows):
    tokens[r, length - len(row) :] = row
    valid[r, length - len(row) :] = True
  return tokens, valid


def cut(text, stops):
  """The text before the first stop string in it."""
  ends = [text.find(stop) for stop in stops if stop]
  return text[: min([end for end in ends if end >= 0], default=len(text))]
