"""Pairwise dependence along a tree, by belief propagation (O(L V ** 2)).

Pearl, Probabilistic Reasoning in Intelligent Systems (1988), chapter 4. Two
scans over the nodes: every parent comes before its children, so one scan runs
from the leaves to the root and one back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from punt_jax.oracles import messages
from punt_jax.oracles.sums import fold, log_sum_exp, normalize, offset
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array


def tree(log_root: Array, log_edge: Array, parent: Array) -> World:
  """The law p(x) ~ exp(root[x_0] + sum_i edge[i - 1, x_parent(i), x_i]).

  Args:
    log_root: (V,) nats.
    log_edge: (L - 1, V, V) nats; entry i - 1 belongs to node i, its rows to
      the parent. Any potentials, -inf included, as in `chain`.
    parent: (L - 1,) int; entry i - 1 is the parent of node i, less than i
      (unchecked, as it may be traced).

  Raises:
    ValueError: the shapes do not agree.
  """
  vocab, length = log_root.shape[0], log_edge.shape[0] + 1
  if log_edge.shape != (length - 1, vocab, vocab) or jnp.shape(parent) != (
    length - 1,
  ):
    raise ValueError(
      f'a tree over {vocab} tokens takes (L - 1, {vocab}, {vocab}) edges and '
      f'(L - 1,) parents; got {log_edge.shape} and {jnp.shape(parent)}.'
    )
  root = jnp.asarray(log_root, jnp.float32)
  edge = jnp.asarray(log_edge, jnp.float32)
  parent = jnp.asarray(parent, jnp.int32)
  everything = jnp.zeros((length, vocab))
  below, *_ = _upward(edge, parent, everything)
  root, _ = normalize(root + below[0])
  edge, _ = normalize(edge + below[1:, None, :])

  def sample(key, n):
    keys = jax.random.split(key, length)
    first = jax.random.categorical(keys[0], root, shape=(n,)).astype(jnp.int32)
    start = jnp.zeros((length, n), jnp.int32).at[0].set(first)

    def step(tokens, x):
      key, i, above, log_p = x
      token = jax.random.categorical(key, log_p[tokens[above]])
      return _put(tokens, token.astype(jnp.int32), i), None

    nodes = jnp.arange(1, length)
    tokens, _ = jax.lax.scan(step, start, (keys[1:], nodes, parent, edge))
    return tokens.T

  def log_prob(allowed):
    seen = messages.known(allowed)
    below, _, _, totals = _upward(edge, parent, seen)
    return fold(totals) + log_sum_exp(root + seen[0] + below[0])

  def log_joint(allowed):
    seen = messages.known(allowed)
    below, sent, later, _ = _upward(edge, parent, seen)
    above = _downward(root, edge, parent, seen, sent, later)
    return above + seen + below

  def entropy():
    law = jnp.exp(normalize(log_joint(jnp.ones((length, vocab), bool)))[0])
    rows = jax.scipy.special.entr(jnp.exp(edge)).sum(-1)
    return jax.scipy.special.entr(law[0]).sum() + (law[parent] * rows).sum()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)


def random_tree(
  key: Array, length: int, vocab: int, beta: float = 1.2
) -> World:
  """A random recursive tree with Gaussian potentials of scale `beta` (nats).

  The parent of node i is uniform over 0 .. i - 1.
  """
  edge_key, parent_key = jax.random.split(key)
  pairs = jax.random.normal(edge_key, (length - 1, vocab, vocab))
  parent = jax.random.randint(
    parent_key, (length - 1,), 0, jnp.arange(1, length)
  )
  return tree(jnp.zeros(vocab), beta * pairs, parent)


def _upward(edge, parent, seen):
  """What the evidence in each subtree says, from the leaves to the root.

  Returns:
    below: (L, V) log p(evidence under node i | its token).
    sent: (L - 1, V) the message of node i to its parent; its maximum is 0.
    later: (L - 1, V) sum of the messages of its siblings after it.
    totals: (L - 1,) what the messages were divided by.
  """

  def step(below, x):
    i, above, log_p, seen = x
    message = messages.pass_on(_get(below, i) + seen, log_p.T)
    total = message.max()
    message -= offset(total)
    later = _get(below, above)
    return _put(below, later + message, above), (message, later, total)

  nodes = jnp.arange(1, len(edge) + 1)
  below, sent = jax.lax.scan(
    step, jnp.zeros_like(seen), (nodes, parent, edge, seen[1:]), reverse=True
  )
  return below, *sent


def _downward(root, edge, parent, seen, sent, later):
  """log p(token of node i, evidence not under it), (L, V), to a constant each.

  `known` collects what a node's parent, its own evidence and its children
  before the current one say, so that no message is ever divided out again.
  """

  def step(known, x):
    i, above, log_p, seen, sent, later = x
    rest = _get(known, above)
    message, _ = normalize(messages.pass_on(rest + later, log_p))
    known = _put(known, rest + sent, above)
    return _put(known, message + seen, i), message

  nodes = jnp.arange(1, len(edge) + 1)
  start = jnp.zeros_like(seen).at[0].set(root + seen[0])
  _, rest = jax.lax.scan(
    step, start, (nodes, parent, edge, seen[1:], sent, later)
  )
  return jnp.concatenate([root[None], rest])


def _get(table, i):
  return jax.lax.dynamic_index_in_dim(table, i, keepdims=False)


def _put(table, row, i):
  return jax.lax.dynamic_update_index_in_dim(table, row, i, 0)
