"""What users' functions return, checked while they are traced.

Nothing here looks at a value, so nothing of it is in a compiled program. Each
fault is a sentence that names the user's function and what it gave.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from punt_jax.types import (
  Array,
  Denoiser,
  Memo,
  Move,
  Sampler,
  Tree,
  Windows,
)

MAKERS = {
  'Denoiser': 'punt_jax.from_logits',
  'Sampler': 'samplers.punt(0.05)',
  'World': 'punt_jax.oracles.chain',
  'Windows': 'punt_jax.block_cache.from_blocks',
}
WORDS = {
  jnp.floating: 'floats', jnp.integer: 'integers', jnp.bool_: 'bool',
  jnp.number: 'real numbers',
}


def built(made: Any) -> tuple[Denoiser, Sampler]:
  """`made`, if it is what a build function must return: a model, a sampler.

  Raises:
    ValueError: it is not; the sentence says what is there instead.
  """
  if isinstance(made, (Denoiser, Sampler)) or not (
    isinstance(made, tuple) and len(made) == 2
  ):
    raise ValueError(
      f'build returned {said(made)}: it must return a Denoiser and a Sampler'
    )
  model, sampler = made
  if isinstance(model, Sampler) and isinstance(sampler, Denoiser):
    raise ValueError('build returned a Sampler and a Denoiser: swap them')
  model = is_a(made[0], Denoiser)
  if model.windows is not None:
    is_a(model.windows, Windows)
  return model, is_a(sampler, Sampler)


def is_a(thing: Any, kind: type) -> Any:
  """`thing`, one of MAKERS; a ValueError if it is none."""
  if not isinstance(thing, kind):
    how = MAKERS[kind.__name__]
    raise ValueError(
      f'{said(thing)} stands where a {kind.__name__} belongs: make one, for'
      f' instance with {how}'
    )
  return thing


def said(thing: Any) -> str:
  """What something is, in words."""
  if isinstance(thing, type):
    return f'the class {thing.__name__}, which is not called,'
  if callable(thing) and not hasattr(thing, 'shape'):
    return f'the function {name_of(thing)}, which is not called,'
  if thing is None:
    return 'None'
  if hasattr(thing, 'dtype'):
    return f'an array {thing.dtype} {thing.shape}'
  count = f' of {len(thing)}' if isinstance(thing, (tuple, list)) else ''
  return f'a {type(thing).__name__}{count}'


def name_of(function: Any) -> str:
  """How a user knows a function."""
  while isinstance(function, functools.partial):
    function = function.func
  return getattr(function, '__name__', type(function).__name__)


def array(
  what: str, x: Any, shape: tuple[int, ...], kind: Any = jnp.floating,
  least: int = 0,
) -> Any:
  """`x`, an array of this shape and kind of numbers.

  Args:
    what: whose it is, for the sentence.
    x: what a user's function returned.
    shape: how it must begin; then one axis of any size follows if `least`.
    kind: of dtype.
    least: smallest size of the last axis.

  Raises:
    ValueError: it is something else.
  """
  sizes = [*map(str, shape), *([f'{least} or more'] if least else [])]
  wanted = f'{WORDS[kind]} ({", ".join(sizes)})'
  found = getattr(x, 'shape', None)
  fits = found is not None and jnp.issubdtype(x.dtype, kind) and (
    found[:-1] == shape and found[-1] >= least if least and found
    else found == shape
  ) and not jnp.issubdtype(x.dtype, jnp.complexfloating)
  if not fits:
    raise ValueError(f'{what} returned {said(x)}: it must be {wanted}')
  return x


def number(what: str, x: Any, shape: tuple[int, ...] = ()) -> Array:
  """`x` as an array of this shape; what a user's schedule returned.

  Raises:
    ValueError: it is no real number.
  """
  try:
    found = jnp.asarray(x)
  except (TypeError, ValueError, OverflowError):
    raise ValueError(f'{what} returned {said(x)}: it must be numbers') from None
  return array(what, found, shape, jnp.number)


def moved(
  sampler: Sampler, made: Any, carry: Tree, shape: tuple[int, ...]
) -> tuple[Move, Tree, Memo]:
  """(Move, carry, memo) of a sampler's step on a canvas of this shape."""
  what = f'the step {name_of(sampler.step)} of the sampler'
  if not (isinstance(made, tuple) and len(made) == 3):
    raise ValueError(
      f'{what} returned {said(made)}: it must return (Move, carry, memo)'
    )
  move, after, memo = made
  for thing, kind in ((move, Move), (memo, Memo)):
    if not isinstance(thing, kind):
      raise ValueError(f'{what} returned {said(thing)} for its {kind.__name__}')
  array(f'{what}, Move.tokens:', move.tokens, shape, jnp.integer)
  array(f'{what}, Move.logp:', move.logp, shape)
  array(f'{what}, Move.done:', move.done, shape[:1], jnp.bool_)
  form = lambda tree: jax.tree.map(
    lambda x: (jax.typeof(x).shape, jax.typeof(x).dtype.name), tree
  )
  if form(carry) != form(after):
    raise ValueError(
      f'{what} changed the form of its carry from {form(carry)} to'
      f' {form(after)}: it must stay as init made it'
    )
  return move, after, memo
