"""What the generator lays on canvases, and what it reads off them."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from punt_jax.checkpoints import Pretrained
from punt_jax.generation import options, prompts
from punt_jax.generation.prompts import need_text
from punt_jax.generation.settings import Settings
from punt_jax.types import BuildFn, Decoded, Tree, short


class Written(NamedTuple):
  """One finished row; plain numbers, ready for JSON."""

  number: int  # of the row
  text: str  # what was written, cut before the first end token; with blanks
  # the whole prompt, filled; special tokens are left out
  tokens: list[int]  # ids written, in the order of their positions; end tokens
  # follow a text that ended early
  count: int  # of them, those before the first end token
  nfe: int
  depth: int
  positions: int  # computed for the row
  steps: int
  log_q: float  # nats
  seconds: float  # that its batch took, compilation aside
  shared: int  # rows in the batch

  __repr__ = short


class Plan(NamedTuple):
  """A model with a sampler, all of it checked."""

  loaded: Pretrained
  choice: options.Choice
  settings: Settings
  build: BuildFn
  hyperparams: Tree
  static: tuple  # what tells programs apart
  mesh: Mesh | None
  tell: Callable[[str], Any] | None
  name: Callable[[int], str]


class Batch(NamedTuple):
  """Some rows, laid on canvases of one length."""

  rows: list[np.ndarray]  # (n,) ids of each, V at masks
  numbers: list[int]  # theirs
  tokens: np.ndarray  # (settings.batch, L) int32
  valid: np.ndarray
  named: np.ndarray  # (settings.batch,) int32: numbers, 0 where no row is


def laid(
  plan: Plan, given: Sequence[np.ndarray], numbers: Sequence[int]
) -> Iterator[Batch]:
  """Yields batches of prompts (n,), the longest canvases first.

  Raises:
    ValueError: numbers that would draw like others.
  """
  if not all(0 <= number < 2**31 for number in numbers):
    raise ValueError(
      f'row numbers lie in [0, 2**31), not in {min(numbers)} to'
      f' {max(numbers)}: other rows would draw like them'
    )
  settings, vocab = plan.settings, need_text(plan.loaded).vocab
  rows = [prompts.canvas(settings, vocab, ids) for ids in given]
  lengths = [prompts.padded(settings, plan.loaded, len(row)) for row in rows]
  for length, batch in prompts.batches(lengths, settings.batch):
    mine = [rows[i] for i in batch]
    named = np.zeros(settings.batch, np.int32)
    named[: len(batch)] = whose = [numbers[i] for i in batch]
    yield Batch(
      mine, whose, *prompts.lay(mine, settings.batch, length), named
    )


@contextlib.contextmanager
def calling(names: Sequence[str]) -> Iterator[None]:
  """Sentences about `row 1` of a batch name names[1] instead."""
  try:
    yield
  except ValueError as error:
    call = lambda row: (
      names[int(row[1])] if int(row[1]) < len(names) else row.group()
    )
    raise ValueError(re.sub(r'\brow (\d+)', call, str(error))) from None


def told(loaded: Pretrained, settings: Settings, length: int) -> str:
  """What to say before a program is compiled."""
  canvases = 'canvas' if settings.batch == 1 else 'canvases'
  said = (
    f'compiling for {settings.batch} {canvases} of {length} positions, once for'
    f' every multiple of {settings.bucket}'
  )
  if length > loaded.length:
    said += f'; the model was trained on {loaded.length} positions'
  return said


_MADE = []  # (denoiser, key, what was made of them), the newest last


def once(denoiser: Any, key: Any, make: Callable[[], Any]) -> Any:
  """make(), or what it gave for this very denoiser and an equal key.

  So that a second call of `prepare` compiles nothing anew. The last 16 are
  kept; they hold programs, no weights.
  """
  for whose, its, made in _MADE:
    if whose is denoiser and its == key:
      return made
  made = make()
  _MADE.append((denoiser, key, made))
  del _MADE[:-16]
  return made


def blocks_of(loaded: Pretrained) -> int:
  """Positions of a block of the model; 0 if it sees whole canvases."""
  return getattr(loaded, 'block_length', 0)


def before_end(loaded: Pretrained, ids: np.ndarray) -> int:
  """How many of the ids (n,) stand before the first token that ends a text."""
  ended = np.isin(ids, prompts.ends_of(loaded))
  return int(ended.argmax()) if ended.any() else len(ids)


def plain(loaded: Pretrained, ids: np.ndarray) -> str:
  """The text of ids (n,), special tokens left out."""
  gone = np.isin(ids, prompts.special_of(loaded))
  return need_text(loaded).decode(np.asarray(ids)[~gone])


def written(
  settings: Settings, loaded: Pretrained, row: np.ndarray, number: int,
  out: Decoded, r: int,
) -> Written:
  """Row r of a Decoded whose canvas was `row`, as numbers and a text."""
  tokens = np.asarray(out.tokens)[r, -len(row) :]
  ids = tokens[row == need_text(loaded).vocab]
  count = before_end(loaded, ids)
  shown = tokens if settings.blank else ids[:count]
  one = lambda values: values[r].item()
  return Written(
    number, plain(loaded, shown), ids.tolist(), count, one(out.meter.nfe),
    one(out.meter.depth), one(out.meter.positions), one(out.steps),
    one(out.log_q), 0.0, 0,
  )
