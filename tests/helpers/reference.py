"""Independent NumPy references for the tests: float64, one row, plain loops.

Nothing here imports punt_jax. A distribution is a function from a canvas,
tokens (L,) with V for MASK, to the (L, V) conditional probabilities given what
it shows.

Azangulov, Pandeva, Prasad, Zazo, Karmalkar: Parallel Sampling from Masked
Diffusion Models via Conditional Independence Testing,
https://arxiv.org/abs/2510.21961 (Algorithm 1 and its recursive form).
"""

from typing import NamedTuple

import numpy as np


def random_joint(seed, length, vocab, sharpness=2.0):
  """(V,) * L float32 probabilities, every one of them positive."""
  scores = np.random.default_rng(seed).normal(size=(vocab,) * length)
  joint = np.exp(sharpness * scores)
  return (joint / joint.sum()).astype(np.float32)


def confident(*largest, vocab=4):
  """(L, V): each position has this largest probability, the rest is even."""
  dist = np.zeros((len(largest), vocab))
  for i, c in enumerate(largest):
    dist[i] = (1 - c) / (vocab - 1)
    dist[i, i % vocab] = c
  return dist


def coupled_joint(seed, length, vocab, density=0.3, strength=1.0):
  """Positions with distributions of their own, some pairs of them coupled."""
  rng = np.random.default_rng(seed)
  cells = np.indices((vocab,) * length)
  scores = np.zeros((vocab,) * length)
  for i in range(length):
    scores += rng.normal(size=vocab)[cells[i]]
    for j in range(i):
      pair = strength * rng.normal(size=(vocab, vocab))
      scores += (rng.random() < density) * pair[cells[i], cells[j]]
  joint = np.exp(scores)
  return (joint / joint.sum()).astype(np.float32)


def conditionals(joint, tokens):
  """(L, V): each position given the observed tokens, enumerated."""
  joint = np.asarray(joint, np.float64)
  vocab = joint.shape[0]
  dist = np.zeros((len(tokens), vocab))
  agrees = np.zeros(joint.shape)
  agrees[tuple(slice(None) if t == vocab else t for t in tokens)] = 1
  for axis in range(len(tokens)):
    others = tuple(a for a in range(len(tokens)) if a != axis)
    dist[axis] = (joint * agrees).sum(axis=others)
  return dist / dist.sum(axis=1, keepdims=True)


def distribution_of(joint, valid=None):
  """That of `joint`; with padding, of its first sum(valid) variables."""

  def dist(tokens):
    tokens = np.asarray(tokens)
    real = np.ones(len(tokens), bool) if valid is None else np.asarray(valid)
    vocab = np.shape(joint)[0]
    packed = np.full(np.ndim(joint), vocab)
    packed[: real.sum()] = tokens[real]
    out = np.full((len(tokens), vocab), 1 / vocab)
    out[real] = conditionals(joint, packed)[: real.sum()]
    return out

  return dist


def _plogq(p, q):
  """Sum of p log q over the last axis, where p = 0 counts as 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(p > 0, p * np.log(q), 0.0).sum(axis=-1)


def score(name, dist, drafts):
  """(L,) how early a position goes; bigger is earlier."""
  descending = -np.sort(-dist, axis=-1)
  return {
    'entropy': _plogq(dist, dist),
    'confidence': descending[:, 0],
    'margin': descending[:, 0] - descending[:, 1],
    'draft': np.take_along_axis(dist, drafts[:, None] % dist.shape[1], 1)[:, 0],
  }[name]


def divergence(name, before, after):
  """(L,) how far each position has moved, in nats (tv: in [0, 1])."""
  middle = (before + after) / 2
  return {
    'kl': _plogq(before, before) - _plogq(before, after),
    'jsd': (_plogq(before, before) + _plogq(after, after)) / 2
    - _plogq(middle, middle),
    'tv': np.abs(before - after).sum(axis=-1) / 2,
  }[name]


class Round(NamedTuple):
  """One round of Algorithm 1."""

  asked: bool  # both sides were inhabited, so the model was called
  anchors: np.ndarray  # (L,) bool, shown with their drafts
  tests: np.ndarray  # (L,) bool
  divergence: np.ndarray  # (L,) of the tested positions, 0 elsewhere
  survivors: np.ndarray  # (L,) bool, after the round


class Step(NamedTuple):
  """One step of Algorithm 1."""

  order: list  # positions, rank 0 first
  rounds: list  # of Round, one per bit
  kept: np.ndarray  # (L,) bool: what is revealed
  calls: int  # of the model, the base call included
  slack: float  # distance of the closest decision from its boundary


def bit_count(m):
  """The smallest nb with 2 ** nb >= m."""
  nb = 0
  while 2**nb < m:
    nb += 1
  return nb


def punt_step(
  dist,
  tokens,
  masked,
  drafts,
  epsilon,
  score_name='entropy',
  divergence_name='kl',
  first='msb',
  codes='plain',
):
  """Algorithm 1 for one row: rank, split by bit, ask, drop what moved."""
  tokens, drafts = np.asarray(tokens), np.asarray(drafts)
  before = dist(tokens)
  phi = score(score_name, before, drafts)
  order = sorted(np.flatnonzero(masked), key=lambda i: (-phi[i], i))
  m = len(order)
  nb = bit_count(m)
  slack = np.abs(np.diff(phi[order])).min(initial=np.inf)
  code = np.zeros(len(tokens), int)
  for rank, position in enumerate(order):
    code[position] = rank if codes == 'plain' else rank * 2**nb // m
  survivors = np.array(masked, bool)
  rounds, calls = [], 1
  bits = range(nb - 1, -1, -1) if first == 'msb' else range(nb)
  for bit in bits if epsilon < np.inf else ():
    side = code // 2**bit % 2
    anchors, tests = survivors & (side == 0), survivors & (side == 1)
    asked = bool(anchors.any() and tests.any())
    moved = np.zeros(len(tokens))
    if asked:
      calls += 1
      after = dist(np.where(anchors, drafts, tokens))
      moved = np.where(
        tests, divergence(divergence_name, before, after), 0.0
      )
      slack = min(slack, np.abs(moved - epsilon)[tests].min())
      survivors = survivors & ~(tests & (moved > epsilon))
    rounds.append(Round(asked, anchors, tests, moved, survivors))
  return Step(order, rounds, survivors, calls, slack)


def punt_recursion(dist, tokens, masked, drafts, epsilon, score_name='entropy'):
  """The paper's recursive form, for one row: (kept (L,) bool, calls)."""
  tokens, drafts = np.asarray(tokens), np.asarray(drafts)
  before = dist(tokens)
  phi = score(score_name, before, drafts)
  calls = 1

  def recurse(ordered):
    nonlocal calls
    if len(ordered) <= 1:
      return set(ordered)
    half = len(ordered) // 2
    shown = tokens.copy()
    shown[ordered[:half]] = drafts[ordered[:half]]
    calls += 1
    moved = divergence('kl', before, dist(shown))
    stay = [j for j in ordered[half:] if moved[j] < epsilon]
    return recurse(ordered[:half]) | recurse(stay)

  kept = np.zeros(len(tokens), bool)
  order = sorted(np.flatnonzero(masked), key=lambda i: (-phi[i], i))
  kept[list(recurse(order))] = True
  return kept, calls


def chi_square(counts, probabilities, least=5.0):
  """(statistic, degrees of freedom); cells expected below `least` pooled."""
  counts, probabilities = np.ravel(counts), np.ravel(probabilities)
  expected = counts.sum() * probabilities / probabilities.sum()
  if counts[expected == 0].any():
    return np.inf, 1
  rare = expected < least
  if rare.any():
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
  used = expected > 0
  gaps = (counts - expected)[used] ** 2 / expected[used]
  return gaps.sum(), used.sum() - 1


def fits(counts, probabilities, deviations=4.5):
  """Whether counts look drawn from `dist` (Wilson-Hilferty, one-sided)."""
  statistic, free = chi_square(counts, probabilities)
  spread = 2 / (9 * free)
  return (statistic / free) ** (1 / 3) < 1 - spread + deviations * spread**0.5


def histogram(tokens, vocab):
  """(V,) * L counts of the rows of tokens (N, L)."""
  counts = np.zeros((vocab,) * tokens.shape[1], int)
  np.add.at(counts, tuple(np.asarray(tokens).T), 1)
  return counts
