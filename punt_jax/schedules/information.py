"""How much a position still holds once i others are known.

The information profile h(i), i = 0 .. n - 1, is the mean over random sets S of
i positions and j outside of S of H(X_j | X_S), nats; it does not increase. The
information curve is Z_i = h(0) - h(i). With perfect conditionals and positions
in uniformly random order, they decide what any block sizes cost (sizes.py):

  mean over orders of KL(p || q) = sum over blocks of the sum over their
  positions of Z_i - Z_N, N positions known when the block is written

(Chen, Cong, Li https://arxiv.org/abs/2511.04647; Lavenant and Zanella
https://arxiv.org/abs/2510.25544; Li and Cai https://arxiv.org/abs/2505.21400).
The area under the curve is the total correlation TC, the area above it, below
Z_(n-1), the dual total correlation DTC.

Everything that takes a profile takes (..., n) of them, and is linear in it: its
value for each row of `estimate_profile` gives mean and standard error
(metrics.estimate).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import contract, readout, rows, scores
from punt_jax.checks import array, function, known, reals, shown, whole
from punt_jax.types import Array, ArrayLike, Denoiser, Tree

MOST = 2**24  # marginal probabilities that exact_profile may enumerate


def finite(profile: ArrayLike) -> np.ndarray:
  """The profile in float64, (..., n >= 1).

  Raises:
    ValueError: it is not finite, or no profile.
  """
  profile = reals('profile', profile, many=False)
  if profile.ndim == 0 or not profile.size or not np.isfinite(profile).all():
    raise ValueError(
      'an information profile must be finite numbers h(0) .. h(n - 1), nats'
    )
  return profile


def curve(profile: ArrayLike) -> np.ndarray:
  """Z_i = h(0) - h(i), (..., n) -> (..., n)."""
  profile = finite(profile)
  return profile[..., :1] - profile


def total_correlation(profile: ArrayLike) -> np.ndarray:
  """TC, the sum of the marginal entropies minus that of all, (...) nats."""
  return curve(profile).sum(-1)


def dual_total_correlation(profile: ArrayLike) -> np.ndarray:
  """DTC, the entropy of all minus the sum of H(X_i | the rest), (...) nats."""
  profile = finite(profile)
  return (profile - profile[..., -1:]).sum(-1)


def exact_profile(world: Any) -> np.ndarray:
  """The profile (n,) of a small exact world, by enumeration in float64.

  Args:
    world: of length n over V tokens (punt_jax.oracles); float32 distribution.

  Raises:
    ValueError: there are too many partial canvases to enumerate.
  """
  if not all(hasattr(world, x) for x in ('length', 'vocab', 'log_prob')):
    raise ValueError(
      f'{contract.said(world)} stands where a World belongs, see oracles'
    )
  n, vocab = world.length, world.vocab
  if (vocab + 1) ** n > MOST:
    raise ValueError(
      f'{vocab + 1} ** {n} partial canvases are too many to enumerate: use'
      ' estimate_profile'
    )
  canvases = np.indices((vocab,) * n, np.int32).reshape(n, -1).T
  parts = np.array_split(canvases, -(-len(canvases) // 1024))
  log_p = np.concatenate([np.asarray(world.log_prob(x)) for x in parts])
  joint = np.exp(log_p.astype(np.float64)).reshape((vocab,) * n)
  total = np.zeros(n + 1)  # entropies of all marginals over k positions

  def visit(dist, kept):
    """Adds the marginals of `dist` that keep its first `kept` positions."""
    if kept == dist.ndim:
      some = dist[dist > 0]
      total[kept] -= (some * np.log(some)).sum()
      return
    visit(dist, kept + 1)
    visit(dist.sum(kept), kept)

  visit(joint / joint.sum(), 0)
  return np.diff(total / [math.comb(n, k) for k in range(n + 1)])


def grid(n: int, points: int = 33) -> np.ndarray:
  """Counts 0 .. n - 1 to estimate at, denser at both ends; at most `points`."""
  n, points = whole('n', n, 1, MOST), whole('points', points, 1)
  turn = np.linspace(0, np.pi, min(points, n))
  return np.unique(np.rint((n - 1) * (1 - np.cos(turn)) / 2).astype(int))


def estimate_profile(
  build: Callable[[Tree], Denoiser], params: Tree, key: Array,
  tokens: ArrayLike, counts: ArrayLike | None = None, by: str = 'token',
  at_once: int = 32,
) -> np.ndarray:
  """The profile of a model on given rows; one per row, to average.

  Between the counts it is interpolated along straight lines, which lie above
  a convex profile. A network's profile need not decrease: see `isotonic`.

  Args:
    build: params -> Denoiser, traceable; the raw distribution is read.
    params: of the model.
    key: of the orders; row r draws its own from fold_in(key, r).
    tokens: (R, n) complete rows, of the distribution that the profile is wanted
      of.
    counts: how many tokens are known, increasing from 0 to n - 1; all of them
      (n forward passes per row) unless told, see `grid`.
    by: what is averaged over the hidden positions. 'token': -log p(the row's
      token). It is the profile with which the identity predicts the loss of
      log-likelihood on such rows, for any model, right or wrong. 'entropy': of
      the model's distribution. The same mean if the model is right about the
      rows, as a world is, then with less noise; but what a model believes, not
      what happens: the shipped one is too sure even of its own samples.
    at_once: rows per forward pass.

  Returns:
    (R, n) float64 nats. The mean over rows is the estimate.

  Raises:
    ValueError: bad tokens or counts, or a token of probability 0.
  """
  tokens = _complete(build, params, tokens)
  counts = _counts(counts, tokens.shape[-1])
  nats = teacher_force(build, params, key, tokens, counts, by, at_once)
  hidden = np.stack(
    [nats[:, g, c:].mean(-1, dtype=np.float64) for g, c in enumerate(counts)],
    -1,
  )
  every = np.arange(nats.shape[-1])
  return np.stack([np.interp(every, counts, row) for row in hidden])


def teacher_force(
  build: Callable[[Tree], Denoiser], params: Tree, key: Array,
  tokens: ArrayLike, counts: ArrayLike | None = None, by: str = 'token',
  at_once: int = 32,
) -> np.ndarray:
  """What a row's tokens cost, known ones revealed in uniformly random order.

  Arguments as in `estimate_profile`.

  Returns:
    (R, G, n) float32 nats: [r, g, i] is about the token at place i of the order
    of row r, when the first counts[g] of that order are known; 0 for these.
  """
  tokens = _complete(build, params, tokens)
  counts = _counts(counts, tokens.shape[-1])
  known('by', by, ('token', 'entropy'))
  whole('at_once', at_once, 1)
  key = rows.as_key(key)
  if isinstance(key, Tracer):
    raise ValueError('the key is traced: teacher_force runs on the host')

  count = len(tokens)
  at_once = min(at_once, count)
  index = np.arange(-(-count // at_once) * at_once) % count  # full parts
  keys = rows.fold_rows(key, jnp.asarray(index))
  nats = np.concatenate([
    np.stack(
      [_nats(build, by, params, keys[part], tokens[index[part]], c)
       for c in counts], 1,
    )
    for part in np.arange(len(index)).reshape(-1, at_once)
  ])[:count]
  bad = ~np.isfinite(nats).all((1, 2))
  if bad.any():
    raise ValueError(
      f'row {bad.argmax()} holds a token to which the model gives probability'
      ' 0, or NaN'
    )
  return nats


@functools.partial(jax.jit, static_argnums=(0, 1))
def _nats(build, by, params, keys, tokens, count):
  """teacher_force of rows (B, n) at one count -> (B, n)."""
  model = build(params)
  valid = jnp.ones(tokens.shape, bool)
  place = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  order = jnp.argsort(jax.vmap(rows.uniform_at)(keys, place), -1)
  hidden = jnp.argsort(order, -1) >= count
  canvas = jnp.where(hidden, model.vocab, tokens)
  _, answer = model.ask(model.init(canvas, valid), canvas, valid[:, 0])

  def reduce(features, token):
    dist = model.read(features)
    if by == 'entropy':
      return scores.entropy(dist)
    return -scores.log_prob(dist, token)

  nats = readout.in_chunks(
    reduce, hidden, model.vocab, answer.features, tokens
  )
  return jnp.take_along_axis(nats, order, -1)


def forced_kl(nats: np.ndarray, sizes: ArrayLike) -> np.ndarray:
  """log p(row) - log q(row | its order, these block sizes), (R,) nats.

  Both chains see the same order, p one by one. On rows of the distribution
  itself the mean is the mean over orders of KL(p || q); all counts must be
  there.

  Args:
    nats: (R, n, n) of `teacher_force`.
    sizes: (K,) or (R, K) whole numbers with sum n.
  """
  nats = reals('nats', nats)
  n = nats.shape[-1] if nats.ndim == 3 else 0
  if not n or nats.shape[1] != n:
    raise ValueError(
      f'forced_kl needs nats (R, n, n) of all {n} counts, got {nats.shape}'
    )
  starts = np.broadcast_to(block_starts(sizes, n), (len(nats), n))
  row, place = np.arange(len(nats))[:, None], np.arange(n)
  blocks = nats[row, starts, place].astype(np.float64)
  return (blocks - nats[:, place, place]).sum(-1)


def block_starts(sizes: ArrayLike, n: int) -> np.ndarray:
  """(..., K) block sizes -> (..., n): how many are known at each place.

  Raises:
    ValueError: sizes that are no whole numbers >= 0 with sum n.
  """
  found = reals('sizes', sizes)
  whole_ = (found == np.floor(found)) & (found >= 0)
  if not found.ndim or not whole_.all() or (found.sum(-1) != n).any():
    raise ValueError(
      f'block sizes must be whole numbers >= 0 with sum {n}, got {shown(sizes)}'
    )
  sizes = found
  ends = sizes.astype(int).cumsum(-1)
  # The block of place i is the number of blocks that end at or before it.
  block = (ends[..., None, :] <= np.arange(n)[:, None]).sum(-1)
  return np.take_along_axis(ends - sizes.astype(int), block, -1)


def isotonic(profile: ArrayLike) -> np.ndarray:
  """The closest profile (n,) in least squares that does not increase."""
  profile = finite(profile)
  if profile.ndim != 1:
    raise ValueError(f'isotonic takes one profile (n,), got {profile.shape}')
  n = len(profile)
  sums = np.concatenate([[0.0], profile.cumsum()])
  first, last = np.indices((n, n))
  means = (sums[last + 1] - sums[first]) / np.maximum(last - first + 1, 1)
  means = np.where(last < first, -np.inf, means)
  best = np.maximum.accumulate(means[:, ::-1], 1)[:, ::-1]  # over last >= i
  return np.minimum.accumulate(best, 0)[np.arange(n), np.arange(n)]


def _counts(counts, n):
  """`counts`, or 0 .. n - 1; a ValueError if they cannot be interpolated."""
  if counts is None:
    return np.arange(n)
  found = reals('counts', counts)
  good = found.ndim == 1 and np.all(np.diff(found) > 0)
  good = good and (found == np.floor(found)).all()
  if not good or found[0] != 0 or found[-1] != n - 1:
    raise ValueError(
      f'counts must be whole numbers that increase from 0 to {n - 1}, got'
      f' {shown(counts)}'
    )
  return found.astype(int)


def _complete(build, params, tokens):
  """tokens (R, n) of a model, complete rows; a ValueError if they are not."""
  made = []
  jax.eval_shape(lambda p: made.append(function('build', build)(p)), params)
  vocab = contract.is_a(made[0], Denoiser).vocab
  tokens = array('tokens', tokens)
  if isinstance(tokens, Tracer) or tokens.ndim != 2 or not tokens.size or (
    not jnp.issubdtype(tokens.dtype, np.integer)
  ):
    raise ValueError(
      'tokens must be integers (rows, positions), one row at least, not'
      f' {contract.said(tokens)}'
    )
  tokens = np.asarray(tokens)
  bad = ((tokens < 0) | (tokens >= vocab)).any(-1)
  if bad.any():
    raise ValueError(
      f'row {bad.argmax()} is not complete: every token must lie in'
      f' [0, {vocab})'
    )
  return tokens
