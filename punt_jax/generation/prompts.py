"""Prompts: from what a person gives to rows of a batch, for the generator."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from punt_jax import checks
from punt_jax.checkpoints import Pretrained
from punt_jax.text.vocabulary import BLANK, Text
from punt_jax.types import Messages


def need_text(loaded: Pretrained) -> Text:
  """Its vocabulary; a ValueError that says how to get one if it has none."""
  if loaded.text is None:
    raise ValueError(
      'the model has no tokenizer.json, which texts need: copy the files of its'
      " tokenizer into its folder (for MDLM: GPT-2's)"
    )
  return loaded.text


def ends_of(loaded: Pretrained) -> list[int]:
  """Sorted ids of the tokens that end a text, as far as they are known.

  In Pretrained.ids they are 'eos', 'eos_2', ... and 'eot'.
  """
  ids = loaded.ids or {}
  return sorted({ids[x] for x in ids if x.split('_')[0] in ('eos', 'eot')})


def special_of(loaded: Pretrained) -> list[int]:
  """Ids of tokens that are no text: the tokenizer's, and those with names."""
  named = (loaded.ids or {}).values()
  return sorted({*named, *need_text(loaded).special.values()})


def ids_of(loaded: Pretrained, wanted: Sequence[str | int]) -> list[int]:
  """Token ids from names ('eos', ...) and ids; ValueError if unknown."""
  ids = loaded.ids or {}
  if not ids and any(isinstance(x, str) for x in wanted):
    raise ValueError('no token of this model has a name: ban ids, not names')
  known = lambda name: ids[checks.known('token of this model', name, ids)]
  return [known(x) if isinstance(x, str) else x for x in wanted]


def is_chat(messages: Any) -> bool:
  """Whether it is a list of {'role': str, 'content': str}, not empty."""
  return isinstance(messages, list) and bool(messages) and all(
    isinstance(m, dict) and set(m) == {'role', 'content'}
    and all(isinstance(x, str) for x in m.values()) for m in messages
  )


def spare(*texts: str) -> list[str]:
  """Two letters that stand in none of the texts."""
  free = (chr(c) for c in range(0xF0000, 0xFFFFE))  # of private use
  unseen = (c for c in free if not any(c in text for text in texts))
  return list(itertools.islice(unseen, 2))


def parted(content: str, tokens: Iterable[str], seam: str) -> str:
  """Text in which no special token is spelled out without a seam in it."""
  for token in tokens:
    if len(token) == 1 and token in content:
      raise ValueError(f'a message holds {token!r}, which is a special token')
    while token in content:
      content = content.replace(token, token[0] + seam + token[1:])
  return content


def encode(
  settings: Any, loaded: Pretrained, prompt: str | Messages,
  room: float | None = None,
) -> np.ndarray:
  """(n,) int32 ids of a prompt, V at blanks and nowhere else.

  Special tokens that are spelled out are tokens in a plain prompt, as in
  transformers, but letters in a message: there only the template has them. The
  model's mask is refused in both.

  Args:
    settings: generator.Settings.
    loaded: checkpoints.Pretrained.
    prompt: str, or messages [{'role': str, 'content': str}, ...].
    room: tokens that it may have with those to follow; None: loaded.room.

  Raises:
    ValueError: one sentence: no chat template, a token that the model does
      not have, a mask where none belongs or none where one does, too long.
  """
  text = need_text(loaded)
  if not isinstance(prompt, str) and not is_chat(prompt):
    raise ValueError(
      f'{prompt!r:.60} is no prompt: give a string, or messages'
      " [{'role': 'user', 'content': '...'}]"
    )
  if settings.chat and isinstance(prompt, str):
    prompt = [{'role': 'user', 'content': prompt}]
  given = [prompt] if isinstance(prompt, str) else [
    x for message in prompt for x in message.values()
  ]
  blank, seam = spare(settings.prefix, *given)
  open_ = lambda x: x.replace(settings.blank, blank) if settings.blank else x
  if isinstance(prompt, str):
    said = open_(prompt)
  elif loaded.chat is None:
    raise ValueError('the model has no chat template, only plain prompts')
  else:  # a template may hold what stands for a blank, and special tokens
    mask = (loaded.ids or {}).get('mask')  # which no text may hold
    tokens = [x for x in text.special if text.special[x] != mask]
    part = lambda x: parted(x, tokens, seam)
    said = loaded.chat([
      {'role': part(m['role']), 'content': part(open_(m['content']))}
      for m in prompt
    ])
  try:
    ids = text.encode(settings.prefix + said, blank, seam)
  except ValueError as error:
    if BLANK not in said or settings.blank:
      raise
    raise ValueError(
      f'{error}; the prompt has a mask ({BLANK}): to have masks filled, say'
      f" what stands for them, blank='{BLANK}' or --blank={BLANK}"
    ) from None
  most = loaded.room if room is None else room
  new = 0 if settings.blank else settings.max_new_tokens
  if settings.blank and text.vocab not in ids:
    raise ValueError(
      f'the prompt has no blank: write {settings.blank} for each one to fill'
    )
  if len(ids) + new > most:
    raise ValueError(
      f'the prompt has {len(ids)} tokens and {new} are to follow, but the model'
      f' has room for {most}: shorten it or lower max_new_tokens'
    )
  return ids.astype(np.int32)


def canvas(settings: Any, vocab: int, ids: np.ndarray) -> np.ndarray:
  """The prompt and the masks behind it, (n,) int32."""
  masks = [] if settings.blank else [vocab] * settings.max_new_tokens
  return np.append(ids, masks).astype(np.int32)


def padded(settings: Any, loaded: Pretrained, length: int) -> int:
  """The canvas length of a row: a multiple of settings.bucket if there is room.

  `length` if it is longer than the model's: from prompts not of `encode`.
  """
  rounded = -(-length // settings.bucket) * settings.bucket
  return max(length, min(rounded, loaded.room))


def batches(lengths: Sequence[int], size: int) -> list[tuple[int, list[int]]]:
  """[(length, indices of at most `size` rows of it), ...], longest first.

  The longest first, so that what does not fit in memory shows at once.
  """
  return [
    (length, group[i : i + size])
    for length in sorted(set(lengths), reverse=True)
    for group in [[i for i, n in enumerate(lengths) if n == length]]
    for i in range(0, len(group), size)
  ]


def lay(
  rows: Sequence[np.ndarray], count: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
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


def cut(
  text: str, stops: Sequence[str], marks: Sequence[tuple[int, str]] = ()
) -> str:
  """The text before the first stop string in it.

  White space alone ends a text only once it has begun: a line break before the
  first letter would leave nothing of the answer.

  Args:
    text: special tokens left out.
    stops: strings; an empty one stops nothing.
    marks: (place in `text`, what it is called) of its special tokens: they end
      it where a stop string is one.
  """
  begun = len(text) - len(text.lstrip()) if text.strip() else 0
  ends = [text.find(x, 0 if x.strip() else begun) for x in stops if x]
  ends += [place for place, token in marks if token in map(str.strip, stops)]
  return text[: min([end for end in ends if end >= 0], default=len(text))]
