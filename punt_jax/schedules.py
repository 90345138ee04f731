"""Schedules: how many positions to write at a step, and PUNT's epsilon.

A count schedule is a function (step, total, left) -> count of scalars: steps
since the start (of the block), positions masked at the start, positions masked
now. An epsilon schedule is a function of the masked fraction left / total.
"""

import jax.numpy as jnp

SLACK = 1e-4  # so that a whole number rounded down in float32 stays whole


def even(steps):
  """total // steps each, one more in the first total % steps (LLaDA)."""

  def count(step, total, left):
    del left
    return total // steps + (step < total % steps)

  return count


def cosine(steps):
  """MaskGIT (2202.04200): floor(total cos(pi/2 t/steps)) stay masked."""

  def count(step, total, left):
    t = jnp.minimum((step + 1) / steps, 1.0)
    return left - jnp.floor(total * jnp.cos(jnp.pi / 2 * t) + SLACK)

  return count


def arccos(steps):
  """Halton scheduler: max(t, floor(total (1 - 2/pi arccos(t/steps)))) done."""

  def count(step, total, left):
    t = jnp.minimum((step + 1) / steps, 1.0)
    done = jnp.floor(total * (1 - 2 / jnp.pi * jnp.arccos(t)) + SLACK)
    return jnp.maximum(done, step + 1) - (total - left)

  return count


def linear_epsilon(start, end):
  """epsilon goes from start (all masked) to end (none masked) linearly."""
  return lambda fraction: end + (start - end) * fraction
