"""Semi-autoregressive blocks: any sampler, one window after the other.

The window of a row is the first block of its open positions that still has
masks, so blocks start where writing starts and skip given tokens inside.

With a model that has a KV cache (kv_cache.from_windows), what lies outside the
window is computed when the block begins and every `refresh` steps, as in
Fast-dLLM (Wu et al., 2025, https://arxiv.org/abs/2505.22618, DualCache).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from punt_jax import checks, contract, rows
from punt_jax.types import Array, Sampler, Scalar


class Blocks(NamedTuple):
  """Per row: the inner carry, and the active block."""

  inner: Any
  index: Array  # (B,) int32
  since: Array  # (B,) int32: the step it began at
  total: Array  # (B,) int32: its masked positions then, see Canvas


def blocks(inner: Sampler, length: Scalar, refresh: Scalar = 1.0) -> Sampler:
  """Runs `inner` block by block, its carry started afresh in each.

  Costs what the inner sampler costs in the windows. The only caller of
  Denoiser.commit: for each row whose block begins, and every `refresh` steps.

  Args:
    inner: Sampler.
    length: open positions per block, >= 1.
    refresh: steps between commits within a block, >= 1. With 1 the first
      question of every step is about the canvas just committed, so its answer
      is exact, and only later questions of the step (PUNT's probes) reuse keys
      and values that have not seen what they show; with inf those of a whole
      block do. Samplers that begin a step with what they asked before
      (lookahead, info_gain) gain nothing from 1. Without a KV cache it changes
      nothing.

  Raises:
    ValueError: length or refresh < 1, or NaN.
  """
  contract.is_a(inner, Sampler)
  checks.in_range('block length', length, 1)
  checks.in_range('refresh', refresh, 1)

  every = jnp.minimum(refresh, 2**30).astype(jnp.int32)

  def block_of(canvas):
    return (jnp.cumsum(canvas.open, -1, dtype=jnp.int32) - 1) // length

  def narrow(canvas, index):
    inside = block_of(canvas) == index[:, None]
    return canvas._replace(
      open=canvas.open & inside, masked=canvas.masked & inside
    )

  def begin(keys, t, canvas, model):
    """The first block with masks, which begins at step t (B,)."""
    index = jnp.where(canvas.masked, block_of(canvas), 2**30).min(-1)
    index = index.astype(jnp.int32)
    window = narrow(canvas, index)
    total = window.masked.sum(-1, dtype=jnp.int32)
    carry = inner.init(keys, window._replace(total=total), model)
    return Blocks(carry, index, t, total)

  def init(keys, canvas, model):
    return begin(keys, jnp.zeros_like(canvas.total), canvas, model)

  def step(keys, t, canvas, carry, memo, model):
    window = narrow(canvas, carry.index)._replace(total=carry.total)
    due = (t - carry.since) % every == 0
    memo = model.commit(
      memo, canvas.tokens, due & canvas.open.any(-1), window.open
    )
    move, inner_carry, memo = inner.step(
      keys, t - carry.since, window, carry.inner, memo, model
    )
    tokens = jnp.where(window.open, move.tokens, canvas.tokens)
    masked = canvas.open & (tokens == model.vocab)
    done = move.done & ~masked.any(-1)
    after = canvas._replace(tokens=tokens, masked=masked)
    fresh = begin(rows.named(keys, 'block'), t + 1, after, model)
    carry = rows.pick_rows(move.done, fresh, carry._replace(inner=inner_carry))
    return move._replace(tokens=tokens, done=done), carry, memo

  return Sampler(init, step, inner.traits)
