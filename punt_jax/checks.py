"""Checks of what a user gave: names and numbers, each ends in a sentence."""

import sys
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

INT32 = 2**31 - 1  # the largest whole number that a program can hold
LONG = 60  # letters of a value that a sentence repeats


def shown(value: Any) -> str:
  """A value in a sentence: one line, not long."""
  if isinstance(value, int) and abs(value) >= 10**LONG:
    return f'(a number of {value.bit_length()} bits)'
  try:
    said = repr(value) if isinstance(value, str) else str(value)
  except ValueError:  # a list of such numbers
    return f'a {type(value).__name__}'
  said = ' '.join(said.split())
  return said if len(said) <= LONG else f'{said[:LONG]}...'


def known(what: str, name: Any, names: Collection[str]) -> Any:
  """`name`, if it is one of `names`; a ValueError that lists them if not."""
  if not any(name == one for one in names):
    listed = ', '.join(map(str, names))
    raise ValueError(f'unknown {what} {shown(name)}: use one of {listed}')
  return name


def function(what: str, value: Any) -> Any:
  """`value`, a function; a ValueError if it is none."""
  if not callable(value):
    raise ValueError(f'{what} = {shown(value)} must be a function')
  return value


def in_range(
  what: str, value: Any, low: float | None = None, high: float | None = None,
  above: float | None = None, shape: tuple[int, ...] | None = (),
) -> Any:
  """`value`, unless a concrete number is NaN or outside [low, high].

  Of traced values the shape is checked: punt_jax.compile calls the constructors
  once with the concrete hyperparameters, so that a bad one is named before
  anything runs. A whole number must fit into 32 bits, as it will have to.

  Args:
    what: its name.
    value: one number, or an array of `shape`.
    low, high: bounds; None: there is none.
    above: a bound that is not allowed itself.
    shape: of the array; None: any.

  Raises:
    ValueError: no number, NaN, or out of range.
  """
  number = array(what, value)
  if not _is_real(number) or (
    shape is not None and number.shape != shape
  ):
    kind = 'a number' if shape == () else 'numbers'
    raise ValueError(f'{what} = {shown(value)} must be {kind}')
  if isinstance(number, Tracer):
    return value
  number = np.asarray(number)
  fits = number == number  # not NaN
  fits &= number >= (-np.inf if low is None else low)
  fits &= number <= (np.inf if high is None else high)
  fits &= True if above is None else number > above
  if not np.all(fits):
    bounds = ('at least', low), ('above', above), ('at most', high)
    rule = ' and '.join(f'{word} {x}' for word, x in bounds if x is not None)
    raise ValueError(
      f'{what} = {shown(value)} is out of range: it must be'
      f' {rule or "a number, not NaN"}'
    )
  if jnp.issubdtype(number.dtype, jnp.integer) or number.dtype == object:
    if np.any(abs(number) > INT32):
      raise ValueError(
        f'{what} = {shown(value)} is out of range: a whole number must fit into'
        " 32 bits; float('inf') is a number, too"
      )
  return value


def whole(what: str, value: Any, low: int, high: int = INT32) -> int:
  """`value`, a whole number from `low` to `high` that shapes the program.

  Raises:
    ValueError: it is not one, or it is traced.
  """
  real = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not real or not low <= value <= high:
    large = real and value > high
    most = f' and at most {high}' if large or high != INT32 else ''
    said = shown(value).strip("'")
    raise ValueError(
      f'{what} = {said} must be a whole number (not traced) of at least'
      f' {low}{most}'
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
    raise ValueError(
      f'{name[:-1]} = nan is out of range: it must be a number, not NaN'
    )


def _number(name, value, low, high=None):
  """See `numbers`; high None: what 31 bits hold, or any finite number."""
  kinds, kind, most = (int, np.integer), 'a whole number', 2**31 - 1
  if isinstance(low, float):
    kinds, kind, most = (int, float, np.number), 'a number', sys.float_info.max
  if isinstance(value, bool) or not isinstance(value, kinds):
    raise ValueError(f'{name} = {shown(value)} must be {kind}')
  if not low <= value <= (most if high is None else high):
    rule = f'at least {low}' if high is None and not value > most else (
      f'at most {most}' if high is None else f'at least {low}, at most {high}'
    )
    what = ' is out of range: it must be' if isinstance(low, float) else (
      ' must be a whole number of'
    )
    raise ValueError(f'{name} = {shown(value)}{what} {rule}')


def array(what: str, values: Any) -> jax.Array | np.ndarray:
  """The values, of JAX as they are, of others as NumPy has them.

  Raises:
    ValueError: a list whose rows are not equally long.
  """
  if isinstance(values, jax.Array):
    return values
  try:
    return np.asarray(values)
  except (TypeError, ValueError):
    raise ValueError(
      f'{what} is no array: its rows must be equally long, and hold numbers'
    ) from None


def reals(what: str, values: Any, many: bool = True) -> np.ndarray:
  """The values in float64, on the host.

  Args:
    what: their name.
    values: anything.
    many: whether there must be one at least.

  Raises:
    ValueError: no real numbers, or traced ones.
  """
  found = array(what, values)
  if isinstance(found, Tracer) or (many and not found.size) or not (
    _is_real(found) or found.dtype == bool
  ):
    raise ValueError(
      f'{what} = {shown(values)} must be real numbers, not traced'
      + many * ', one at least'
    )
  if found.dtype == object:
    in_range(what, values, shape=None)
  return np.asarray(found, np.float64)


def _is_real(array):
  if array.dtype == object:  # Python's numbers, whole ones of any size
    return all(type(x) in (int, float) for x in array.flat)
  return jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(
    array.dtype, jnp.floating
  )
