"""Random tokens: the floor of a task, below which a score says nothing."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from punt_jax.checkpoints import Pretrained
from punt_jax.generation import generator


class Guess(NamedTuple):
  """Of generator.Written, what the harness reads."""

  number: int
  text: str
  count: int
  nfe: int = 0
  seconds: float = 0.0
  shared: int = 1


def guesses(
  settings: generator.Settings, loaded: Pretrained
) -> Callable[[Sequence[np.ndarray], Sequence[int]], Iterator[list[Guess]]]:
  """`generator.Generator.write` of no model at all.

  Special tokens do not occur. nfe is 0.
  """
  special = list((loaded.ids or {}).values())
  text = generator.need_text(loaded)
  usual = np.setdiff1d(np.arange(text.vocab), special)

  def write(ids, numbers):
    for number in numbers:
      random = np.random.default_rng((settings.seed, number))
      tokens = random.choice(usual, settings.max_new_tokens)
      yield [Guess(number, text.decode(tokens), settings.max_new_tokens)]

  return write
