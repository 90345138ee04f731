"""The loop over model time of masked diffusion, for samplers that leap in it.

Time t runs from 1 to 0 in T steps. Which positions a time step writes does not
depend on what the model says, so a time step without any costs nothing: at most
T forward passes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, rows
from punt_jax.sampler import look, position_of, reveal
from punt_jax.types import Array, RatesFn, Sampler, Scalar

# The share of masked positions, 1 - alpha, at a time t in [0, 1].
PATHS = {
  'linear': lambda t: t,
  'cosine': lambda t: jnp.sin(jnp.pi / 2 * t),
}


class Hit(NamedTuple):
  """When, in model time, a step wrote what it wrote."""

  time: Array  # (B,) float32, from 1 (all masked) down to 0


class Clock(NamedTuple):
  """How far the rows have come, up to a time step that writes something."""

  index: Array  # (B,) int32: number of that time step, T at most
  masked: Array  # (B, L) bool: masked before it
  kept: Array  # (B, L) bool: written by it; none: the row is finished
  dropped: Array  # (B, L) bool: remasked by it
  sure: Array  # (B, L) probability of each token when it was written


def leap(steps: Scalar, rates: RatesFn) -> Sampler:
  """Any sampler that writes and remasks at random times.

  One forward pass per step of the sampler. It writes what the time step that
  was waited for writes, then waits for the next one, remasking on the way.

  Ends: each step of the sampler is another of T time steps, and the last one
  writes all that is masked and remasks nothing.

  Args:
    steps: T >= 1, at most 2 ** 24 (float32 counts that far).
    rates: (t, s, sure (L,), committed (L,)) -> probabilities, () or (L,), that
      a masked position is written and that a committed one is remasked as time
      goes from t to s < t; `sure` is the probability that each committed token
      had when it was written, 1 if it was there from the start.

  Raises:
    ValueError: steps out of range.
  """
  checks.in_range('steps', steps, 1, 2**24)
  checks.function('rates', rates)
  time = lambda index: jnp.maximum(1.0 - index / steps, 0.0)

  def wait(keys, canvas, clock):
    position = position_of(canvas)

    def of_row(key, position, open_, clock):
      def tick(c):
        masked = c.masked | c.dropped
        index = c.index + 1
        write, drop = rates(
          time(c.index), time(index), c.sure, open_ & ~masked
        )
        chance = rows.uniform_at(jax.random.fold_in(key, index), position)
        last = index >= steps
        kept = masked & ((chance < write) | last)
        dropped = open_ & ~masked & (chance < drop) & ~last
        return Clock(index, masked, kept, dropped, c.sure)

      more = lambda c: ~c.kept.any() & (c.index < steps) & open_.any()
      return jax.lax.while_loop(more, tick, clock)

    return jax.vmap(of_row)(keys, position, canvas.open, clock)

  def init(keys, canvas, model):
    del model
    none = jnp.zeros_like(canvas.masked)
    return wait(keys, canvas, Clock(
      index=jnp.zeros(none.shape[:1], jnp.int32),
      masked=canvas.masked,
      kept=none,
      dropped=none,
      sure=jnp.ones(none.shape),
    ))

  def step(keys, t, canvas, clock, memo, model):
    # A wrapper may have ended the row: then nothing is open.
    written, now = clock.kept & canvas.open, time(clock.index)
    # Differs from the canvas in the first step only, where `init` remasked.
    tokens = jnp.where(clock.masked, model.vocab, canvas.tokens)
    canvas = canvas._replace(tokens=tokens, masked=written)
    memo, _, view = look(keys, t, canvas, memo, model)
    move = reveal(canvas, view, written, Hit(now))
    clock = wait(rows.named(keys, 'leap'), canvas, clock._replace(
      masked=clock.masked & ~written,
      kept=jnp.zeros_like(written),
      sure=jnp.where(written, jnp.exp(view.draft_score), clock.sure),
    ))
    move = move._replace(
      tokens=jnp.where(clock.masked, model.vocab, move.tokens),
      logp=jnp.where(clock.masked, 0.0, move.logp),
      done=~clock.kept.any(-1),
    )
    return move, clock, memo

  return Sampler(init, step)
