"""Influence: PUNT's question, answered beforehand by a table.

PUNT (Azangulov et al. https://arxiv.org/abs/2510.21961) asks in every step
whether the drafts of some positions move the prediction at others. Here the
answers are learned once: a table says how far, on average, revealing position i
moves position j. A step then needs no test, only the table. One pass per step,
and a warm-up:

  1. `explore` decodes some rows one by one in random order. Each of its forward
     passes shows one position more than the last, so it probes one position
     while it writes an exact sample.
  2. `fit_influence` turns what it (or PUNT) recorded into a table.
  3. `influence` writes as many positions as do not move each other.

DEMASK (Ringel et al. https://arxiv.org/abs/2604.02560) predicts the same
influence with a trained head on hidden states; a table needs no training, but
its positions, or their distances, must mean the same in every row. A head can
stand in a table's place: train/orders/pairs.py trains one on PUNT's own probes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, contract, readout, rows, select
from punt_jax.sampler import any_of, from_rule, look, no_features, reveal
from punt_jax.types import (
  Array,
  ArrayLike,
  InfluenceFn,
  RuleFn,
  Sampler,
  Scalar,
  ScoreFn,
  Traits,
)

MOST = 100.0  # nats; stands for infinity, where a support shrank


class Probes(NamedTuple):
  """What happened when drafts were revealed; leading axes as they come."""

  shown: Array  # (..., L) bool: revealed together
  moved: Array  # (..., L) nats: KL(before || after); NaN where not compared


def influence(
  table: ArrayLike | InfluenceFn, kappa: Scalar,
  score: str | ScoreFn = 'entropy',
) -> Sampler:
  """Writes the positions that `thin` admits.

  Args:
    table: see `thin`.
    kappa: see `thin`; with kappa < 0 one position a step.
    score: order of the positions, see select.score_fn.

  Raises:
    ValueError: an unknown score, or kappa is NaN.
  """
  return from_rule(thin(table, kappa, score), exact=dict(kappa=-1.0))


def thin(
  table: ArrayLike | InfluenceFn, kappa: Scalar,
  score: str | ScoreFn = 'entropy',
) -> RuleFn:
  """A rule (for from_rule, or PUNT's `admit`): what moves little.

  In order of score, a masked position is admitted while the influence on it of
  those admitted before sums to at most kappa. The influence of i on j is the
  table's, but no more than the entropy of either: a mutual information never
  is, so sure positions neither disturb nor are disturbed. A function knows the
  canvas, and what it says counts as it is.

  Args:
    table: (L, L) nats, or larger; table[i, j]: how far revealing position i
      moves position j, both counted among the valid positions. Or a function
      View -> (L, L) that predicts it for each canvas (models.orders.pairs).
    kappa: nats per position and step.
    score: order of the positions, see select.score_fn.

  Raises:
    ValueError: an unknown score, or NaN in kappa or the table; while it is
      traced, a table smaller than the canvas, or a function's of another shape.
  """
  checks.in_range('kappa', kappa)
  if not callable(table):
    checks.in_range('the table of influence', table, shape=None)
  order = select.score_fn(score)

  def rule(key, view):
    del key
    here = view.position
    if callable(table):
      what = f'the influence {contract.name_of(table)}'
      weight = contract.array(what, table(view), 2 * here.shape)
    else:
      weight = jnp.asarray(table, jnp.float32)
      if weight.ndim != 2 or min(weight.shape) < here.size:
        raise ValueError(
          f'a table of influence {weight.shape} for a canvas of {here.size}'
          ' positions: learn one for that length'
        )
      weight = weight[here[:, None], here]
      sure = jnp.minimum(view.entropy[:, None], view.entropy)
      weight = jnp.minimum(weight, sure)
    pairs = view.masked[:, None] & view.masked
    broken = (jnp.isnan(weight) & pairs).any()
    rank = select.rank(order(view), view.masked)
    return select.thin(weight, kappa, rank, view.masked & ~broken)

  return rule


def explore() -> Sampler:
  """One by one in uniformly random order, recording: Move.info is Probes.

  Step t compares with step t - 1, so a film of it has L - 1 probes per row
  and no pass more than the sampling itself. The carry holds features (B, L, D).
  """

  def init(keys, canvas, model):
    del keys
    return no_features(canvas, model), jnp.zeros_like(canvas.masked)

  def step(keys, t, canvas, carry, memo, model):
    before, shown = carry
    memo, answer, view = look(keys, t, canvas, memo, model)
    tests = canvas.masked & shown.any(-1, keepdims=True)
    moved = readout.divergence(model, before, answer.features, tests)
    info = Probes(shown, jnp.where(tests, moved, jnp.nan))
    kept = jax.vmap(any_of, (0, 0, 0, None))(
      rows.named(keys, 'rule'), view.position, canvas.masked, 1
    )
    move = reveal(canvas, view, kept, info)
    return move, (answer.features, kept), memo

  return Sampler(init, step, Traits(exact={}))


def fit_influence(
  probes: Probes, alike: ArrayLike | None = None, iterations: int = 300
) -> np.ndarray:
  """The table (L, L) float32 that explains recorded probes best.

  Non-negative least squares of moved[j] ~ sum over shown i of table[i, j], by
  multiplicative updates (Lee and Seung, NIPS 2000); with one position shown
  at a time, the mean. More than 100 nats count as 100. On the host, in float64.

  Args:
    probes: of `explore`, or of PUNT: Probes(info.shown, info.divergence); of
      canvases without padding on the left.
    alike: (L, L) integers >= 0; pairs with the same number share a weight, such
      as abs(i - j) where rows differ but distances mean the same. None: every
      pair has its own.
    iterations: of the fit, at most.

  Returns:
    table[i, j] in nats; pairs that were never probed get the mean of those
    that were, and the diagonal 0.

  Raises:
    ValueError: nothing was recorded.
  """
  length = probes.shown.shape[-1]
  shown = np.asarray(probes.shown, np.float64).reshape(-1, length)
  moved = np.asarray(probes.moved, np.float64).reshape(-1, length)
  moved = np.minimum(moved, MOST)  # NaN stays
  tested = ~np.isnan(moved) & shown.any(-1, keepdims=True)
  asked = tested.any(-1)
  shown, moved, tested = shown[asked], moved[asked], tested[asked]
  if not asked.any():
    raise ValueError(
      'no probe was recorded: film `explore` or `punt` for several steps and'
      ' pass all of Move.info'
    )
  if alike is None:
    alike = np.arange(length**2).reshape(length, length)
  pairs = np.asarray(alike)
  shared = lambda x: np.bincount(pairs.ravel(), x.ravel())
  found = shared(shown.T @ np.where(tested, moved, 0.0))
  probed = shared(shown.T @ tested.astype(np.float64)) > 0
  weight = probed.astype(np.float64)
  for _ in range(iterations):
    explained = shared(shown.T @ np.where(tested, shown @ weight[pairs], 0.0))
    better = weight * found / np.where(explained > 0, explained, 1.0)
    done = np.abs(better - weight).max() < 1e-6
    weight = better
    if done:
      break
  weight = np.where(probed, weight, weight[probed].mean())
  table = weight[pairs].astype(np.float32)
  np.fill_diagonal(table, 0.0)
  return table
