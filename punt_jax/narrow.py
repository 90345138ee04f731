"""A model narrowed to a stretch of its canvas, for any sampler.

The sampler sees W positions as if they were all there is; a question shows the
model the rest of the canvas, or, of a model that is causal over blocks, what it
remembers of that (block_cache.py).
"""

import jax
import jax.numpy as jnp

from punt_jax import denoiser, sampler
from punt_jax.places import indices, put, take
from punt_jax.types import FAR, Answer, Array, Canvas, Denoiser, Memo, Move


def canvas(whole: Canvas, start: Array, width: int) -> Canvas:
  """The `width` positions from start (B,), padding where the row has ended."""
  index = indices(whole.valid, start, width)
  tokens, valid, open_, masked = (take(x, index) for x in whole[:4])
  return Canvas(tokens, valid, open_, masked, whole.total)


def widened(move: Move, whole: Canvas, start: Array, width: int) -> Move:
  """A Move on the narrow canvas as one on the whole.

  So are the leaves of its info whose last axis is W; elsewhere they hold NaN,
  0 or False.
  """
  index = indices(whole.valid, start, width)

  def lay(x):
    if not x.ndim or x.shape[1:][-1:] != (width,):
      return x
    fill = jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else 0
    rest = jnp.full(x.shape[:-1] + whole.valid.shape[1:], fill, x.dtype)
    return put(rest, index, x)

  inside = take(whole.open, index)
  tokens = jnp.where(inside, move.tokens, take(whole.tokens, index))
  logp = jnp.where(inside, move.logp, 0.0)
  return move._replace(
    tokens=put(whole.tokens, index, tokens),
    logp=put(jnp.zeros(whole.valid.shape, logp.dtype), index, logp),
    info=jax.tree.map(lay, move.info),
  )


def model(
  outer: Denoiser, memo: Memo, tokens: Array, start: Array, width: int
) -> Denoiser:
  """`outer`, asked about the `width` positions from `start` alone.

  Its questions read `memo` and do not change it. The Memo that they are given
  and give back holds the bill alone, so no loop or branch of a sampler carries
  a cache. A sampler may keep P canvases per row, (B P, W): they are probes.

  Args:
    outer: Denoiser.
    memo: its Memo; if it has windows, filled up to `start`.
    tokens: (B, L) int32, what stands around.
    start: (B,) int32 positions.
    width: W; the length of its windows, if it has any.
  """
  index = indices(memo.valid, start, width)
  batch = len(tokens)

  def around(tokens, new):
    """The canvas with (B, ..., W) put in: (B, ..., L)."""
    each = tokens.reshape(batch, *(1,) * (new.ndim - 2), -1)
    each = jnp.broadcast_to(each, new.shape[:-1] + each.shape[-1:])
    return put(each, index, new)

  def look(memo, new, rows):
    if outer.windows is not None:
      return outer.windows.ask(memo, new, start, rows)
    memo, answer = outer.ask(memo, around(tokens, new), rows)
    axis = new.ndim - 1
    cut = lambda x: take(take(x, index, axis + 1), index, axis + 2)
    return memo, Answer(
      take(answer.features, index, axis), jax.tree.map(cut, answer.extra)
    )

  def ask(own, new, rows):
    many = len(new) // batch
    if many == 1:
      told, answer = look(memo._replace(meter=own.meter), new, rows)
      return own._replace(meter=told.meter), answer
    split = lambda x: x.reshape(batch, many, *x.shape[1:])
    bare = memo._replace(meter=denoiser.blank(memo.valid).meter)
    told, answer = look(bare, split(new), split(rows))
    each = told.meter.positions // jnp.maximum(told.meter.nfe, 1)
    meter = denoiser.charge(own.meter, new.shape[:-1] + (1,), rows)
    passes = meter.nfe - own.meter.nfe
    meter = meter._replace(
      positions=own.meter.positions + passes * jnp.repeat(each, many)
    )
    join = lambda x: x.reshape(-1, *x.shape[2:])
    return own._replace(meter=meter), jax.tree.map(join, answer)

  def in_order(own, new, rank, rows):
    many = len(new) // batch
    each = lambda x: jnp.repeat(x, many, 0)
    place, whole = each(index), each(tokens)
    rank = put(jnp.where(whole == outer.vocab, FAR, -1), place, rank)
    whole = put(whole, place, new)
    told = outer.init(whole, each(memo.valid))._replace(meter=own.meter)
    told, answer = denoiser.ordered(outer)(told, whole, rank, rows)
    features = take(answer.features, place)
    return own._replace(meter=told.meter), Answer(features)

  def beside(other):
    other = sampler.beside(outer, other)._replace(windows=None)
    fresh = other.init(tokens, memo.valid)
    return model(other, fresh, tokens, start, width)

  return outer._replace(
    init=lambda tokens, valid: denoiser.blank(valid),
    ask=ask,
    commit=lambda memo, tokens, rows, open_: memo,
    in_order=in_order if outer.in_order else None,
    windows=None,
    beside=beside,
  )
