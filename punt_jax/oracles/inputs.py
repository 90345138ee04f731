"""What the constructors of worlds take: unnormalized log-weights, in nats.

All of them, in arguments that are called log_...: log-probabilities, or any
potentials, -inf for what is impossible. Numbers that are traced cannot be
looked at; of others it is checked here what can be told.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import checks
from punt_jax.types import Array, ArrayLike

MOST = 2**28  # numbers that a world may hold


def sizes(*factors: int, **numbers: int) -> None:
  """Raises ValueError if one is no whole number >= 1, or all are too many.

  Args:
    *factors: of how many numbers the world holds, beside the others.
    **numbers: by name.
  """
  for name, number in numbers.items():
    checks.whole(name, number, 1)
  if math.prod([*factors, *numbers.values()]) > MOST:
    said = ', '.join(f'{name} = {x}' for name, x in numbers.items())
    raise ValueError(
      f'a world of {said} would hold more than 2 ** 28 numbers: take less'
    )


def log_weights(name: str, values: ArrayLike, whole: bool = False) -> Array:
  """The values as float32.

  Args:
    name: of the argument.
    values: unnormalized log-weights, nats.
    whole: whether they are one distribution, not one per row of the last axis;
      looked at for probabilities only.

  Raises:
    ValueError: one sentence: NaN, +inf, all -inf, no real numbers, or
      probabilities in the place of their logarithms.
  """
  given = checks.array(name, values)
  dtype = given.dtype
  if not jnp.issubdtype(dtype, jnp.number) or jnp.iscomplexobj(given):
    raise ValueError(
      f'{name} holds {dtype}: pass logarithms of weights (nats), -inf for what'
      ' is impossible'
    )
  if not isinstance(given, Tracer) and given.size:
    with np.errstate(over='ignore'):  # to an infinity
      _check(name, np.asarray(given, np.float32), whole)
  return jnp.asarray(given, jnp.float32)


def finite(name: str, values: ArrayLike) -> Array:
  """Like log_weights, where -inf is not allowed either."""
  found = log_weights(name, values)
  if not isinstance(found, Tracer) and np.isneginf(found).any():
    raise ValueError(f'{name} has -inf: here log-weights must be finite')
  return found


def possible(name: str, values: Array) -> None:
  """Raises ValueError where a row (..., n) of log-weights is all -inf."""
  if isinstance(values, Tracer):
    return
  nothing = np.isneginf(np.asarray(values)).all(-1)
  if nothing.any():
    where = tuple(map(int, np.argwhere(nothing)[0]))
    row = f' in row {", ".join(map(str, where))}' if where else ''
    raise ValueError(
      f'{name} leaves nothing possible{row}: all log-weights are -inf'
    )


def _check(name, values, whole):
  if np.isnan(values).any() or np.isposinf(values).any():
    what = 'NaN' if np.isnan(values).any() else '+inf'
    raise ValueError(f'{name} has {what}: log-weights are numbers or -inf')
  if np.isneginf(values).all():
    raise ValueError(
      f'{name} leaves nothing possible: all log-weights are -inf'
    )
  sums = values.sum() if whole else values.sum(-1)
  whole_numbers = (values == np.round(values)).all()
  if values.min() >= 0 and np.allclose(sums, 1, atol=1e-5) and not (
    whole_numbers  # potentials of an identity, say
  ):
    raise ValueError(
      f'{name} holds probabilities (none negative, sums of 1): pass their'
      ' logarithms, like jnp.log(p)'
    )
