"""Texts that are shown while they are written: finished blocks, as they come.

The rows are those of `generator.write`, on one device. What has been shown is
never taken back.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

import punt_jax
from punt_jax import decode
from punt_jax.generation import options, prompts
from punt_jax.generation.batches import (
  Batch,
  Plan,
  Written,
  before_end,
  calling,
  laid,
  once,
  plain,
  told,
  written,
)
from punt_jax.generation.prompts import need_text
from punt_jax.types import Decoded, short


class Piece(NamedTuple):
  """What has been added to the text of a row."""

  number: int  # of the row
  text: str  # what is new; all of them joined are Written.text
  done: bool  # whether this is the last of the row
  row: Written | None = None  # the finished row, with its last piece

  __repr__ = short


class Row:
  """What has been shown of a row."""

  def __init__(self, plan: Plan, batch: Batch, place: int) -> None:
    self.plan, self.place = plan, place
    self.row, self.number = batch.rows[place], batch.numbers[place]
    self.shared = len(batch.rows)
    self.shown, self.done = '', False

  def pieces(
    self, out: Decoded, settled: np.ndarray, seconds: float
  ) -> list[Piece]:
    """What is new, in one Piece or none; settled (B, L) as of punt_jax.stream.
    """
    if self.done:
      return []
    settings, loaded = self.plan.settings, self.plan.loaded
    self.done, row = bool(out.done[self.place]), None
    if self.done:
      row = written(settings, loaded, self.row, self.number, out, self.place)
      row = row._replace(seconds=seconds, shared=self.shared)
    text = row.text if row else self._so_far(out, settled)
    new = text[len(self.shown) :] if text.startswith(self.shown) else ''
    self.shown += new
    return [Piece(self.number, new, self.done, row)] * bool(new or self.done)

  def _so_far(self, out, settled):
    """The text before what is not settled, as far as it is certain."""
    loaded, count = self.plan.loaded, len(self.row)
    known = int(np.append(settled[self.place, -count:], False).argmin())
    ids = out.tokens[self.place, -count:][:known]
    if not self.plan.settings.blank:
      ids = ids[self.row[:known] == need_text(loaded).vocab]
      ids = ids[: before_end(loaded, ids)]
    return certain(plain(loaded, ids))


def certain(said: str) -> str:
  """What stays of the text of some tokens, whichever follow: whole letters."""
  return said.rstrip('\ufffd')


def stream(
  plan: Plan, given: Sequence[np.ndarray], numbers: Sequence[int]
) -> Iterator[Piece]:
  """Yields the pieces of rows; arguments as of Generator.write."""
  params, hyperparams = plan.loaded.params, plan.hyperparams
  key = jax.random.key(plan.settings.seed)
  for batch in laid(plan, given, numbers):
    run = _compiled(plan, *batch.tokens.shape)
    rows = [Row(plan, batch, place) for place in range(len(batch.rows))]
    begun = time.perf_counter()
    with calling([plan.name(number) for number in batch.numbers]):
      flow = run(
        params, hyperparams, key, batch.tokens, valid=batch.valid,
        rows=batch.named,
      )
      for now, settled in flow:
        out = jax.tree.map(np.asarray, decode.finish(now))
        settled, seconds = np.asarray(settled), time.perf_counter() - begun
        for row in rows:
          yield from row.pieces(out, settled, seconds)
      options.check_finished(plan.choice, out)


def _compiled(plan, count, length):
  """punt_jax.stream for canvases of one length."""
  loaded, most = plan.loaded, options.most_steps(plan.choice, length)

  def make():
    if plan.tell:
      plan.tell(told(loaded, plan.settings, length))
    run = punt_jax.stream(plan.build, most)
    row = np.array([need_text(loaded).vocab])  # a mask: something to compile
    tokens, valid = prompts.lay([row], count, length)
    named, key = np.zeros(count, np.int32), jax.random.key(0)
    args = loaded.params, plan.hyperparams, key, tokens
    with contextlib.suppress(ValueError):  # of logits that are not finite
      list(run(*args, valid=valid, rows=named))
    return run

  program = 'stream', plan.static, count, length, most
  return once(loaded.denoiser, program, make)
