"""Models that are causal over blocks, and their exact KV cache.

BD3-LM (Arriola et al. https://arxiv.org/abs/2503.09573), as in SDAR, LLaDA2 and
Fast-dLLM v2 (https://arxiv.org/abs/2509.26328): a position sees its own block
and those before it, so nothing that is written later changes the keys and
values of a finished block. They are computed once, a block at a time, and a
question computes the positions of one block alone. Unlike kv_cache.py nothing
is approximate. For samplers.blocks, which calls `Windows.fill` when a block
begins; any other sampler computes whole canvases.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, contract
from punt_jax.denoiser import charge, from_features, show_mask
from punt_jax.places import indices, positions, put, take
from punt_jax.rows import pick_rows
from punt_jax.types import (
  FAR,
  Answer,
  Array,
  Denoiser,
  HeadFn,
  Tree,
  WindowFn,
  Windows,
)

WIDE = 256  # positions of a forward pass that fills the cache, at most


class Cache(NamedTuple):
  """What a model remembers of a run."""

  origin: Array  # (B,) int32: a position at which a block begins
  filled: Array  # (B,) int32: positions before this one are remembered
  last: Array | tuple[()]  # (B, D) features of the last one; () unless shifted
  past: Tree  # leaves (layers, B, S, ...), a slot for each position; without a
  # cache the canvas (B, L) that was last told


class Network(NamedTuple):
  """A network and how it is asked; see from_blocks."""

  window: WindowFn
  vocab: int
  mask: int | None
  length: int
  causal: bool
  anchored: bool
  shifted: bool


def from_blocks(
  window_fn: WindowFn, head_fn: HeadFn, vocab: int, length: int, *,
  causal: bool = False, anchored: bool = False, shifted: bool = False,
  mask: int | None = None, cached: bool = True,
) -> Denoiser:
  """A denoiser from a network that is causal over blocks.

  Within samplers.blocks(inner, length) a question computes `length` positions
  of a row, and the end of a block one more pass of that block. Other samplers
  ask about whole canvases.

  Args:
    window_fn: the network, see WindowFn.
    head_fn: as in from_features.
    vocab: V.
    length: positions of a block.
    causal: whether the prompt and finished blocks are causal token by token,
      and a block sees itself both ways only while it has masks (Nemotron).
    anchored: whether blocks are counted from the first MASK of the run; else
      from the first position of the row, so that the prompt has some, too.
    shifted: whether output i - 1 predicts token i (Fast-dLLM v2). The first
      position of the row keeps its own.
    mask: see from_features.
    cached: False computes whole canvases in every question, with the same
      answers.

  Raises:
    ValueError: see from_features; a length that is no whole number >= 1.
  """
  length = checks.whole('block length', length, 1)
  net = Network(window_fn, vocab, mask, length, causal, anchored, shifted)
  checks.function('the network', window_fn)
  bare = lambda tokens, valid: _bare(net, tokens)[0]
  whole = from_features(bare, head_fn, vocab, mask)

  def init(tokens, valid):
    memo = whole.init(tokens, valid)
    return memo._replace(cache=_empty(net, tokens, valid, cached))

  def ask(memo, tokens, rows):
    return _ask_whole(net, memo, tokens, rows, memo.cache.origin)

  windows = Windows(
    length, anchored,
    functools.partial(_fill if cached else _note, net),
    functools.partial(_ask_block if cached else _ask_around, net),
  )
  return whole._replace(init=init, ask=ask, windows=windows)


def _empty(net, tokens, valid, cached):
  """The Cache of a run that begins."""
  zero = jnp.zeros(tokens.shape[:1], jnp.int32)
  origin = zero
  if net.anchored:
    position = positions(valid)
    masked = valid & (tokens == net.vocab)
    first = jnp.where(masked, position, FAR).min(-1)
    origin = jnp.where(masked.any(-1), first, 0)
  if not cached:
    return Cache(origin, zero, (), tokens)
  slots = -(-tokens.shape[1] // net.length) * net.length
  like = jax.eval_shape(
    lambda tokens: _bare(net, tokens),
    jax.ShapeDtypeStruct((len(tokens), slots), jnp.int32),
  )
  zeros = lambda x: jnp.zeros(x.shape, x.dtype)
  features, past = jax.tree.map(zeros, like)
  return Cache(origin, zero, features[:, 0] if net.shifted else (), past)


def _bare(net, tokens):
  """For shapes: what the network says of a row without a past."""
  return _run(net, None, None, None, tokens, tokens, None)


def _run(net, *args):
  """What the network says, its features checked; args as in WindowFn."""
  tokens = args[3]
  shown = show_mask(net.vocab, net.mask, tokens)
  features, own = net.window(*args[:3], shown, *args[4:])
  name = contract.name_of(net.window)
  return contract.array(name, features, tokens.shape, least=1), own


def _ask_whole(net, memo, tokens, rows, origin, start=None):
  """Asks about tokens (B, ..., L); start (B,): of the block that counts.

  With `causal` this one sees itself whole, or, None, all that hold a MASK.
  """
  flat = tokens.reshape(-1, tokens.shape[-1])
  each = lambda x: _repeat(x, len(flat) // len(tokens))
  position = each(jnp.where(memo.valid, positions(memo.valid), FAR))
  rest = each(origin % net.length)[:, None]
  block = (position - rest) // net.length  # -1 at least
  reach = rest + (block + 1) * net.length - 1
  if net.causal:
    if start is None:
      masked = (flat == net.vocab) & (position < FAR)
      own = jax.vmap(_with_masks)(block + 1, masked)
    else:
      own = block == (each(start)[:, None] - rest) // net.length
    reach = jnp.where(own, reach, position)
  features, _ = _run(net, None, None, None, flat, position, reach)
  if net.shifted:
    before = jnp.concatenate([features[:, :1], features[:, :-1]], 1)
    features = jnp.where((position == 0)[..., None], features, before)
  features = features.reshape(tokens.shape + features.shape[-1:])
  meter = charge(memo.meter, tokens.shape, rows)
  return memo._replace(meter=meter), Answer(features)


def _with_masks(block, masked):
  """(L,) bool: whether the block (L,) of a position holds a MASK."""
  holds = jnp.zeros(block.size + 2, bool).at[block].max(masked, mode='drop')
  return holds.at[block].get(mode='clip')


# Without a cache: `fill` notes the canvas, a question computes it.


def _note(net, memo, tokens, start, rows):
  del net, start
  kept = pick_rows(rows, tokens, memo.cache.past)
  return memo._replace(cache=memo.cache._replace(past=kept))


def _ask_around(net, memo, tokens, start, rows):
  index = indices(memo.valid, start, net.length)
  canvas = memo.cache.past
  canvas = canvas.reshape(len(canvas), *(1,) * (tokens.ndim - 2), -1)
  canvas = jnp.broadcast_to(canvas, tokens.shape[:-1] + canvas.shape[-1:])
  canvas = put(canvas, index, tokens)
  memo, answer = _ask_whole(net, memo, canvas, rows, start, start)
  return memo, Answer(take(answer.features, index, tokens.ndim - 1))


# With a cache.


def _fill(net, memo, tokens, start, rows):
  slots = jax.tree.leaves(memo.cache.past)[0].shape[2]
  wide = min(WIDE // net.length * net.length, slots)
  if wide > net.length:
    memo = _fill_by(net, wide, net.length, memo, tokens, start, rows)
  return _fill_by(net, net.length, 0, memo, tokens, start, rows)


def _fill_by(net, width, over, memo, tokens, start, rows):
  """Computes `width` positions at a time while a row lacks more than `over`."""
  more = lambda memo: (_behind(net, memo, start, rows) > over).any()
  step = lambda memo: _fill_once(net, width, over, memo, tokens, start, rows)
  return jax.lax.while_loop(more, step, memo)


def _behind(net, memo, start, rows):
  """(B,) positions of the blocks before `start` that are not remembered."""
  missing = start - memo.cache.filled
  return jnp.where(rows, -(-missing // net.length) * net.length, 0)


def _fill_once(net, width, over, memo, tokens, start, rows):
  """The next `width` positions of rows that lack more than `over`."""
  cache = memo.cache
  lacking = _behind(net, memo, start, rows)
  rows = lacking > over
  begin = start - lacking  # of a block: before 0 if the first is a part
  end = jnp.where(rows, jnp.minimum(start, begin + width), 0)
  place = jnp.arange(width, dtype=jnp.int32)
  position = begin[:, None] + place
  real = (position >= 0) & (position < end[:, None])
  reach = begin[:, None] + (place // net.length + 1) * net.length - 1
  reach = jnp.where(real, position if net.causal else reach, FAR)
  position = jnp.where(real, position, FAR)
  shown = take(tokens, indices(memo.valid, begin, width), fill=net.vocab)
  features, own = _run(
    net, cache.past, _slots(cache.past), begin - 1, shown, position, reach
  )
  line = jnp.arange(len(tokens))[:, None]
  write = lambda past, own: past.at[:, line, position].set(own, mode='drop')
  last = cache.last
  if net.shifted:  # what the last pass of a row finds stays
    found = take(features, (start - 1 - begin)[:, None])[:, 0]
    last = jnp.where(rows[:, None], found, last)
  return memo._replace(
    meter=charge(memo.meter, position.shape, rows),
    cache=cache._replace(
      filled=jnp.where(rows, end, cache.filled), last=last,
      past=jax.tree.map(write, cache.past, own),
    ),
  )


def _slots(past):
  """(B, S) int32: slots hold the positions in order."""
  batch, slots = jax.tree.leaves(past)[0].shape[1:3]
  return jnp.broadcast_to(jnp.arange(slots, dtype=jnp.int32), (batch, slots))


def _ask_block(net, memo, tokens, start, rows):
  cache = memo.cache
  flat = tokens.reshape(-1, net.length)
  each = lambda x: _repeat(x, len(flat) // len(tokens))
  position = start[:, None] + jnp.arange(net.length, dtype=jnp.int32)
  count = memo.valid.sum(-1, dtype=jnp.int32)
  position = jnp.where(position < count[:, None], position, FAR)
  seen = jnp.minimum(start, cache.filled) - 1
  # Always so, but a question then begins where `fill` has ended: on CPUs that
  # split the weights, sums of both would wait for each other.
  flat = jnp.where(each(cache.filled >= 0)[:, None], flat, net.vocab)
  features, _ = _run(
    net, cache.past, _slots(cache.past), each(seen), flat, each(position), None
  )
  if net.shifted:
    first = (each(start) > 0)[:, None]
    first = jnp.where(first, each(cache.last), features[:, 0])
    features = jnp.concatenate([first[:, None], features[:, :-1]], 1)
  features = features.reshape(tokens.shape + features.shape[-1:])
  meter = charge(memo.meter, tokens.shape, rows)
  return memo._replace(meter=meter), Answer(features)


def _repeat(x, times):
  """x with each row repeated for its probes."""
  return x if times == 1 else jnp.repeat(x, times, 0)
