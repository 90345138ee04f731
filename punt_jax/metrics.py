"""What a finished run got wrong and what it cost, measured on exact worlds.

Two kinds of error, because neither implies the other:

* Factorization gap, log_q - log p(tokens | given) per row. If the choice of
  positions ignores the drafts, q is the distribution of the run for that order,
  and the mean gap over orders drawn at random is E_order KL(q_order || p). KL
  is convex in its first argument, so that mean bounds KL(q || p) for the
  distribution q of the samples, the mixture over orders. It is the mean of
  log_q - log p only as long as the drafts do not choose the positions.
* Distribution error, the distance of the finished samples from p: exact total
  variation where the world can be enumerated, excess negative log-likelihood
  and the total variation of unigrams and pairs elsewhere. It sees what the gap
  cannot: a rule that prefers probable drafts bends the distribution while every
  single draft comes from an exact conditional.

Neither is meant for temperatures other than 1, where the drafts do not come
from p. What is asked there is whether the tokens fit: agreement with the most
likely token, and log p.

Everything runs on the host in float64. A histogram of n samples differs from
its distribution even if the samples are exact, so each total variation comes
with its noise floor, the mean that n exact independent samples would show.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import contract
from punt_jax.checks import array, reals, shown, whole
from punt_jax.oracles import World
from punt_jax.types import ArrayLike

_GROUPS = 10  # of the jackknife
_TIE = 1e-4  # nats: log-probabilities this close are rounded, not different
_MOST_CANVASES = 2**20


class Estimate(NamedTuple):
  """A mean over rows."""

  mean: float
  stderr: float  # of the mean; NaN for a single row


class Distance(NamedTuple):
  """A total variation, a probability in [0, 1]."""

  mean: float
  stderr: float  # delete-a-group jackknife over rows
  floor: float  # expectation for as many exact samples


class Spread(NamedTuple):
  """How a cost varies over rows."""

  mean: float
  stderr: float
  low: float  # 10 % quantile
  median: float
  high: float  # 90 % quantile


def estimate(values: ArrayLike) -> Estimate:
  """Mean of (B,) numbers; infinite or NaN if one of them is.

  Raises:
    ValueError: there are none.
  """
  values = reals('values', values)
  if values.size < 2 or not np.isfinite(values).all():
    return Estimate(float(values.mean()), float('nan'))
  stderr = values.std(ddof=1) / np.sqrt(values.size)
  return Estimate(float(values.mean()), float(stderr))


def spread(values: ArrayLike) -> Spread:
  """Mean and quantiles of (B,) numbers, such as the meter's nfe."""
  values = reals('values', values)
  low, median, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
  return Spread(*estimate(values), low, median, high)


def factorization_gap(
  world: World, log_q: ArrayLike, tokens: ArrayLike, given: ArrayLike
) -> np.ndarray:
  """log_q - log p(tokens | given), (B,) nats; +inf for an impossible row.

  Args:
    world: the distribution p.
    log_q: (B,) nats, from Decoded.
    tokens: (B, L) complete canvases.
    given: (B, L) the canvases that the run started from, with MASK.

  Raises:
    ValueError: shapes that do not agree, ids that are none, a row that is not
      complete, or NaN in log_q.
  """
  tokens = _check_complete(world, tokens)
  given = _canvas(world, given, 'given', len(tokens))
  log_q = reals('log_q', log_q)
  if log_q.shape != tokens.shape[:1] or np.isnan(log_q).any():
    raise ValueError(
      f'log_q must be {len(tokens)} numbers, one per row and none of them NaN,'
      f' not {shown(log_q)}'
    )
  return log_q - (_log_prob(world, tokens) - _log_prob(world, given))


def excess_nll(world: World, tokens: ArrayLike) -> np.ndarray:
  """(-log p(tokens) - entropy) / L per row, (B,) nats per token.

  Its mean is 0 for exact samples, positive for samples that are too unlikely
  and negative for samples that are too typical. +inf for an impossible row.
  """
  tokens = _check_complete(world, tokens)
  entropy = float(world.entropy())
  return (-_log_prob(world, tokens) - entropy) / world.length


def log_p_per_token(
  world: World, tokens: ArrayLike, given: ArrayLike
) -> np.ndarray:
  """log p(tokens | given) per position not given, (B,) nats per token.

  NaN for a row in which all is given, -inf for an impossible one.
  """
  tokens = _check_complete(world, tokens)
  gap = factorization_gap(world, np.zeros(len(tokens)), tokens, given)
  return -gap / _open_count(world, given)


def agreement(world: World, tokens: ArrayLike, given: ArrayLike) -> np.ndarray:
  """Share (B,) of a row's own tokens that are the likeliest at their place.

  That is: no other token is more probable there, all other positions known;
  ties agree. What is given does not count; NaN if that is all. Means nothing
  for an impossible row. Asks the world about L canvases per row.
  """
  tokens = _check_complete(world, tokens)
  place = np.arange(world.length)
  hidden = np.eye(world.length, dtype=bool)
  agrees = _canvas(world, given, 'given', len(tokens)) == world.vocab
  for i, row in enumerate(tokens):
    dist = np.asarray(world.logits(np.where(hidden, world.vocab, row)))
    dist = dist[place, place]  # (L, V)
    agrees[i] &= dist[place, row] >= dist.max(-1) - _TIE
  return agrees.sum(-1) / _open_count(world, given)


def impossible_share(world: World, tokens: ArrayLike) -> Estimate:
  """Share of the rows (B, L) that have probability 0."""
  tokens = _canvas(world, tokens)
  return estimate(np.isneginf(_log_prob(world, tokens)))


def joint_tv(world: World, tokens: ArrayLike) -> Distance:
  """Total variation between complete canvases (B, L) and the world.

  Raises:
    ValueError: the world has too many canvases to enumerate.
  """
  tokens = _check_complete(world, tokens)
  shape = (world.vocab,) * world.length
  if world.length * np.log2(world.vocab) > np.log2(_MOST_CANVASES):
    raise ValueError(
      f'{world.vocab} ** {world.length} canvases are too many to enumerate: '
      'use unigram_tv, pair_tv and excess_nll.'
    )
  canvases = np.indices(shape, np.int32).reshape(world.length, -1).T
  dist = np.exp(_log_prob(world, canvases))
  cell = np.ravel_multi_index(tokens.T, shape)
  return _distance(dist[None], np.reshape(cell, (-1, 1)))


def unigram_tv(world: World, tokens: ArrayLike) -> Distance:
  """Mean over positions of the total variation of their marginals."""
  tokens = _check_complete(world, tokens)
  return _distance(_unigrams(world), tokens)


def pair_tv(world: World, tokens: ArrayLike) -> Distance:
  """Mean over all pairs of positions of their total variation.

  Raises:
    ValueError: there is no pair, or see joint_tv.
  """
  tokens = _check_complete(world, tokens)
  length, vocab = world.length, world.vocab
  if length < 2:
    raise ValueError('a world of one position has no pairs: use unigram_tv')
  # canvases[i, a] shows token a at position i and nothing else.
  canvases = np.full((length, vocab, length), vocab)
  for i in range(length):
    canvases[i, :, i] = np.arange(vocab)
  after = np.exp(np.asarray(world.logits(canvases), np.float64))
  joint = _unigrams(world)[..., None, None] * after  # (L, V, L, V)
  i, j = np.triu_indices(length, 1)
  dist = joint[i, :, j, :].reshape(-1, vocab * vocab)
  return _distance(dist, tokens[:, i] * vocab + tokens[:, j])


def noise_floor(dist: np.ndarray, n: int) -> float:
  """Mean total variation of n exact samples' histogram from their distribution.

  Args:
    dist: (C, K) probabilities of K outcomes, averaged over C.
    n: number of independent samples.

  Returns:
    E |count / n - p| / 2 summed over outcomes, exactly: the mean absolute
    deviation of a binomial is 2 k C(n, k) p^k (1 - p)^(n - k + 1) with
    k = floor(n p) + 1 (De Moivre; Diaconis and Zabell 1991).
  """
  whole('n', n, 1, 2**24)
  dist = reals('dist', dist)
  if dist.ndim != 2 or not ((dist >= 0) & (dist <= 1.001)).all():
    raise ValueError('dist must be probabilities (C, K) of K outcomes')
  p = np.clip(dist, 1e-300, 1 - 1e-16)
  k = np.minimum(np.floor(n * p).astype(int) + 1, n)
  log_factorial = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
  log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
  log_mean = np.log(2 * k) + log_choose
  log_mean += k * np.log(p) + (n - k + 1) * np.log1p(-p)
  return float(np.exp(log_mean).sum(-1).mean() / (2 * n))


def _distance(dist, outcomes):
  """Total variation of `dist` (C, K) from outcomes (n, C) in [0, K)."""
  n = len(outcomes)
  cells, kinds = dist.shape
  groups = min(_GROUPS, n)
  group = np.arange(n) % groups
  index = (group[:, None] * cells + np.arange(cells)) * kinds + outcomes
  counts = np.bincount(index.ravel(), minlength=groups * dist.size)
  counts = counts.reshape(groups, cells, kinds)
  total = counts.sum(0)

  def tv(counts):
    shares = counts / counts[0].sum()
    return np.abs(shares - dist).sum(-1).mean() / 2

  stderr = float('nan')
  if groups > 1:
    without = np.array([tv(total - one) for one in counts])
    stderr = float(np.sqrt((groups - 1) * without.var()))
  return Distance(float(tv(total)), stderr, noise_floor(dist, n))


def _unigrams(world):
  """(L, V) marginals."""
  empty = np.full(world.length, world.vocab)
  return np.exp(np.asarray(world.logits(empty), np.float64))


def _log_prob(world, tokens):
  return np.asarray(world.log_prob(tokens), np.float64)


def _open_count(world, given):
  """(B,) positions that are not given; NaN instead of 0."""
  count = (np.asarray(given) == world.vocab).sum(-1).astype(np.float64)
  return np.where(count > 0, count, np.nan)


def _canvas(world, tokens, name='tokens', count=None):
  """tokens (B, L) with ids in [0, V]; a ValueError if they are not."""
  contract.is_a(world, World)
  tokens = array(name, tokens)
  shape = (count or max(len(tokens), 1) if tokens.ndim else 1, world.length)
  if isinstance(tokens, Tracer) or tokens.shape != shape or (
    not jnp.issubdtype(tokens.dtype, jnp.integer)
  ):
    raise ValueError(
      f'{name} must be integers ({count or "rows"}, {world.length}), not'
      f' {contract.said(tokens)}'
    )
  tokens = np.asarray(tokens)
  bad = ((tokens < 0) | (tokens > world.vocab)).any(-1)
  if bad.any():
    raise ValueError(
      f'{name} has an id outside [0, {world.vocab}] in row {bad.argmax()}'
    )
  return tokens


def _check_complete(world, tokens):
  """tokens (B, L); a ValueError if a row still holds a MASK or another id."""
  tokens = _canvas(world, tokens)
  bad = (tokens == world.vocab).any(-1)
  if bad.any():
    raise ValueError(
      f'row {bad.argmax()} is not complete: every token must lie in '
      f'[0, {world.vocab}).'
    )
  return tokens
