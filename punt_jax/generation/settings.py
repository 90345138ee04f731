"""How prompts become canvases, and canvases texts: plain values, checked."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from punt_jax import checks


class Settings(NamedTuple):
  """How prompts become canvases, and canvases texts."""

  chat: bool = False  # prompts are messages of a user to the model
  prefix: str = ''  # put before every prompt, a BOS for example
  blank: str = ''  # what stands for a position to fill in a prompt; then
  # nothing is written behind it, and no end token
  max_new_tokens: int = 256  # masks behind a prompt
  kv_cache: bool | None = None  # questions compute the block, not the canvas;
  # unset: where that changes no answer, of models with blocks of their own
  batch: int = 8  # rows at a time
  bucket: int = 64  # canvas lengths are multiples of it
  temperature: float = 0.0  # of the drafts
  top_p: float = 1.0  # of the drafts, the fewest tokens with this mass: above 0
  # and at most 1, which is all
  judged: bool = False  # scores and tests read the distribution of the drafts
  stop: bool = True  # a row is done once all before its end token is written
  eos_last: bool = False  # end tokens are written after all others
  eos_penalty: float = 0.0  # nats, taken from the end tokens' log-probability
  ban: Sequence[str | int] = ()  # names ('eos') or ids that are never written
  seed: int = 0  # of all draws, in [0, 2**32)


DEFAULTS = Settings()


def checked(settings: Settings) -> Settings:
  """Settings whose every value is of its kind and in range.

  Raises:
    ValueError: one sentence that names the first that is not.
  """
  found = {
    name: _one(name, value, getattr(DEFAULTS, name))
    for name, value in settings._asdict().items()
  }
  checks.in_range('temperature', found['temperature'], 0)
  checks.in_range('top_p', found['top_p'], above=0, high=1)
  return Settings(**found)


def _one(name: str, value: Any, default: Any) -> Any:
  """A value of the kind that its default has."""
  if name == 'ban':
    several = (value,) if isinstance(value, (str, int)) else tuple(value)
    return tuple(
      x if isinstance(x, str) else checks.whole('an id of ban', x, 0)
      for x in several
    )
  if default is None and value is None:
    return None
  default = False if default is None else default
  if isinstance(default, (bool, str)):
    if not isinstance(value, type(default)):
      said = 'True or False' if isinstance(default, bool) else 'a string'
      raise ValueError(f'{name} = {value!r:.40} must be {said}')
    return value
  if isinstance(default, float):
    checks.in_range(name, value)
    if not math.isfinite(value):
      raise ValueError(f'{name} = {value} must be a finite number')
    return float(value)
  if name == 'seed':  # jax would cut one of more bits to 32, without a word
    return checks.whole(name, value, 0, 2**32 - 1)
  return checks.whole(name, value, 1)
