"""A Markov chain, by forward-backward in log space (O(L V ** 2) per canvas).

Rabiner, A tutorial on hidden Markov models, Proc. IEEE 77 (1989), section III,
with evidence on the states themselves. Messages are normalized at every
position, so float32 is enough for canvases of many hundred tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from punt_jax.oracles.sums import fold, normalize
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array


def chain(
  log_initial: Array, log_transition: Array, length: int | None = None
) -> World:
  """The law p(x) ~ exp(initial[x_0] + sum_t transition[t, x_t, x_{t+1}]).

  Args:
    log_initial: (V,) nats.
    log_transition: (L - 1, V, V) nats from row to column, or (V, V) for the
      same one everywhere. Neither argument has to be normalized: they may be
      any potentials, -inf included. Rows that are normalized are the
      transition probabilities.
    length: L; needed with one (V, V) matrix only.

  Raises:
    ValueError: the shapes do not agree, or the length is not known.
  """
  vocab = log_initial.shape[0]
  if log_transition.ndim == 2 and length is not None:
    shape = (length - 1, *log_transition.shape)
    log_transition = jnp.broadcast_to(log_transition, shape)
  found = log_transition.shape[0] + 1
  if log_transition.shape[1:] != (vocab, vocab) or length not in (None, found):
    raise ValueError(
      f'a chain over {vocab} tokens takes (L - 1, {vocab}, {vocab}) '
      f'transitions, or ({vocab}, {vocab}) and a length; got '
      f'{log_transition.shape} and length {length}.'
    )
  length = found
  initial, transition = _normalize_chain(
    jnp.asarray(log_initial, jnp.float32),
    jnp.asarray(log_transition, jnp.float32),
  )

  def sample(key, n):
    keys = jax.random.split(key, length)
    first = jax.random.categorical(keys[0], initial, shape=(n,))

    def step(state, x):
      key, log_p = x
      state = jax.random.categorical(key, log_p[state])
      return state, state

    _, rest = jax.lax.scan(step, first, (keys[1:], transition))
    return jnp.concatenate([first[None], rest]).T.astype(jnp.int32)

  def log_prob(allowed):
    return fold(_forward(initial, transition, allowed)[1])

  def log_joint(allowed):
    before, _ = _forward(initial, transition, allowed)
    return before + _backward(transition, allowed)

  def entropy():
    law, _ = normalize(log_joint(jnp.ones((length, vocab), bool)))
    law = jnp.exp(law)
    own = jax.scipy.special.entr(law[0]).sum()
    rows = jax.scipy.special.entr(jnp.exp(transition)).sum(-1)
    return own + (law[:-1] * rows).sum()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)


def random_chain(
  key: Array, length: int, vocab: int, beta: float = 1.2
) -> World:
  """A chain with Gaussian potentials of scale `beta` (nats).

  They are drawn anew for every pair of neighbors. With 8 tokens and the
  default a token has about 1.4 nats of entropy given all on its left.
  """
  pairs = jax.random.normal(key, (length - 1, vocab, vocab))
  return chain(jnp.zeros(vocab), beta * pairs)


def _normalize_chain(initial, transition):
  """Potentials -> log-probabilities of the first state and of each next one."""
  everything = jnp.ones((transition.shape[0] + 1, initial.shape[0]), bool)
  after = _backward(transition, everything)
  initial, _ = normalize(initial + after[0])
  transition, _ = normalize(transition + after[1:, None, :])
  return initial, transition


def _forward(initial, transition, allowed):
  """log p(x_t | evidence up to t), (L, V), and the normalizers (L,).

  The normalizers sum to the log-probability of all evidence.
  """
  seen = jnp.where(allowed, 0.0, -jnp.inf)

  def step(before, x):
    log_p, seen = x
    after, total = normalize(_pass_on(before, log_p) + seen)
    return after, (after, total)

  first, total = normalize(initial + seen[0])
  _, (rest, totals) = jax.lax.scan(step, first, (transition, seen[1:]))
  return (
    jnp.concatenate([first[None], rest]),
    jnp.concatenate([total[None], totals]),
  )


def _backward(transition, allowed):
  """log p(evidence after t | x_t), (L, V), up to one constant per position."""
  seen = jnp.where(allowed, 0.0, -jnp.inf)

  def step(after, x):
    log_p, seen = x
    before, _ = normalize(_pass_on(seen + after, log_p.T))
    return before, before

  last = jnp.zeros_like(seen[-1])
  _, rest = jax.lax.scan(step, last, (transition, seen[1:]), reverse=True)
  return jnp.concatenate([rest, last[None]])


def _pass_on(message, log_p):
  """log(sum_u exp(message[u] + log_p[u, v])), (V,), at V exponentials.

  Message and columns of log_p are shifted to a maximum of 0 and multiplied as
  probabilities. Where all products are below 1e-30, next to underflow, the
  largest term stands for the sum: at most log(V) too low, and -inf only if
  every term is.
  """
  best, top = _finite(log_p.max(0)), _finite(message.max())
  mass = fold(jnp.exp(message - top)[:, None] * jnp.exp(log_p - best), 0)
  largest = (message[:, None] + log_p).max(0)
  return jnp.where(mass > 1e-30, jnp.log(mass) + best + top, largest)


def _finite(x):
  return jnp.where(jnp.isneginf(x), 0.0, x)
