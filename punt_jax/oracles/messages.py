"""Forward-backward along a chain of states, in log space (O(L S ** 2)).

Rabiner, A tutorial on hidden Markov models, Proc. IEEE 77 (1989), section III.
Messages are normalized at every position, so float32 is enough for canvases of
many hundred tokens. Letters: S states, seen (L, S) nats is the log-likelihood
of each state under the evidence at its position alone: 0 where there is none,
-inf at the states that it excludes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from punt_jax.oracles.sums import fold, normalize, offset
from punt_jax.types import Array


def forward(
  initial: Array, transition: Array, seen: Array
) -> tuple[Array, Array]:
  """What the evidence on the left says.

  Args:
    initial: (S,) nats.
    transition: (L - 1, S, S) nats from row to column.
    seen: (L, S).

  Returns:
    filtered: (L, S) log p(state t | evidence up to t), normalized.
    totals: (L,) their normalizers, which sum to the log-probability of all
      evidence; fold them.
  """

  def step(before, x):
    log_p, seen = x
    after, total = normalize(pass_on(before, log_p) + seen)
    return after, (after, total)

  first, total = normalize(initial + seen[0])
  _, (rest, totals) = jax.lax.scan(step, first, (transition, seen[1:]))
  return (
    jnp.concatenate([first[None], rest]),
    jnp.concatenate([total[None], totals]),
  )


def backward(transition: Array, seen: Array) -> Array:
  """log p(evidence after t | state t), (L, S), to a constant each."""

  def step(after, x):
    log_p, seen = x
    before, _ = normalize(pass_on(seen + after, log_p.T))
    return before, before

  last = jnp.zeros_like(seen[-1])
  _, rest = jax.lax.scan(step, last, (transition, seen[1:]), reverse=True)
  return jnp.concatenate([rest, last[None]])


def normalize_chain(initial: Array, transition: Array) -> tuple[Array, Array]:
  """Potentials -> log-probabilities of the first state and of each next one."""
  nothing = jnp.zeros((transition.shape[0] + 1, initial.shape[0]))
  after = backward(transition, nothing)
  initial, _ = normalize(initial + after[0])
  transition, _ = normalize(transition + after[1:, None, :])
  return initial, transition


def sample(key: Array, n: int, initial: Array, transition: Array) -> Array:
  """(n, L) int32 exact samples of a normalized chain."""
  keys = jax.random.split(key, transition.shape[0] + 1)
  first = jax.random.categorical(keys[0], initial, shape=(n,))

  def step(state, x):
    key, log_p = x
    state = jax.random.categorical(key, log_p[state])
    return state, state

  _, rest = jax.lax.scan(step, first, (keys[1:], transition))
  return jnp.concatenate([first[None], rest]).T.astype(jnp.int32)


def entropy(initial: Array, transition: Array) -> Array:
  """Entropy of a normalized chain, () nats."""
  nothing = jnp.zeros((transition.shape[0] + 1, initial.shape[0]))
  dist, _ = forward(initial, transition, nothing)
  dist = jnp.exp(dist)
  rows = jax.scipy.special.entr(jnp.exp(transition)).sum(-1)
  return jax.scipy.special.entr(dist[0]).sum() + (dist[:-1] * rows).sum()


def pass_on(message: Array, log_p: Array) -> Array:
  """log(sum_u exp(message[u] + log_p[u, v])), (V,), at V exponentials.

  Message and columns of log_p are shifted to a maximum of 0 and multiplied as
  probabilities. Where all products are below 1e-30, next to underflow, the
  largest term stands for the sum: at most log(V) too low, and -inf only if
  every term is.
  """
  best, top = offset(log_p.max(0)), offset(message.max())
  mass = fold(jnp.exp(message - top)[:, None] * jnp.exp(log_p - best), 0)
  largest = (message[:, None] + log_p).max(0)
  return jnp.where(mass > 1e-30, jnp.log(mass) + best + top, largest)


def known(allowed: Array) -> Array:
  """(..., V) bool -> nats: 0 at the tokens that are allowed, -inf elsewhere."""
  return jnp.where(allowed, 0.0, -jnp.inf)
