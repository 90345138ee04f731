"""A Markov chain, by forward-backward in log space (O(L V ** 2) per canvas)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, rows
from punt_jax.oracles import inputs, messages
from punt_jax.oracles.sums import fold
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike


def chain(
  log_initial: ArrayLike, log_transition: ArrayLike, length: int | None = None
) -> World:
  """p(x) ~ exp(initial[x_0] + sum_t transition[t, x_t, x_{t+1}]).

  Three bits that keep their value nine times out of ten:

  >>> stay = jnp.log(jnp.array([[9.0, 1.0], [1.0, 9.0]]))
  >>> world = chain(jnp.zeros(2), stay, length=3)
  >>> round(float(jnp.exp(world.log_prob(jnp.array([0, 0, 1])))), 3)
  0.045

  Args:
    log_initial: (V,) nats, unnormalized log-weights.
    log_transition: (L - 1, V, V) nats from row to column, or (V, V) for the
      same one everywhere. Neither argument has to be normalized: they may be
      any potentials, -inf included. Rows that are normalized are the
      transition probabilities.
    length: L; needed with one (V, V) matrix only.

  Raises:
    ValueError: the shapes do not agree, the length is not known, no canvas is
      possible, or what inputs.log_weights says.
  """
  log_initial = checks.array('log_initial', log_initial)
  log_transition = checks.array('log_transition', log_transition)
  if np.ndim(log_initial) != 1 or not np.size(log_initial):
    raise ValueError(
      f'log_initial is (V,) log-weights, got shape {np.shape(log_initial)}.'
    )
  vocab, given = np.size(log_initial), np.shape(log_transition)
  shape = given
  if len(given) == 2 and length is not None:
    inputs.sizes(vocab, vocab, length=length)
    shape = (length - 1, *given)
  found = shape[0] + 1 if shape else 0
  if shape[1:] != (vocab, vocab) or length not in (None, found):
    raise ValueError(
      f'a chain over {vocab} tokens takes (L - 1, {vocab}, {vocab}) '
      f'transitions, or ({vocab}, {vocab}) and a length; got {given} and '
      f'length {checks.shown(length)}.'
    )
  log_initial = inputs.log_weights('log_initial', log_initial)
  log_transition = inputs.log_weights('log_transition', log_transition)
  initial, transition = messages.normalize_chain(
    log_initial, jnp.broadcast_to(log_transition, shape)
  )
  inputs.possible('the chain', initial)

  def log_prob(allowed):
    _, totals = messages.forward(initial, transition, messages.known(allowed))
    return fold(totals)

  def log_joint(allowed):
    seen = messages.known(allowed)
    filtered, _ = messages.forward(initial, transition, seen)
    return filtered + messages.backward(transition, seen)

  return lift(
    vocab,
    found,
    sample=lambda key, n: messages.sample(key, n, initial, transition),
    log_prob=log_prob,
    log_joint=log_joint,
    entropy=lambda: messages.entropy(initial, transition),
  )


def random_chain(
  key: Array, length: int, vocab: int, beta: float = 1.2
) -> World:
  """A chain with Gaussian potentials of scale `beta` (nats).

  They are drawn anew for every pair of neighbors. With 8 tokens and the
  default a token has about 1.4 nats of entropy given all on its left.
  """
  inputs.sizes(vocab, length=length, vocab=vocab)
  checks.in_range('beta', beta)
  key = rows.as_key(key)
  pairs = jax.random.normal(key, (length - 1, vocab, vocab))
  return chain(jnp.zeros(vocab), beta * pairs)
