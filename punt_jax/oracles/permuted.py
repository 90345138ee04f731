"""A world whose positions are shuffled: neighbors are no longer neighbors.

On a plain chain a rule that only spaces its positions knows the structure by
accident. On a permuted one the structure has to be found.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import checks, contract
from punt_jax.oracles.world import World, looked_at
from punt_jax.types import ArrayLike


def permuted(world: World, order: ArrayLike) -> World:
  """The world with position order[i] shown at position i.

  >>> plain = product(jnp.log(jnp.array([[9.0, 1.0], [5.0, 5.0]])))
  >>> world = permuted(plain, jnp.array([1, 0]))
  >>> round(float(jnp.exp(world.log_prob(jnp.array([2, 0])))), 3)
  0.9

  Args:
    world: any world.
    order: (L,) int32, a permutation of 0 .. L - 1.

  Raises:
    ValueError: it is none, as far as it can be told.
  """
  contract.is_a(world, World)
  order = checks.array('order', order)
  if np.shape(order) != (world.length,):
    raise ValueError(
      f'this world has {world.length} positions, the order '
      f'{np.shape(order)}: pass a permutation of 0 .. {world.length - 1}.'
    )
  if not jnp.issubdtype(order.dtype, jnp.integer) or (
    not isinstance(order, Tracer)
    and (np.sort(order) != np.arange(world.length)).any()
  ):
    raise ValueError(
      f'{checks.shown(order if isinstance(order, Tracer) else order.tolist())}'
      f' is no permutation of 0 .. {world.length - 1}'
    )
  order = jnp.asarray(order)
  back = jnp.argsort(order)
  return looked_at(world._replace(
    sample=lambda key, n: world.sample(key, n)[:, order],
    log_prob=lambda tokens: world.log_prob(tokens[..., back]),
    logits=lambda tokens: world.logits(tokens[..., back])[..., order, :],
  ))
