"""From features to numbers per position, in chunks of positions.

Log-probabilities of a whole canvas, (B, L, V) float32, are 0.5 GB per row at
L = 1024 and V = 126,464. So only the positions that are asked about are read,
a chunk at a time, and each chunk is reduced over the vocabulary at once. How
many chunks there are is known only at run time.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import scores
from punt_jax.types import Array, Denoiser, DraftDistribution, Tree

BLOCKS = 512  # of the vocabulary, to draw from it in two levels
COLD = 1e-9  # below this temperature float32 knows ties and the argmax alone
DIVERGENCES = {'kl': scores.kl, 'jsd': scores.jsd, 'tv': scores.tv}


class Summary(NamedTuple):
  """What a rule may know of a position; (B, L), 0 where not asked."""

  drafts: Array
  draft_logp: Array
  draft_score: Array
  confidence: Array
  margin: Array
  entropy: Array


def summarize(
  model: Denoiser, features: Array, asked: Array, uniforms: Array
) -> Summary:
  """Draws a draft at every asked position and measures its distribution.

  Args:
    model: Denoiser; its `drafts` says how drafts are drawn.
    features: (B, L, D).
    asked: (B, L) bool.
    uniforms: (B, L) in [0, 1), one per draw.
  """

  def reduce(features, uniform):
    raw = model.read(features)
    warm = _warm_logp(model.drafts, raw)
    dist = _cooled(model.drafts, raw, warm)
    judged = warm if model.drafts.judged else raw
    drafts = _draw(dist, uniform)
    return Summary(
      drafts,
      scores.log_prob(dist, drafts),
      scores.log_prob(judged, drafts),
      scores.confidence(judged),
      scores.margin(judged),
      scores.entropy(judged),
    )

  return in_chunks(reduce, asked, model.vocab, features, uniforms)


def divergence(
  model: Denoiser, before: Array, after: Array, asked: Array, kind: str = 'kl'
) -> Array:
  """How far the prediction moved, (B, L) float32, 0 where not asked.

  Args:
    model: Denoiser.
    before: (B, L, D) features.
    after: (B, L, D) features.
    asked: (B, L) bool.
    kind: 'kl' of before || after in nats, 'jsd' in nats, or 'tv'.
  """

  def reduce(before, after):
    p, q = model.read(before), model.read(after)
    if model.drafts.judged:
      p, q = _warm_logp(model.drafts, p), _warm_logp(model.drafts, q)
    return DIVERGENCES[kind](p, q)

  return in_chunks(reduce, asked, model.vocab, before, after)


class Verdict(NamedTuple):
  """What speculative decoding decides of a draft; (B, L)."""

  kept: Array  # bool
  tokens: Array  # the draft if kept, else what takes its place
  logp: Array  # log-probability of `tokens` under the target


def verify(
  model: Denoiser, before: Array, after: Array, drafts: Array, asked: Array,
  accept: Array, correct: Array,
) -> Verdict:
  """Turns drafts from one distribution into draws from another.

  Keeps y ~ q with probability min(1, p(y) / q(y)), else draws from max(p - q,
  0): the result has the distribution p (Leviathan et al.
  https://arxiv.org/abs/2211.17192, Chen et al.
  https://arxiv.org/abs/2302.01318). p and q are the draft distributions of
  `after` and `before`.

  Args:
    model: Denoiser.
    before: (B, L, D) features the drafts were drawn from.
    after: (B, L, D) features of the target.
    drafts: (B, L) int32.
    asked: (B, L) bool.
    accept: (B, L) uniforms in [0, 1).
    correct: (B, L) uniforms in [0, 1).
  """

  def reduce(before, after, draft, accept, correct):
    q, p = (_draft_logp(model.drafts, model.read(f)) for f in (before, after))
    ratio = jnp.exp(scores.log_prob(p, draft) - scores.log_prob(q, draft))
    rest = jnp.log(jnp.maximum(jnp.exp(p) - jnp.exp(q), 0.0))
    # Equal distributions may differ by a rounding: then nothing is left.
    kept = (accept < ratio) | (rest == -jnp.inf).all(-1)
    token = jnp.where(kept, draft, _draw(rest, correct))
    return Verdict(kept, token, scores.log_prob(p, token))

  return in_chunks(
    reduce, asked, model.vocab, before, after, drafts, accept, correct
  )


def gumbel_drafts(
  model: Denoiser, asked: Array, keys: Array, features: Tree
) -> tuple[Array, Array]:
  """Draws by argmax(log p + Gumbel noise), so that two models can share noise.

  Costs V random numbers a position, unlike `summarize`.

  Args:
    model: Denoiser; its `drafts` says how drafts are drawn.
    asked: (B, L) bool.
    keys: (B, L) a key per position.
    features: (B, L, ...) tree, what model.read takes.

  Returns:
    tokens (B, L) int32 and their log-probabilities (B, L).
  """

  def reduce(keys, features):
    logp = _draft_logp(model.drafts, model.read(features))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (model.vocab,)))(keys)
    token = (logp + noise).argmax(-1).astype(jnp.int32)
    return token, scores.log_prob(logp, token)

  return in_chunks(reduce, asked, model.vocab, keys, features)


def log_prob(
  model: Denoiser, features: Array, tokens: Array, asked: Array
) -> Array:
  """Log-probability (B, L) of the tokens (B, L), as judged; 0 if not asked."""

  def reduce(features, token):
    logp = model.read(features)
    if model.drafts.judged:
      logp = _warm_logp(model.drafts, logp)
    return scores.log_prob(logp, token)

  return in_chunks(reduce, asked, model.vocab, features, tokens)


def in_chunks(
  reduce: Callable[..., Tree], asked: Array, vocab: int, *inputs: Tree
) -> Tree:
  """Reads the asked positions a chunk at a time.

  Args:
    reduce: trees of (N, ...) like the inputs -> tree of (N,).
    asked: (B, L) bool.
    vocab: V, which bounds how many positions are a chunk.
    *inputs: trees of (B, L, ...).

  Returns:
    tree of (B, L), 0 where not asked.
  """
  shape, total = asked.shape, asked.size
  flat = jax.tree.map(lambda x: x.reshape((total,) + x.shape[2:]), inputs)
  keep = lambda x: jnp.where(asked, x.reshape(shape), jnp.zeros_like(x[0]))
  chunk = chunk_size(vocab, total)
  if chunk == total:
    return jax.tree.map(keep, reduce(*flat))

  order = jnp.argsort(~asked.reshape(-1))  # asked first, stable
  padded = -(-total // chunk) * chunk
  index = jnp.zeros((padded,), jnp.int32).at[:total].set(order)

  def body(i, out):
    here = jax.lax.dynamic_slice(index, (i * chunk,), (chunk,))
    part = reduce(*jax.tree.map(lambda x: x[here], flat))
    put = lambda o, p: jax.lax.dynamic_update_slice(o, p, (i * chunk,))
    return jax.tree.map(put, out, part)

  like = jax.eval_shape(reduce, *jax.tree.map(lambda x: x[:chunk], flat))
  out = jax.tree.map(lambda x: jnp.zeros((padded,), x.dtype), like)
  trips = (asked.sum() + chunk - 1) // chunk
  out = jax.lax.fori_loop(0, trips, body, out)
  back = jnp.argsort(order)
  return jax.tree.map(lambda x: keep(x[back]), out)


def chunk_size(vocab: int, total: int) -> int:
  """Positions read at a time, of `total` in the batch.

  Small chunks waste little when few positions are asked about; large ones
  read the head's weights less often. So a share of the batch, within bounds.
  """
  if jax.default_backend() == 'cpu':
    return min(total, max(min(max(32, total // 8), 64), 2**19 // vocab))
  return min(total, max(256, 2**25 // vocab))


def _draft_logp(dist: DraftDistribution, logp):
  """The normalized log-probabilities (..., V) that drafts are drawn from."""
  return _cooled(dist, logp, _warm_logp(dist, logp))


def _warm_logp(dist, logp):
  """_draft_logp, at temperature 0 before the argmax: of temperature 1."""
  if dist.bias is not None:
    logp = logp + dist.bias
  if dist.temperature is not None:
    logp = _tempered(logp, jnp.asarray(dist.temperature, jnp.float32))
  if dist.bias is not None or dist.temperature is not None:
    logp = jax.nn.log_softmax(logp)
  if dist.top_p is not None:
    logp = jax.nn.log_softmax(_nucleus(logp, dist.top_p))
  return logp


def _cooled(dist, logp, warm):
  """_draft_logp of logp, whose _warm_logp is known. NaN stays: not silent."""
  if dist.temperature is None:
    return warm
  logp = logp if dist.bias is None else logp + dist.bias
  cold = jnp.asarray(dist.temperature, jnp.float32) < COLD
  greedy = jnp.where(_is_argmax(logp), 0.0, -jnp.inf)
  return jnp.where(cold & ~jnp.isnan(warm), greedy, warm)


def _tempered(logp, heat):
  """logp / heat up to a constant; NaN where either is, or heat is negative."""
  # The largest is 0 before it is divided. A quotient of some 1e9 is rounded,
  # and a compiler that fuses the maximum's subtraction with it rounds once.
  below = logp - logp.max(-1, keepdims=True)
  warm = below / jnp.where(heat < COLD, 1.0, heat)
  warm = jnp.where(jnp.isneginf(below), below, warm)  # -inf / inf
  return warm + jnp.where(heat >= 0, 0.0, jnp.nan)


def _is_argmax(x):
  """One-hot argmax over V; two plain reductions, which CPUs vectorize."""
  vocab = x.shape[-1]
  place = jnp.arange(vocab)
  best = x.max(-1, keepdims=True)
  first = jnp.where(x == best, place, vocab).min(-1, keepdims=True)
  return place == first


def _nucleus(logp, top_p):
  """Cuts to the fewest most likely tokens with mass >= top_p; ties stay.

  Bisects the bits of the smallest kept probability (positive floats sort like
  integers): 31 sums over V, where a sort of 126,464 tokens costs far more.
  """
  p = jnp.exp(logp)
  least = 1e-20  # always keeps the most likely token; of any V above 0
  goal = jnp.clip(jnp.asarray(top_p, jnp.float32), least, 1.0) * p.sum(-1)
  mass = lambda level: jnp.where(p >= level[..., None], p, 0.0).sum(-1)

  def body(i, bits):
    trial = bits | (1 << (30 - i))
    level = jax.lax.bitcast_convert_type(trial, jnp.float32)
    return jnp.where(mass(level) >= goal, trial, bits)

  zero = jnp.zeros(p.shape[:-1], jnp.int32)
  level = jax.lax.bitcast_convert_type(
    jax.lax.fori_loop(0, 31, body, zero), jnp.float32
  )
  kept = jnp.where(p >= level[..., None], logp, -jnp.inf)
  return kept + jnp.where(jnp.isnan(top_p), jnp.nan, 0.0)


def _draw(logp, uniform):
  """Inverse CDF in two levels, (N, V), (N,) -> (N,) int32.

  First the block of the vocabulary, then the token in it: one uniform per
  position, where Gumbel noise over V would cost several forward passes.
  BLOCKS is a power of two, so devices that split V hold whole blocks.
  """
  vocab = logp.shape[-1]
  width = vocab if vocab <= 1024 else -(-vocab // BLOCKS)
  p = jnp.pad(jnp.exp(logp), ((0, 0), (0, -vocab % width)))
  blocks = p.reshape(p.shape[0], -1, width)
  mass = jnp.cumsum(blocks.sum(-1), -1)
  target = uniform * mass.max(-1)  # the last one, wherever it is
  block = _first_above(mass, target)
  start = jnp.where(block > 0, _take(mass, block - 1), 0.0)
  inside = jnp.take_along_axis(blocks, block[:, None, None], 1)[:, 0]
  token = _first_above(jnp.cumsum(inside, -1), target - start, inside)
  return (block * width + token).astype(jnp.int32)


def _first_above(cumulative, target, p=None):
  """First index whose cumulative sum exceeds target: it has p > 0.

  Rounding can leave none; then the most likely one of p, or the last index.
  """
  above = cumulative > target[:, None]
  last = cumulative.shape[-1] - 1 if p is None else p.argmax(-1)
  return jnp.where(above.any(-1), above.argmax(-1), last)


def _take(x, index):
  return jnp.take_along_axis(x, jnp.maximum(index, 0)[:, None], -1)[:, 0]
