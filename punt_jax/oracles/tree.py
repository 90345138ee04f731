"""Pairwise dependence along a tree, by belief propagation (O(L V ** 2)).

Pearl, Probabilistic Reasoning in Intelligent Systems (1988), chapter 4. Two
scans over the nodes: every parent comes before its children, so one scan runs
from the leaves to the root and one back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import checks, rows
from punt_jax.oracles import inputs, messages
from punt_jax.oracles.sums import fold, log_sum_exp, normalize, offset
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike


def tree(log_root: ArrayLike, log_edge: ArrayLike, parent: ArrayLike) -> World:
  """p(x) ~ exp(root[x_0] + sum_i edge[i - 1, x_parent(i), x_i]).

  A root and two children that copy it nine times out of ten:

  >>> copy = jnp.log(jnp.array([[9.0, 1.0], [1.0, 9.0]]))
  >>> world = tree(jnp.zeros(2), jnp.stack([copy] * 2), jnp.array([0, 0]))
  >>> round(float(jnp.exp(world.log_prob(jnp.array([2, 0, 0])))), 3)
  0.41

  Args:
    log_root: (V,) nats, unnormalized log-weights.
    log_edge: (L - 1, V, V) nats; entry i - 1 belongs to node i, its rows to
      the parent. Any potentials, -inf included, as in `chain`.
    parent: (L - 1,) int; entry i - 1 is the parent of node i, less than i
      (unchecked if it is traced).

  Raises:
    ValueError: the shapes do not agree, a parent comes after its child, no
      canvas is possible, or what inputs.log_weights says.
  """
  log_root = checks.array('log_root', log_root)
  log_edge = checks.array('log_edge', log_edge)
  parent = checks.array('parent', parent)
  vocab, shape = np.size(log_root), np.shape(log_edge)
  length = shape[0] + 1 if shape else 0
  if (np.shape(log_root), shape, np.shape(parent)) != (
    (vocab,), (length - 1, vocab, vocab), (length - 1,)
  ):
    raise ValueError(
      f'a tree over {vocab} tokens takes a ({vocab},) root, (L - 1, {vocab}, '
      f'{vocab}) edges and (L - 1,) parents; got {np.shape(log_root)}, {shape}'
      f' and {np.shape(parent)}.'
    )
  if not vocab or not jnp.issubdtype(parent.dtype, jnp.integer) and length > 1:
    raise ValueError(
      f'a tree takes one token or more and whole numbers for parents, got'
      f' {vocab} and {parent.dtype}'
    )
  root = inputs.log_weights('log_root', log_root)
  edge = inputs.log_weights('log_edge', log_edge)
  if not isinstance(parent, Tracer):
    early = np.asarray(parent)
    for i in np.flatnonzero((early < 0) | (early > np.arange(length - 1))):
      raise ValueError(
        f'the parent of node {i + 1} is {early[i]}: it must be one of the'
        f' nodes 0 .. {i} before it'
      )
  parent = jnp.asarray(parent, jnp.int32)
  everything = jnp.zeros((length, vocab))
  below, _, _ = _upward(edge, parent, everything)
  root, _ = normalize(root + below[0])
  inputs.possible('the tree', root)
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
    below, _, totals = _upward(edge, parent, seen)
    return fold(totals) + log_sum_exp(root + seen[0] + below[0])

  def log_joint(allowed):
    seen = messages.known(allowed)
    below, sent, _ = _upward(edge, parent, seen)
    # Sums from both sides: a message of -inf cannot be subtracted again.
    siblings = _before(parent, sent)
    siblings += _before(parent[::-1], sent[::-1])[::-1]
    return _downward(root, edge, parent, seen, siblings) + seen + below

  def entropy():
    dist = jnp.exp(normalize(log_joint(jnp.ones((length, vocab), bool)))[0])
    rows = jax.scipy.special.entr(jnp.exp(edge)).sum(-1)
    return jax.scipy.special.entr(dist[0]).sum() + (dist[parent] * rows).sum()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)


def random_tree(
  key: Array, length: int, vocab: int, beta: float = 1.2
) -> World:
  """A random recursive tree with Gaussian potentials of scale `beta` (nats).

  The parent of node i is uniform over 0 .. i - 1.
  """
  inputs.sizes(vocab, length=length, vocab=vocab)
  checks.in_range('beta', beta)
  edge_key, parent_key = jax.random.split(rows.as_key(key))
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
    totals: (L - 1,) what the messages were divided by.
  """

  def step(below, x):
    i, above, log_p, seen = x
    message = messages.pass_on(_get(below, i) + seen, log_p.T)
    total = message.max()
    message -= offset(total)
    return _put(below, _get(below, above) + message, above), (message, total)

  nodes = jnp.arange(1, len(edge) + 1)
  below, (sent, totals) = jax.lax.scan(
    step, jnp.zeros_like(seen), (nodes, parent, edge, seen[1:]), reverse=True
  )
  return below, sent, totals


def _before(parent, sent):
  """Sum of the messages of each node's siblings before it, (L - 1, V)."""
  order = jnp.argsort(parent, stable=True)

  def step(total, x):
    first, message = x
    before = jnp.where(first, 0.0, total)
    return before + message, before

  first = jnp.diff(parent[order], prepend=-1) != 0
  start = jnp.zeros(sent.shape[1])
  _, before = jax.lax.scan(step, start, (first, sent[order]))
  return before[jnp.argsort(order)]


def _downward(root, edge, parent, seen, siblings):
  """log p(token of node i, evidence not under it), (L, V), to a constant each.

  Args:
    siblings: (L - 1, V) sum of the messages of each node's siblings.
  """

  def step(known, x):
    i, above, log_p, seen, siblings = x
    rest = _get(known, above) + siblings
    message, _ = normalize(messages.pass_on(rest, log_p))
    return _put(known, message + seen, i), message

  nodes = jnp.arange(1, len(edge) + 1)
  start = jnp.zeros_like(seen).at[0].set(root + seen[0])
  _, rest = jax.lax.scan(
    step, start, (nodes, parent, edge, seen[1:], siblings)
  )
  return jnp.concatenate([root[None], rest])


def _get(table, i):
  return jax.lax.dynamic_index_in_dim(table, i, keepdims=False)


def _put(table, row, i):
  return jax.lax.dynamic_update_index_in_dim(table, row, i, 0)
