"""A hidden Markov model: dependence of any range (O(L S (S + V)) per canvas).

Rabiner, A tutorial on hidden Markov models, Proc. IEEE 77 (1989), section III.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, rows
from punt_jax.oracles import inputs, messages
from punt_jax.oracles.sums import fold, normalize
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike

_SAMPLES = 2048


def hmm(
  log_initial: ArrayLike,
  log_transition: ArrayLike,
  log_emission: ArrayLike,
  length: int,
) -> World:
  """Tokens x_t drawn from emission[t, s_t], states s_t from a Markov chain.

  The entropy is an estimate, the only number here that is not exact: the mean
  of sum_t H(x_t | x_0 .. x_{t-1}) over 2048 of the world's own samples. These
  conditional entropies are exact, so its standard error is small, at most
  0.007 sqrt(L) nats in the random_hmm that were looked at.

  A coin that is one of two, both of them biased, in all throws the same:

  >>> same = jnp.where(jnp.eye(2) == 1, 0.0, -jnp.inf)
  >>> bias = jnp.log(jnp.array([[9.0, 1.0], [1.0, 9.0]]))
  >>> world = hmm(jnp.zeros(2), same, bias, length=3)
  >>> round(float(jnp.exp(world.log_prob(jnp.array([0, 0, 2])))), 3)
  0.41

  Args:
    log_initial: (S,) nats, unnormalized log-weights.
    log_transition: (L - 1, S, S) nats from row to column, or (S, S) for the
      same one everywhere.
    log_emission: (L, S, V) nats, or (S, V) for the same one everywhere. The
      last axis of all three is normalized; -inf is allowed, a whole row of it
      is not.
    length: L.

  Raises:
    ValueError: the shapes do not agree, a row is all -inf, or what
      inputs.log_weights says.
  """
  given = log_initial, log_transition, log_emission
  names = 'log_initial', 'log_transition', 'log_emission'
  given = log_initial, log_transition, log_emission = [
    *map(checks.array, names, given)
  ]
  if np.ndim(log_emission) < 2 or 0 in np.shape(log_emission):
    raise ValueError(
      'log_emission is (L, S, V) or (S, V) log-weights, got shape'
      f' {np.shape(log_emission)}.'
    )
  states, vocab = np.shape(log_emission)[-2:]
  inputs.sizes(states, max(states, vocab), length=length)
  shapes = (states,), (length - 1, states, states), (length, states, vocab)
  found = [np.shape(x) for x in given]
  if found[0] != shapes[0] or any(
    have not in (want, want[1:])
    for have, want in zip(found[1:], shapes[1:], strict=True)
  ):
    raise ValueError(
      f'{length} positions, {states} states and {vocab} tokens take arrays of '
      f'shapes {shapes}, the last two also without their first axis; got '
      f'{found}.'
    )
  looked_at = [*map(inputs.log_weights, names, given)]
  for name, values in zip(names, looked_at, strict=True):
    inputs.possible(name, values)
  initial, transition, emission = (
    normalize(jnp.broadcast_to(values, shape))[0]
    for values, shape in zip(looked_at, shapes, strict=True)
  )

  def log_prob(allowed):
    seen = _seen(emission, allowed)
    return fold(messages.forward(initial, transition, seen)[1])

  def log_joint(allowed):
    seen = _seen(emission, allowed)
    state, _ = messages.forward(initial, transition, seen)
    state += messages.backward(transition, seen)
    return messages.known(allowed) + _pass_on_each(state, emission)

  def sample(key, n):
    key, token_key = jax.random.split(key)
    state = messages.sample(key, n, initial, transition)
    log_p = emission[jnp.arange(length), state]
    return jax.random.categorical(token_key, log_p).astype(jnp.int32)

  def entropy():
    def one(key):
      tokens = sample(key, 1)[0]
      seen = emission[jnp.arange(length), :, tokens]
      state, _ = messages.forward(initial, transition, seen)
      ahead = jnp.einsum(
        'ls,lsu->lu', jnp.exp(state[:-1]), jnp.exp(transition)
      )
      ahead = jnp.concatenate([jnp.exp(initial)[None], ahead])
      dist = jnp.einsum('ls,lsv->lv', ahead, jnp.exp(emission))
      return jax.scipy.special.entr(dist).sum()

    keys = jax.random.split(jax.random.key(0), _SAMPLES)
    return jax.lax.map(one, keys, batch_size=128).mean()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)


def random_hmm(
  key: Array, length: int, vocab: int, states: int, beta: float = 3.0
) -> World:
  """One transition and one emission matrix, Gaussian of scale `beta` (nats).

  States hide much: 8 tokens and states with the default depend on each other
  about as much as the tokens of random_chain with its own.
  """
  inputs.sizes(length=length, vocab=vocab, states=states)
  checks.in_range('beta', beta)
  first, second = jax.random.split(rows.as_key(key))
  transition = beta * jax.random.normal(first, (states, states))
  emission = beta * jax.random.normal(second, (states, vocab))
  return hmm(jnp.zeros(states), transition, emission, length)


def _seen(emission, allowed):
  """log p(an allowed token | state), (L, S)."""
  return _pass_on_each(messages.known(allowed), emission.swapaxes(1, 2))


def _pass_on_each(message, log_p):
  """pass_on at every position; one at a time, to hold less."""
  return jax.lax.map(lambda x: messages.pass_on(*x), (message, log_p))
