"""Choosing positions of one row (L,) by order: the words rules are made of."""

import jax
import jax.numpy as jnp

from punt_jax import contract
from punt_jax.checks import in_range, known
from punt_jax.types import (
  Array,
  ArrayLike,
  CountFn,
  RuleFn,
  Scalar,
  ScoreFn,
  View,
)

# The orders a user can name: a View -> (L,), larger is written earlier.
SCORES = {
  'confidence': lambda view: view.confidence,
  'entropy': lambda view: -view.entropy,
  'margin': lambda view: view.margin,
  'draft': lambda view: view.draft_score,
  'left_to_right': lambda view: -view.position,
}


def score_fn(score: str | ScoreFn) -> ScoreFn:
  """The order called `score`, or `score` itself if it is a function.

  Args:
    score: 'confidence' (largest probability), 'entropy' (least first), 'margin'
      (largest minus second), 'draft' (log-probability of the drawn token) or
      'left_to_right', or a function View -> (L,). 'draft' looks at the drafts
      and thereby bends the distribution of the samples.

  Raises:
    ValueError: an unknown name; while it is traced, a function that returns
      anything else.
  """
  if not callable(score):
    return SCORES[known('score', score, SCORES)]

  def checked(view):
    what, shape = f'the score {contract.name_of(score)}', view.masked.shape
    return contract.array(what, score(view), shape, jnp.number)

  return checked


def eos_last(score: str | ScoreFn, eos: ArrayLike) -> ScoreFn:
  """The order `score`, with positions whose draft is `eos` behind all others.

  A long tail of sure EOS would be written, or be PUNT's anchors, before the
  text. Behind all others it is written last by samplers that take the best;
  PUNT's bits make anchors of all ranks, so it needs `eos_waits` as well.
  Looks at the drafts.

  Args:
    score: see score_fn.
    eos: token id, or several.
  """
  order = score_fn(score)
  return lambda view: jnp.where(_is_eos(view, eos), -jnp.inf, order(view))


def eos_waits(eos: ArrayLike) -> RuleFn:
  """For punt(admit=): EOS is no candidate until all to its left is written.

  So it is neither written nor an anchor before. The leftmost masked position
  is always admitted. Around it goes samplers.stop, or a tail of n EOS takes n
  steps. Looks at the drafts.

  Args:
    eos: token id, or several.

  Returns:
    rule (key, View) -> (L,) bool.
  """

  def admit(key, view):
    del key
    first = jnp.cumsum(view.masked) == 1  # and what is written after it
    return view.masked & (first | ~_is_eos(view, eos))

  return admit


def _is_eos(view, eos):
  return jnp.isin(view.drafts, jnp.asarray(eos))


def attention(view: View) -> Array:
  """The attention (K, L, L) of a View.

  Raises:
    ValueError: the model gives none.
  """
  if isinstance(view.extra, tuple):
    raise ValueError(
      'this sampler reads attention and the model gives none: build it with'
      ' models.denoiser(module, params, attention=True), or give Answer.extra'
    )
  return view.extra


def rank(score: Array, masked: Array) -> Array:
  """Rank (L,) int32 of every position: masked ones first, best score first.

  Ties go to the earlier position. `score` is compared in float32: in bfloat16
  confidences near 1 tie by the dozen. A NaN is in no order: where a masked
  position has one, all ranks are L, and a rule chooses nothing.
  """
  score = score.astype(jnp.float32)
  order = jnp.lexsort((-score, ~masked))
  broken = (jnp.isnan(score) & masked).any()
  ranks = jnp.argsort(order).astype(jnp.int32)
  return jnp.where(broken, jnp.int32(score.size), ranks)


def by_rank(value: Array, rank: Array) -> Array:
  """value (L,) in the order of rank (L,)."""
  return value[jnp.argsort(rank)]


def prefix(good: Array, masked: Array) -> Array:
  """Length of the longest all-true prefix of good (L,), within [1, masked]."""
  length = jnp.cumprod(good.astype(jnp.int32)).sum()
  return jnp.clip(length, 1, jnp.maximum(masked.sum(), 1))


def act(action: Array, score: Array, masked: Array, last: Array) -> Array:
  """What a policy's action writes, (L,) bool; never nothing.

  Args:
    action: (L,) bool; an empty one falls back to the position of best score.
    score: (L,).
    masked: (L,) bool.
    last: () bool: no step comes after this one, so all is written.
  """
  chosen = action & masked
  best = (rank(score, masked) == 0) & masked
  return jnp.where(last, masked, jnp.where(chosen.any(), chosen, best))


def thin(weight: Array, limit: Scalar, rank: Array, candidates: Array) -> Array:
  """Walks through the candidates, best rank first, and takes those that fit.

  Args:
    weight: (L, L): weight[i, j] is what i costs j if i was taken before.
    limit: j is taken if all that were taken before cost it at most this.
    rank: (L,) int32, candidates first; the first one is always taken. None is
      where it is L, see `rank`.
    candidates: (L,) bool.

  Returns:
    (L,) bool.
  """
  order = jnp.argsort(rank)
  candidates = candidates & (rank < rank.size)

  def take(r, state):
    taken, cost = state
    j = order[r]
    fits = (cost[j] <= limit) | (r == 0)
    return taken.at[j].set(fits), cost + jnp.where(fits, weight[j], 0.0)

  start = jnp.zeros_like(candidates), jnp.zeros(candidates.shape)
  return jax.lax.fori_loop(0, candidates.sum(), take, start)[0]


def best(k: Scalar | CountFn, score: str | ScoreFn) -> RuleFn:
  """The rule (key, View) -> (L,) bool that takes the k best masked positions.

  Args:
    k: at least 1, or a count schedule (punt_jax.schedules).
    score: see score_fn.

  Raises:
    ValueError: k < 1 or NaN, or an unknown score.
  """
  check_count(k)
  order = score_fn(score)

  def rule(key, view):
    del key
    return rank(order(view), view.masked) < count_of(k, view)

  return rule


def check_count(k: Scalar | CountFn) -> None:
  """Raises ValueError if k is a number below 1, or none, and no schedule."""
  if not callable(k):
    in_range('k', k, 1)


def count_of(k: Scalar | CountFn, view: View) -> Array:
  """How many positions a step writes: k or k(step, total, left), at least 1.

  A fractional count is rounded down.
  """
  left = view.masked.sum()
  count = k
  if callable(k):
    what = f'the schedule {contract.name_of(k)}'
    count = contract.number(what, k(view.step, view.total, left))
  return jnp.maximum(jnp.floor(jnp.asarray(count, jnp.float32)), 1.0)
