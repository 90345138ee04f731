"""Checks of what a user gave: names and numbers, each ends in a sentence."""

import sys
from collections.abc import Collection, Mapping
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


def numbers(
  config: Any, limits: Mapping[str, tuple[float, ...]], above: str = ''
) -> None:
  """Checks the numbers of a config, all of them before anything is done.

  Args:
    config: a mapping, such as a ConfigDict.
    limits: {name, or 'a.b' of a mapping in it: (low,) or (low, high)}. If low
      is an int the number must be whole, if a float, any finite one. Of a tuple
      or list each one is checked, and one must be there. What has no limits
      must not be NaN.
    above: stands before the names in sentences, 'task.' for instance.

  Raises:
    ValueError: one sentence about the first that is wrong.
  """
  _sane(config, above)
  for name, (low, *high) in limits.items():
    value = config
    for part in name.split('.'):
      value = value[part]
    if isinstance(value, (tuple, list)) and not value:
      raise ValueError(f'{above}{name} is empty: give at least one number')
    for one in value if isinstance(value, (tuple, list)) else (value,):
      _number(f'{above}{name}', one, low, *high)


def _sane(value, name):
  """Names what no number of any config is: NaN, or what no 64 bits hold."""
  if hasattr(value, 'items'):
    for key in value:
      _sane(value[key], f'{name}{key}.')
  elif isinstance(value, (tuple, list)):
    for one in value:
      _sane(one, name)
  elif isinstance(value, int) and not -(2**63) <= value < 2**63:
    raise ValueError(f'{name[:-1]} is a whole number of more than 63 bits')
  elif isinstance(value, float) and value != value:
    raise ValueError(f'{name[:-1]} = nan is not a number')


def _number(name, value, low, high=None):
  """See `numbers`; high None: what 31 bits hold, or any finite number."""
  kinds, kind, most = (int, np.integer), 'a whole number', 2**31 - 1
  if isinstance(low, float):
    kinds, kind, most = (int, float, np.number), 'a number', sys.float_info.max
  if isinstance(value, bool) or not isinstance(value, kinds):
    raise ValueError(f'{name} = {value!r:.40} must be {kind}')
  if not low <= value <= (most if high is None else high):
    rule = f'at least {low}' if high is None and not value > most else (
      f'at most {most}' if high is None else f'at least {low}, at most {high}'
    )
    raise ValueError(f'{name} = {value} is out of range: it must be {rule}')
