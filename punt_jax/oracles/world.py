"""What an exact world is, and how a sampler sees one.

A world is a distribution over complete canvases of L tokens that can be
sampled, scored and conditioned exactly. It stands in for a perfectly trained
model, so every error that is measured on it belongs to the sampler.

The constructors take arrays, traced or not: a world that is built inside a
jitted function adds no constant to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, denoiser, rows
from punt_jax.oracles import inputs
from punt_jax.oracles.sums import normalize
from punt_jax.types import Answer, Array, ArrayLike, Denoiser


class World(NamedTuple):
  """An exact distribution; a partial canvas holds V (MASK) where it is open.

  Evidence of probability zero has log_prob -inf and uniform logits: jitted
  code cannot raise, so callers count such rows.
  """

  vocab: int  # V
  length: int  # L
  sample: Callable[[Array, int], Array]  # (key, n) -> (n, L) int32, independent
  # exact samples
  log_prob: Callable[[ArrayLike], Array]  # tokens (..., L) -> (...) nats:
  # log-probability of the observed tokens, the masked ones summed out
  logits: Callable[[ArrayLike], Array]  # tokens (..., L) -> (..., L, V) nats:
  # log-probability of every token at every position given all observed ones; at
  # an observed position a point mass
  entropy: Callable[[], Array]  # () nats: entropy of a complete canvas


def lift(
  vocab: int,
  length: int,
  sample: Callable[[Array, int], Array],
  log_prob: Callable[[Array], Array],
  log_joint: Callable[[Array], Array],
  entropy: Callable[[], Array],
) -> World:
  """Makes a World of functions about one canvas.

  Args:
    vocab: V.
    length: L.
    sample: as in World.
    log_prob: allowed (L, V) bool, the tokens that each position may hold ->
      () nats, the log-probability of that set of canvases.
    log_joint: allowed (L, V) -> (L, V) nats, log-probability of that set
      with token v at position i, up to one constant per position.
    entropy: as in World.
  """

  def allowed(tokens):
    if tokens.shape != (length,):
      raise ValueError(
        f'this world has {length} positions, the canvas {tokens.shape[0]}: '
        'pass tokens of shape (..., L).'
      )
    tokens = tokens[:, None]
    return (tokens == jnp.arange(vocab)) | (tokens == vocab)

  def logits(tokens):
    log_p, total = normalize(log_joint(allowed(tokens)))
    return jnp.where(jnp.isneginf(total)[:, None], -jnp.log(vocab), log_p)

  return looked_at(World(
    vocab=vocab,
    length=length,
    sample=sample,
    log_prob=jnp.vectorize(
      lambda x: log_prob(allowed(x)), signature='(l)->()'
    ),
    logits=jnp.vectorize(logits, signature='(l)->(l,v)'),
    entropy=jax.jit(entropy),
  ))


def looked_at(world: World) -> World:
  """The world with its functions jitted, and their arguments looked at."""
  vocab, length = world.vocab, world.length
  draw = jax.jit(world.sample, static_argnums=1)

  def sample(key, n):
    most = inputs.MOST // length
    return draw(rows.as_key(key), checks.whole('n', n, 0, most))

  def of_tokens(function):
    jitted = jax.jit(function)

    def run(tokens):
      tokens = checks.array('tokens', tokens)
      if not jnp.issubdtype(tokens.dtype, jnp.integer) or not tokens.ndim:
        raise ValueError(
          f'tokens must be integers of shape (..., {length}), not'
          f' {tokens.dtype} {tokens.shape}'
        )
      if not isinstance(tokens, Array):  # what is on a device stays there
        for token in tokens[(tokens < 0) | (tokens > vocab)].flat:
          raise ValueError(f'the token id {token} is outside [0, {vocab}]')
      return jitted(tokens)

    return run

  return world._replace(
    sample=sample, log_prob=of_tokens(world.log_prob),
    logits=of_tokens(world.logits),
  )


def as_denoiser(world: World) -> Denoiser:
  """The world as a model; padding may stand anywhere.

  A canvas with n valid positions shows the first n positions of the world, the
  others are summed out, so padding on either side gives the same conditionals
  to the bit. Raises ValueError for a canvas longer than the world.
  """

  contract.is_a(world, World)

  def logits_fn(tokens: Array, valid: Array) -> Array:
    spare = world.length - tokens.shape[-1]
    if spare < 0:
      raise ValueError(
        f'this world has {world.length} positions, the canvas '
        f'{tokens.shape[-1]}: shorten the canvas or build a longer world.'
      )
    to_front = jnp.argsort(~valid, axis=-1, stable=True)
    back = jnp.argsort(to_front, axis=-1)
    shown = jnp.where(valid, tokens, world.vocab)
    shown = jnp.take_along_axis(shown, to_front, axis=-1)
    shown = jnp.pad(
      shown, ((0, 0), (0, spare)), constant_values=world.vocab
    )
    return jnp.take_along_axis(
      world.logits(shown), back[..., None], axis=-2
    )

  def in_order(memo, tokens, rank, asking):
    last = jnp.where(tokens == world.vocab, -1, rank).max() + 1
    turn = jnp.clip(rank, 0, last)

    def conditionals(r, features):
      shown = jnp.where(rank < r, tokens, world.vocab)
      logits = logits_fn(shown, memo.valid)
      return jnp.where((turn == r)[..., None], logits, features)

    features = jnp.zeros((*tokens.shape, world.vocab))
    features = jax.lax.fori_loop(0, last + 1, conditionals, features)
    meter = denoiser.charge(memo.meter, tokens.shape, asking)
    return memo._replace(meter=meter), Answer(features)

  model = denoiser.from_logits(logits_fn, world.vocab)
  return model._replace(in_order=in_order)
