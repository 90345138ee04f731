"""Semi-autoregressive blocks: any sampler, one window after the other.

The window of a row is the first block of its open positions that still has
masks, so blocks start where writing starts and skip given tokens inside.

With a model that has a KV cache (kv_cache.from_windows), what lies outside the
window is computed when the block begins and every `refresh` steps, as in
Fast-dLLM (Wu et al., 2025, https://arxiv.org/abs/2505.22618, DualCache).

With a model that is causal over blocks (block_cache.from_blocks) blocks are its
own, given tokens among them, and the inner sampler sees one of them alone: what
lies before it is computed when it begins, once and for all.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from punt_jax import checks, contract, narrow, places, rows
from punt_jax.denoiser import blank
from punt_jax.types import FAR, Array, Sampler, Scalar, Windows


class Blocks(NamedTuple):
  """Per row: the inner carry, and the active block."""

  inner: Any
  index: Array  # (B,) int32; of aligned blocks the position it starts at
  since: Array  # (B,) int32: the step it began at
  total: Array  # (B,) int32: its masked positions then, see Canvas
  origin: Any  # (B,) int32: a position at which an aligned block starts; or ()


def blocks(
  inner: Sampler, length: Scalar, refresh: Scalar = 1.0, aligned: bool = False
) -> Sampler:
  """Runs `inner` block by block, its carry started afresh in each.

  Costs what the inner sampler costs in the windows. The only caller of
  Denoiser.commit, for each row whose block begins, and every `refresh` steps,
  and of Windows.fill, for each row whose block begins.

  Aligned blocks are cut at multiples of `length` of the position in the row,
  prompt included (of a model with anchored blocks, counted from the first MASK
  of the run). Those without masks are passed over. `inner` is given canvases of
  `length` positions and no more: positions count from the start of the block,
  and so do tables of influence. What it records in Move.info by position is
  laid back on the canvas, see narrow.widened.

  Args:
    inner: Sampler.
    length: open positions per block, >= 1; of aligned blocks a whole number of
      positions, not traced, and the model's own where it is causal over blocks.
      For smaller blocks inside of these: blocks(blocks(inner, 8), 32).
    refresh: steps between commits within a block, >= 1. With 1 the first
      question of every step is about the canvas just committed, so its answer
      is exact, and only later questions of the step (PUNT's probes) reuse keys
      and values that have not seen what they show; with inf those of a whole
      block do. Samplers that begin a step with what they asked before
      (lookahead, info_gain) gain nothing from 1. Without an approximate KV
      cache it changes nothing.
    aligned: whether blocks are aligned; those of a model that is causal over
      blocks always are.

  Raises:
    ValueError: length or refresh < 1, or NaN; aligned blocks of a length that
      is traced, or not the model's.
  """
  contract.is_a(inner, Sampler)
  checks.in_range('block length', length, 1)
  checks.in_range('refresh', refresh, 1)
  if aligned:
    checks.whole('block length', length, 1)

  every = jnp.minimum(refresh, 2**30).astype(jnp.int32)
  counted = _counted(inner, length, every)

  def cut(model):
    """The sampler for this model."""
    if model.windows is not None:
      return _aligned(inner, _fitting(length, model.windows), every)
    return _aligned(inner, length, every) if aligned else counted

  def init(keys, canvas, model):
    return cut(model).init(keys, canvas, model)

  def step(keys, t, canvas, carry, memo, model):
    return cut(model).step(keys, t, canvas, carry, memo, model)

  def settled(canvas, carry):
    if isinstance(carry.origin, tuple):
      return _counted_blocks(canvas, length) < carry.index[:, None]
    return places.positions(canvas.valid) < carry.index[:, None]

  return Sampler(init, step, inner.traits, settled)


def _fitting(length: Scalar, windows: Windows) -> int:
  """The length of blocks on a model with windows."""
  own = windows.length
  given = checks.whole('block length', length, 1)
  if given != own:
    inside = f': for smaller ones, blocks(blocks(sampler, {given}), {own})'
    raise ValueError(
      f'blocks of {given} positions on a model whose blocks have {own}: give'
      f' it length = {own}{inside if given < own else ""}'
    )
  return own


def _counted_blocks(canvas, length):
  """(B, L) number of the block of each open position."""
  return (jnp.cumsum(canvas.open, -1, dtype=jnp.int32) - 1) // length


def _counted(inner, length, every):
  """Blocks of `length` open positions, on the whole canvas."""
  block_of = lambda canvas: _counted_blocks(canvas, length)

  def look(canvas, index):
    inside = block_of(canvas) == index[:, None]
    return canvas._replace(
      open=canvas.open & inside, masked=canvas.masked & inside
    )

  def begin(keys, t, canvas, model, origin):
    """The first block with masks, which begins at step t (B,)."""
    index = jnp.where(canvas.masked, block_of(canvas), 2**30).min(-1)
    index = index.astype(jnp.int32)
    window = look(canvas, index)
    total = window.masked.sum(-1, dtype=jnp.int32)
    carry = inner.init(keys, window._replace(total=total), model)
    return Blocks(carry, index, t, total, origin)

  def init(keys, canvas, model):
    return begin(keys, jnp.zeros_like(canvas.total), canvas, model, ())

  def step(keys, t, canvas, carry, memo, model):
    window = look(canvas, carry.index)._replace(total=carry.total)
    due = (t - carry.since) % every == 0
    memo = model.commit(
      memo, canvas.tokens, due & canvas.open.any(-1), window.open
    )
    move, inside, memo = inner.step(
      keys, t - carry.since, window, carry.inner, memo, model
    )
    tokens = jnp.where(window.open, move.tokens, canvas.tokens)
    made = move._replace(tokens=tokens), carry._replace(inner=inside), memo
    return _next(begin, keys, t, canvas, made, model)

  return Sampler(init, step)


def _next(begin, keys, t, canvas, made, model):
  """`made`, but where the inner sampler is done the next block begins."""
  move, carry, memo = made
  masked = canvas.open & (move.tokens == model.vocab)
  done = move.done & ~masked.any(-1)
  after = canvas._replace(tokens=move.tokens, masked=masked)
  fresh = begin(rows.named(keys, 'block'), t + 1, after, model, carry.origin)
  carry = rows.pick_rows(move.done, fresh, carry)
  return move._replace(done=done), carry, memo


def _aligned(inner, length, every):
  """Blocks at multiples of `length`, each a canvas of its own."""

  def first(canvas):
    """(B,) position of the first MASK, 0 if there is none."""
    position = jnp.where(canvas.masked, places.positions(canvas.valid), FAR)
    return jnp.where(canvas.masked.any(-1), position.min(-1), 0)

  def begin(keys, t, canvas, model, origin):
    rest = origin % length
    start = (first(canvas) - rest) // length * length + rest
    window = narrow.canvas(canvas, start, length)
    window = window._replace(total=window.masked.sum(-1, dtype=jnp.int32))
    # Nothing is remembered here: a question would be about the whole canvas.
    bare = model._replace(windows=None)
    fresh = model.init(canvas.tokens, canvas.valid)
    near = narrow.model(bare, fresh, canvas.tokens, start, length)
    carry = inner.init(keys, window, near)
    return Blocks(carry, start, t, window.total, origin)

  def init(keys, canvas, model):
    zero = jnp.zeros_like(canvas.total)
    anchored = model.windows is not None and model.windows.anchored
    return begin(keys, zero, canvas, model, first(canvas) if anchored else zero)

  def step(keys, t, canvas, carry, memo, model):
    start, since, going = carry.index, t - carry.since, canvas.open.any(-1)
    if model.windows is not None:
      memo = model.windows.fill(memo, canvas.tokens, start, going)
    else:
      block = (places.positions(canvas.valid) - start[:, None]) // length
      due = going & (since % every == 0)
      memo = model.commit(memo, canvas.tokens, due, canvas.open & (block == 0))
    window = narrow.canvas(canvas, start, length)._replace(total=carry.total)
    near = narrow.model(model, memo, canvas.tokens, start, length)
    bill = blank(window.valid)._replace(meter=memo.meter)
    move, inside, bill = inner.step(
      keys, since, window, carry.inner, bill, near
    )
    move = narrow.widened(move, canvas, start, length)
    memo = memo._replace(meter=bill.meter)
    made = move, carry._replace(inner=inside), memo
    return _next(begin, keys, t, canvas, made, model)

  return Sampler(init, step)
