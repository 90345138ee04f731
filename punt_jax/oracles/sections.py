"""Exact inference in the distribution of `documents`, O(L V ** 3) per canvas.

The sum modulo V of independent details has the cyclic convolution of their
distributions; those of the details before and after one leave it out.
Everything else is messages on a tree: details -> structure -> heading, and
along the headings.

What is known of a token, (..., V) nats, is 0 at what it may be, else -inf.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax.oracles import messages
from punt_jax.oracles.sums import fold, log_sum_exp, normalize
from punt_jax.types import Array


class Potentials(NamedTuple):
  """The arguments of `documents` of the same names."""

  first: Array  # (V,)
  heading: Array  # (V, V)
  structure: Array  # (V, V)
  detail: Array  # (V, V)
  up: Array  # ()


class Parts(NamedTuple):
  """Something about each token of a canvas, by role; S sections."""

  heading: Array  # (S, ...)
  structure: Array  # (S, P, ...)
  detail: Array  # (D, S, P, ...)


def _weights(potentials, known):
  """log of the weight of detail x given structure t, (D, S, P, V, V)."""
  return potentials.detail + known.detail[..., None, :]


def _shares(potentials, known):
  """The same as probabilities of x, and the log of the sums (D, S, P, V)."""
  shares, totals = normalize(_weights(potentials, known))
  return jnp.exp(shares), totals


def _slide(p, q, sign):
  """sum_j p[..., j] q[..., (i + sign j) mod V], (..., V), in order of j."""
  vocab = p.shape[-1]
  twice = jnp.concatenate([q, q], axis=-1)
  starts = [sign * j % vocab for j in range(vocab)]
  return sum(
    p[..., j, None] * twice[..., start : start + vocab]
    for j, start in enumerate(starts)
  )


def _gaps(shares):
  """The shares of t - (the sum of the details from d on) mod V, d = 0 .. D.

  Args:
    shares: (D, S, P, V, V) distributions of the details for each structure
      token t.

  Returns:
    (D + 1, S, P, V, V).
  """
  end = jnp.broadcast_to(jnp.eye(shares.shape[-1]), shares.shape[1:])

  def step(gap, share):
    gap = _slide(share, gap, 1)
    return gap, gap

  _, gaps = jax.lax.scan(step, end, shares, reverse=True)
  return jnp.concatenate([gaps, end[None]])


def _agree(potentials, p):
  """log E[exp(up 1[the sum agrees])] - up, where it does with chance p."""
  other = jnp.exp(-potentials.up)
  return jnp.log(other + (1 - other) * p)


def _upward(potentials, known):
  """Messages from the details to the headings.

  Returns:
    structure: (S, P, V) log-weight of each structure token and its details.
    sent: (S, P, V) the same summed out, for each heading.
    seen: (S, V) log-weight of each heading and its section.
  """
  shares, totals = _shares(potentials, known)
  agree = _agree(potentials, _gaps(shares)[0][..., 0])
  structure = known.structure + fold(totals, 0) + agree
  sent = log_sum_exp(potentials.structure + structure[..., None, :])
  return structure, sent, known.heading + fold(sent, 1)


def _headings(potentials, seen):
  """The potentials of the chain of headings."""
  vocab = seen.shape[-1]
  return potentials.first, jnp.broadcast_to(
    potentials.heading, (len(seen) - 1, vocab, vocab)
  )


def totals(potentials: Potentials, known: Parts) -> Array:
  """(S,) terms of the log of the weight of all that is known."""
  seen = _upward(potentials, known)[2]
  return messages.forward(*_headings(potentials, seen), seen)[1]


def marginals(potentials: Potentials, known: Parts) -> Parts:
  """log-weight of what is known with each token, Parts of (..., V)."""
  structure, sent, seen = _upward(potentials, known)
  initial, step = _headings(potentials, seen)
  heading = messages.forward(initial, step, seen)[0]
  heading += messages.backward(step, seen)
  others = heading[:, None] - sent
  above = log_sum_exp(others[..., None] + potentials.structure, -2)  # (S, P, V)

  def agree(before, x):
    # The sum of the details before this one is what it takes from the gap that
    # those after it leave: the difference is the token that agrees.
    share, after = x
    return _slide(share, before, -1), _slide(before, after, 1)

  shares, totals = _shares(potentials, known)
  none = jnp.broadcast_to(jnp.eye(len(initial))[0], shares.shape[1:])
  _, p = jax.lax.scan(agree, none, (shares, _gaps(shares)[1:]))
  rest = above + known.structure + fold(totals, 0) - totals
  detail = rest[..., None] + _weights(potentials, known) + _agree(potentials, p)
  return Parts(heading, above + structure, log_sum_exp(detail, -2))


def draw(key: Array, potentials: Potentials, known: Parts) -> Parts:
  """One exact sample given what is known, Parts of tokens."""
  heading_key, structure_key, gap_key, key = jax.random.split(key, 4)
  structure, _, seen = _upward(potentials, known)
  initial, step = _headings(potentials, seen)
  chain = messages.normalize_chain(
    initial + seen[0], step + seen[1:, None, :]
  )
  heading = messages.sample(heading_key, 1, *chain)[0]
  structure = jax.random.categorical(
    structure_key, potentials.structure[heading][:, None] + structure
  )
  s, p = jnp.indices(structure.shape)
  shares, _ = _shares(potentials, known)
  # What is given the structure: (D, S, P, V) and (D + 1, S, P, V).
  gaps, shares = _gaps(shares)[:, s, p, structure], shares[:, s, p, structure]
  token = jnp.arange(len(initial))

  def reveal(gap, x):
    key, share, after = x
    odds = share * jnp.take_along_axis(
      after, (gap[..., None] + token) % len(token), axis=-1
    )
    detail = jax.random.categorical(key, jnp.log(odds))
    return gap + detail, detail

  gap = jax.random.categorical(
    gap_key, jnp.log(gaps[0]) - jnp.where(token == 0, 0, potentials.up)
  )
  keys = jax.random.split(key, len(shares))
  _, detail = jax.lax.scan(reveal, gap, (keys, shares, gaps[1:]))
  return Parts(heading, structure, detail)
