"""A KV cache for block decoding: a question computes W of L positions."""

import functools
import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from punt_jax.denoiser import charge, from_features, show_mask
from punt_jax.rows import pick_rows
from punt_jax.types import FAR, Answer, Array, Denoiser, HeadFn, Tree


class PrefillFn(Protocol):
  """A network that says what it computed: (N, L, D) and keys and values."""

  def __call__(self, tokens: Array, valid: Array, /) -> tuple[Array, Tree]: ...


class WindowFn(Protocol):
  """A network about some positions beside others; see from_windows."""

  def __call__(
    self, past: Tree, past_position: Array, past_reach: Array, tokens: Array,
    position: Array, /,
  ) -> tuple[Array, Tree]: ...


class Window(NamedTuple):
  """What a model with a KV cache remembers: all of the last commit."""

  ready: Array  # (B,) bool: there was one, and the window holds all it should
  tokens: Array  # (B, L) int32 the canvas then
  features: Array  # (B, L, D)
  past: Tree  # leaves (layers, B, L, ...): keys and values
  index: Array  # (B, W) int32: positions that each question computes, L where
  # the block has fewer: nothing is kept of those


def from_windows(
  prefill_fn: PrefillFn, window_fn: WindowFn, head_fn: HeadFn, vocab: int,
  width: int, before: bool = False, mask: int | None = None,
) -> Denoiser:
  """A denoiser with a KV cache, for samplers.blocks.

  After a commit a question computes `width` positions per row, and attends to
  the keys and values that all others had at the commit. Both sides of the
  window are remembered. That is approximate, since a bidirectional model's
  keys and values see the whole canvas, save (a) for a question about the
  committed canvas itself, whose answer is remembered and costs nothing, and
  (b) in a model of one layer. Without `blocks` nothing commits, and of a row
  whose block is longer than `width` nothing is remembered: its questions then
  compute the whole canvas.

  Args:
    prefill_fn: (tokens (N, L), valid (N, L)) -> features (N, L, D) and past,
      leaves (layers, N, L, ...).
    window_fn: (past, past_position (B, L), past_reach (N,), tokens (N, W),
      position (N, W)) -> features (N, W, D), and anything; see Decoder.window.
    head_fn: as in from_features.
    vocab: V.
    width: most open positions of a block.
    before: whether the position left of the block is computed too, for
      models whose output i - 1 predicts token i. A block with gaps has more
      such positions and may not fit.
    mask: see from_features.
  """
  whole = from_features(lambda *x: prefill_fn(*x)[0], head_fn, vocab, mask)
  own = functools.partial(show_mask, vocab, mask)

  def size(length):
    return min(width + before, length)

  def init(tokens, valid):
    like = jax.eval_shape(prefill_fn, tokens, valid)
    features, past = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    index = jnp.zeros((len(tokens), size(tokens.shape[1])), jnp.int32)
    ready = jnp.zeros(len(tokens), bool)
    cache = Window(ready, tokens, features, past, index)
    return whole.init(tokens, valid)._replace(cache=cache)

  def commit(memo, tokens, rows, open_):

    def fill(memo):
      features, past = prefill_fn(own(tokens), memo.valid)
      wanted = open_
      if before:  # the left neighbor of every run
        left = jnp.pad(open_, ((0, 0), (0, 1)))[:, 1:]
        wanted = wanted | (left & memo.valid)
      count, length = memo.cache.index.shape[1], tokens.shape[1]
      place = jnp.sort(jnp.where(wanted, jnp.arange(length), length))
      new = Window(
        wanted.sum(-1) <= count, tokens, features, past, place[:, :count]
      )
      old = memo.cache
      keep = functools.partial(pick_rows, rows)
      cache = keep(new._replace(past=()), old._replace(past=()))._replace(
        past=jax.tree.map(functools.partial(_pick, rows), new.past, old.past)
      )
      meter = charge(memo.meter, tokens.shape, rows)
      return memo._replace(meter=meter, cache=cache)

    return jax.lax.cond(rows.any(), fill, lambda memo: memo, memo)

  def ask(memo, tokens, rows):
    cache, valid = memo.cache, memo.valid
    probes = tokens.shape[1:-1]
    each = lambda x: _repeat(x, math.prod(probes))
    flat = tokens.reshape(-1, tokens.shape[-1])
    index = each(cache.index)

    def compute():
      take = lambda x: jnp.take_along_axis(x, index, -1, mode='clip')
      put = jax.vmap(lambda all_, i, some: all_.at[i].set(some, mode='drop'))
      real = index < valid.shape[1]
      # Of the past all is seen that is valid and not asked about.
      hidden = put(~valid, cache.index, jnp.ones(cache.index.shape, bool))
      position = each(jnp.cumsum(valid, -1, dtype=jnp.int32) - 1)
      told, _ = window_fn(
        cache.past, jnp.where(hidden, FAR, 0),
        jnp.zeros(len(flat), jnp.int32), take(own(flat)),
        jnp.where(real, take(position), FAR),
      )
      features = put(each(cache.features), index, told)
      features = features.reshape(tokens.shape + features.shape[-1:])
      return jnp.where(some[..., None, None], features, remembered())

    def remembered():
      spread = each(cache.features)
      return spread.reshape(tokens.shape + spread.shape[-1:])

    # A row never depends on what others in its batch can remember.
    ready = cache.ready.reshape((-1,) + (1,) * len(probes))
    said = (flat != each(cache.tokens)).any(-1).reshape(rows.shape)
    some, others = rows & ready & said, rows & ~ready
    features = jax.lax.cond(some.any(), compute, remembered)
    features = jax.lax.cond(
      others.any(),
      lambda: jnp.where(
        ready[..., None, None], features,
        whole.ask(memo, tokens, rows)[1].features,
      ),
      lambda: features,
    )
    meter = charge(memo.meter, tokens.shape[:-1] + index.shape[-1:], some)
    meter = charge(meter, tokens.shape, others)
    ran = math.prod(probes) * (some.any() + others.any().astype(jnp.int32))
    meter = meter._replace(forwards=memo.meter.forwards + ran)
    return memo._replace(meter=meter), Answer(features)

  return Denoiser(vocab, init, ask, whole.read, commit, mask=mask)


def _repeat(x, times):
  """x with each row repeated for its probes."""
  return x if times == 1 else jnp.repeat(x, times, 0)


def _pick(rows, new, old):
  """pick_rows for leaves (layers, B, ...)."""
  return jnp.where(rows.reshape((1, -1) + (1,) * (new.ndim - 2)), new, old)
