"""Checks of what a user gave: names and numbers, each ends in a sentence."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def known(what: str, name: Any, names: Collection[str]) -> Any:
  """`name`, if it is one of `names`; a ValueError that lists them if not."""
  if name not in names:
    raise ValueError(f'unknown {what} {name!r}: use one of {", ".join(names)}')
  return name


def in_range(
  what: str, value: Any, low: float | None = None, high: float | None = None
) -> Any:
  """`value`, unless a concrete number is NaN or outside [low, high].

  Traced values pass: punt_jax.compile calls the constructors once with the
  concrete hyperparameters, so that a bad one is named before anything runs.

  Raises:
    ValueError: NaN, or out of range.
  """
  if isinstance(value, Tracer) or callable(value):
    return value
  number = np.asarray(value)
  if not jnp.issubdtype(number.dtype, jnp.number):
    raise ValueError(f'{what} = {value!r} must be a number')
  fits = ~np.isnan(number)
  fits &= number >= (-np.inf if low is None else low)
  fits &= number <= (np.inf if high is None else high)
  if not fits.all():
    rule = 'a number, not NaN' if low is None else f'at least {low}'
    rule += '' if high is None else f' and at most {high}'
    raise ValueError(f'{what} = {value} is out of range: it must be {rule}')
  return value


def whole(what: str, value: Any, low: int) -> int:
  """`value`, a whole number of at least `low` that shapes the program.

  Raises:
    ValueError: it is not one, or it is traced.
  """
  if not isinstance(value, (int, np.integer)) or value < low:
    raise ValueError(
      f'{what} = {value} must be a whole number (not traced) of at least {low}'
    )
  return int(value)
