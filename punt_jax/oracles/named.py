"""Exact worlds by name: random distributions that a config can ask for.

settings are numbers by name: vocab and beta (scale of the potentials, nats) of
every world, and

  hmm        states: number of hidden states. Its potentials are of scale
             2.5 beta, for about as much dependence as in the chain
  code       checks: parity checks per position; weight: positions per check.
             It has two tokens, whatever vocab and beta are.
  documents  paragraphs per section, details per paragraph, down and up (see
             oracles.documents)

A distribution is drawn in jitted code from its params, (key, order): worlds of
one kind share a compilation. order[i] is what position i shows of the plain
world: 'permuted' is 'chain' with its positions shuffled, 'permuted_tree' is
'tree'.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import oracles
from punt_jax.checks import known
from punt_jax.oracles.world import World
from punt_jax.types import Array, Tree

# (key, length, settings) -> World
_LAWS = {
  'chain': lambda key, length, s: oracles.random_chain(
    key, length, s['vocab'], s['beta']
  ),
  'tree': lambda key, length, s: oracles.random_tree(
    key, length, s['vocab'], s['beta']
  ),
  'hmm': lambda key, length, s: oracles.random_hmm(
    key, length, s['vocab'], s['states'], 2.5 * s['beta']
  ),
  'strip': lambda key, length, s: oracles.random_strip(
    key, length, s['vocab'], s['beta']
  ),
  'code': lambda key, length, s: oracles.random_code(
    key, length, round(length * s['checks']), s['weight']
  ),
  'documents': lambda key, length, s: oracles.random_documents(
    key, length, s['vocab'], s['paragraphs'], s['details'], s['down'], s['up'],
    s['beta'],
  ),
}
_SHUFFLED = {'permuted': 'chain', 'permuted_tree': 'tree'}

NAMES = (
  'chain',
  'permuted',
  'tree',
  'permuted_tree',
  'hmm',
  'strip',
  'code',
  'documents',
)


def draw(
  name: str, key: Array, length: int, settings: Mapping[str, Any]
) -> tuple[Array, Array]:
  """(key, order (L,)), the random parameters of the world `name`.

  Raises:
    ValueError: an unknown name; the sentence lists the known ones.
  """
  del settings
  known('world', name, NAMES)
  key, order_key = jax.random.split(key)
  if name in _SHUFFLED:
    return key, jax.random.permutation(order_key, length)
  return key, jnp.arange(length)


def make(
  name: str, params: Tree, length: int, settings: Mapping[str, Any]
) -> World:
  """The World of params, which may be traced; `settings` are not."""
  key, order = params
  world = _LAWS[_SHUFFLED.get(name, name)](key, length, settings)
  return oracles.permuted(world, order)


def kinds(
  name: str, length: int, settings: Mapping[str, Any]
) -> np.ndarray | None:
  """(L,) the role of each position, or None in a world that has no roles.

  Documents: 0 heading, 1 structure, 2 detail.
  """
  if name != 'documents':
    return None
  paragraph = [1] + [2] * settings['details']
  section = [0] + paragraph * settings['paragraphs']
  return np.resize(section, length)
