"""A grid of 2 rows (treewidth 2): a chain of columns with V ** 2 states each.

The columns are passed along like the tokens of a chain, O(L V ** 4) per canvas:
meant for V <= 8. Each token has up to three neighbors, so the grid has cycles.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, rows
from punt_jax.oracles import inputs, messages
from punt_jax.oracles.sums import fold, log_sum_exp
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike


def strip(log_down: ArrayLike, log_right: ArrayLike) -> World:
  """p(x) ~ exp(sum of pair potentials) on a 2 x C grid, L = 2 C.

  Column c holds the positions 2 c (above) and 2 c + 1 (below).

  Two columns in which equal neighbors are e times as likely as others:

  >>> equal = jnp.eye(2)
  >>> world = strip(jnp.stack([equal] * 2), equal[None, None].repeat(2, 1))
  >>> ratio = world.log_prob(jnp.array([[0, 0, 0, 0], [0, 1, 1, 0]]))
  >>> round(float(ratio[0] - ratio[1]), 3)
  4.0

  Args:
    log_down: (C, V, V) nats, unnormalized log-weights, rows for the token
      above, columns for the one below.
    log_right: (C - 1, 2, V, V) nats of each row's token and the next one on
      its right. Any potentials, -inf included, as in `chain`.

  Raises:
    ValueError: the shapes do not agree, no canvas is possible, or what
      inputs.log_weights says.
  """
  log_down = checks.array('log_down', log_down)
  log_right = checks.array('log_right', log_right)
  if np.ndim(log_down) != 3 or 0 in np.shape(log_down):
    raise ValueError(
      f'log_down is (C, V, V) log-weights, got shape {np.shape(log_down)}.'
    )
  columns, vocab = np.shape(log_down)[:2]
  right_shape = (columns - 1, 2, vocab, vocab)
  if np.shape(log_down)[2] != vocab or np.shape(log_right) != right_shape:
    raise ValueError(
      f'{columns} columns of {vocab} tokens take ({columns}, {vocab}, {vocab}) '
      f'potentials down and {right_shape} to the right; got '
      f'{np.shape(log_down)} and {np.shape(log_right)}.'
    )
  inputs.sizes(vocab**4, columns=columns)
  down = inputs.log_weights('log_down', log_down).reshape(columns, vocab**2)
  right = inputs.log_weights('log_right', log_right)
  # State a * V + b: token a above, b below.
  step = right[:, 0, :, None, :, None] + right[:, 1, None, :, None, :]
  step = step.reshape(columns - 1, vocab**2, vocab**2) + down[1:, None, :]
  initial, transition = messages.normalize_chain(down[0], step)
  inputs.possible('the strip', initial)

  def seen(allowed):
    known = messages.known(allowed).reshape(columns, 2, vocab)
    both = known[:, 0, :, None] + known[:, 1, None, :]
    return both.reshape(columns, vocab**2)

  def log_prob(allowed):
    _, totals = messages.forward(initial, transition, seen(allowed))
    return fold(totals)

  def log_joint(allowed):
    filtered, _ = messages.forward(initial, transition, seen(allowed))
    joint = filtered + messages.backward(transition, seen(allowed))
    joint = joint.reshape(columns, vocab, vocab)
    each = log_sum_exp(joint, 2), log_sum_exp(joint, 1)
    return jnp.stack(each, axis=1).reshape(2 * columns, vocab)

  def sample(key, n):
    state = messages.sample(key, n, initial, transition)
    tokens = jnp.stack([state // vocab, state % vocab], axis=-1)
    return tokens.reshape(n, 2 * columns)

  return lift(
    vocab,
    2 * columns,
    sample,
    log_prob,
    log_joint,
    entropy=lambda: messages.entropy(initial, transition),
  )


def random_strip(
  key: Array, length: int, vocab: int, beta: float = 1.2
) -> World:
  """A strip with Gaussian potentials of scale `beta` (nats).

  Raises:
    ValueError: `length` is odd.
  """
  inputs.sizes(vocab, length=length, vocab=vocab)
  checks.in_range('beta', beta)
  if length % 2:
    raise ValueError(f'a strip has 2 rows: length {length} must be even.')
  first, second = jax.random.split(rows.as_key(key))
  down = jax.random.normal(first, (length // 2, vocab, vocab))
  right = jax.random.normal(second, (length // 2 - 1, 2, vocab, vocab))
  return strip(beta * down, beta * right)
