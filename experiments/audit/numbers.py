"""PUNT's decisions where every conditional can be asked for.

Azangulov et al. (https://arxiv.org/abs/2510.21961) call tokens y of ranks
r_1 .. r_k, written in one step on the canvas x, contextually independent if
p_{r_i}(. | x, y_{r<i}) is p_{r_i}(. | x) for every i. What is missing is
measured, in nats, by

  delta_i = KL(p_{r_i}(. | x) || p_{r_i}(. | x, y_{r<i})),

0 for r_1, which is left out of every number here. With S for what a step
wrote and S_<j for its tokens of a better rank than j, all shares below are of

  joint_accept   tokens of S but the first: delta > epsilon, a false accept
  hidden_accept  the same tokens: delta > epsilon, though no token of S_<j
                 alone moves j by more than epsilon: what pairs cannot show
  pair_accept    pairs i before j of S: y_i alone moves j by more than epsilon,
                 KL(p_j(. | x) || p_j(. | x, y_i)) > epsilon
  false_reject   candidates that were not written: no token of S_<j alone, nor
                 all of them together, moves j by more than epsilon
  idle_reject    the same candidates: a false rejection, and no token of S that
                 is less sure, nor all of S together, moves j either
  rejected       candidates of every step but its first: not written

On impossible canvases nothing is counted. Standard errors are those of a
ratio, over rows.
"""

from typing import Any, NamedTuple

import numpy as np


class Film(NamedTuple):
  """B runs on empty canvases of L positions; S steps of R rounds."""

  tokens: Any  # (B, L) as they were finished
  when: Any  # (B, L) step that wrote the position
  log_q: Any  # (B,) nats
  rank: Any  # (S, B, L) of the candidates, 0 for the surest
  drafts: Any  # (S, B, L)
  shown: Any  # (S, B, R, L) bool
  tests: Any  # (S, B, R, L) bool


class Effects(NamedTuple):
  """How far what a step wrote moves its candidates, in nats."""

  revealed: Any  # (S, B) tokens on the canvas when the step began
  accepted: Any  # (S, B, L) bool: written, and not first
  rejected: Any  # (S, B, L) bool
  joint: Any  # (S, B, L) all surer tokens of the step; delta if accepted
  single: Any  # (S, B, L) the one of them that moves it most, alone
  anyone: Any  # (S, B, L) any tokens of the step, alone or all together
  pair: Any  # (B, L, L) token i alone moves j, in the step that wrote i
  pairs: Any  # (B, L, L) bool: i before j, both written in that step
  log_p: Any  # (B,) log-probability of the tokens, by the conditionals


def kl(before, after):
  """KL(before || after) over the last axis, of log-probabilities, float64."""
  before = np.asarray(before, np.float64)
  with np.errstate(invalid='ignore'):
    terms = np.exp(before) * (before - after)
  return np.maximum(np.where(before > -np.inf, terms, 0.0).sum(-1), 0.0)


def effects(film, conditionals, vocab):
  """Shows every written token to the others of its step -> Effects.

  Args:
    film: Film.
    conditionals: tokens (..., L) -> log-probabilities (..., L, V), and whether
      the canvas is possible, (...) bool; 2 L canvases per row are asked for.
    vocab: V, the id of MASK.
  """
  tokens, when = film.tokens, film.when
  batch, length = tokens.shape
  row, place = np.arange(batch)[:, None], np.arange(length)
  own = np.take_along_axis(film.rank, when[None], 0)[0]
  number = np.argsort(np.argsort(when * length + own, axis=1), axis=1)
  # after[:, n] is what is known once the first n tokens are written.
  shown = number[:, None] < place[:, None]  # (B, n, L)
  after, possible = conditionals(np.where(shown, tokens[:, None], vocab))
  begun = when[:, None] < when[:, :, None]  # (B, i, L), before i's step
  alone, _ = conditionals(
    np.where(begun | np.eye(length, dtype=bool), tokens[:, None], vocab)
  )
  pair = kl(after[row, begun.sum(-1)], alone)
  pair[:, place, place] = 0.0
  found = []
  for t, rank in enumerate(film.rank[: when.max() + 1]):
    first = (when < t).sum(1)
    written, open_ = when == t, when >= t
    others = written[:, :, None] & open_[:, None]
    surer = others & (rank[:, :, None] < rank[:, None])
    joined = first[:, None] + surer.sum(1)  # is j's number if it is written
    joined = np.where(open_, joined, 0)
    here = after[np.arange(batch), np.minimum(first, length - 1)]
    joint = kl(here, after[row, joined, place])
    last = np.minimum(first + written.sum(1), length - 1)
    every = kl(here, after[np.arange(batch), last])
    counted = surer.any(1) & possible[row, joined]
    found.append((
      first,
      counted & written,
      counted & ~written & possible[np.arange(batch), last][:, None],
      joint,
      np.where(surer, pair, 0.0).max(1),
      np.maximum(every, np.where(others, pair, 0.0).max(1)),
    ))
  together = when[:, :, None] == when[:, None]
  pairs = together & (own[:, :, None] < own[:, None])
  pairs &= possible[row, begun.sum(-1)][:, :, None]
  said = after[row, number, place]  # (B, L, V)
  log_p = np.take_along_axis(said, tokens[..., None], -1)[..., 0]
  return Effects(
    *map(np.stack, zip(*found, strict=True)), pair, pairs,
    log_p.sum(-1, dtype=np.float64),
  )


def ratio(name, hits, trials):
  """Share of hits (B,) in trials (B,), None without trials."""
  hits, trials = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
  total, count = trials.sum(), len(trials)
  if not total:
    return {name: None, f'{name}_error': None}
  share = hits.sum() / total
  spread = ((hits - share * trials) ** 2).sum() * count / max(count - 1, 1)
  return {name: float(share), f'{name}_error': float(spread**0.5 / total)}


def accepts(found, epsilon):
  """False accepts and rejections of Effects, see the top of this file."""
  per_row = lambda chosen: chosen.sum((0, 2))
  wrong = found.accepted & (found.joint > epsilon)
  alone = found.single > epsilon
  accepted, rejected = per_row(found.accepted), per_row(found.rejected)
  still = found.rejected & ~alone & (found.joint <= epsilon)
  idle = still & (found.anyone <= epsilon)
  moved = found.pairs & (found.pair > epsilon)
  return {
    **ratio('joint_accept', per_row(wrong), accepted),
    **ratio('hidden_accept', per_row(wrong & ~alone), accepted),
    **ratio('pair_accept', moved.sum((1, 2)), found.pairs.sum((1, 2))),
    **ratio('false_reject', per_row(still), rejected),
    **ratio('idle_reject', per_row(idle), rejected),
    **ratio('rejected', rejected, accepted + rejected),
  }


def deltas(found, epsilon, bins):
  """delta of the accepted, over all steps and by how much was revealed.

  Returns:
    quantiles of nats (None if infinite), `delta_mean` of the finite ones,
    `delta_infinite` share; the same in `bins`, a dict for each share of the
    canvas [low, high) that was revealed when a step began, if there are any;
    `delta_early` and `delta_late`, the means in either half.
  """
  length = found.joint.shape[2]
  share = (found.revealed / length)[:, :, None]
  everything = found.accepted & (share >= 0)
  edges = np.linspace(0, 1, bins + 1)
  parts = []
  for low, high in zip(edges[:-1], edges[1:], strict=True):
    inside = found.accepted & (share >= low) & (share < high)
    if inside.any():
      part = summary(found.joint, inside, epsilon)
      parts.append({'revealed': [float(low), float(high)], **part})
  halves = {}
  for name, half in (('early', share < 0.5), ('late', share >= 0.5)):
    halves |= mean(f'delta_{name}', found.joint, found.accepted & half)
  return {**summary(found.joint, everything, epsilon), **halves, 'bins': parts}


def summary(joint, chosen, epsilon):
  """Numbers about the chosen (S, B, L) of the deltas (S, B, L)."""
  values = joint[chosen]
  quantiles = (None,) * 3
  if values.size:
    found = np.quantile(values, (0.05, 0.5, 0.95), method='inverted_cdf')
    quantiles = [float(q) if np.isfinite(q) else None for q in found]
  count = chosen.sum((0, 2))
  infinite = (chosen & np.isinf(joint)).sum((0, 2))
  above = (chosen & (joint > epsilon)).sum((0, 2))
  return {
    **dict(zip(('q05', 'median', 'q95'), quantiles, strict=True)),
    **mean('delta_mean', joint, chosen),
    **ratio('delta_above', above, count),
    **ratio('delta_infinite', infinite, count),
    'count': int(count.sum()),
  }


def mean(name, joint, chosen):
  """Mean of the chosen deltas that are finite."""
  chosen = chosen & np.isfinite(joint)
  return ratio(
    name, np.where(chosen, joint, 0.0).sum((0, 2)), chosen.sum((0, 2))
  )
