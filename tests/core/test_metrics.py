"""Metrics against enumeration and against repeated sampling, seeds fixed."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import metrics, oracles, samplers
from tests.helpers import reference

LENGTH, VOCAB = 3, 3
JOINT = reference.random_joint(0, LENGTH, VOCAB, sharpness=1.0)
CANVASES = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))
EMPTY = np.full(LENGTH, VOCAB)


@functools.cache
def world():
  return oracles.table(jnp.log(JOINT))


def draw(joint, n, seed):
  """(n, L) samples of a table, by NumPy."""
  cell = np.random.default_rng(seed).choice(joint.size, n, p=joint.ravel())
  return np.stack(np.unravel_index(cell, joint.shape), -1)


def normalized(joint):
  joint = np.asarray(joint, np.float64)
  return joint / joint.sum()


def independent():
  """The product of the marginals of JOINT."""
  p = reference.conditionals(JOINT, EMPTY)
  return functools.reduce(np.multiply.outer, p)


def kl(q, p):
  return float((q * np.log(q / p)).sum())


def within(estimate, truth, deviations=4):
  return abs(estimate.mean - truth) < deviations * estimate.stderr


def test_gap_of_parallel_draws_is_their_kl():
  q = normalized(independent())
  tokens = draw(q, 4000, seed=1)
  log_q = np.log(q[tuple(tokens.T)])
  given = np.broadcast_to(EMPTY, tokens.shape)
  gap = metrics.factorization_gap(world(), log_q, tokens, given)
  truth = kl(q, normalized(JOINT))
  assert truth > 0.05
  assert within(metrics.estimate(gap), truth)


def test_gap_is_relative_to_what_was_given():
  given = CANVASES.copy()
  given[:, 1:] = VOCAB
  p = normalized(JOINT)
  log_q = np.log(p / p.sum((1, 2), keepdims=True)).ravel()  # one by one: exact
  gap = metrics.factorization_gap(world(), log_q, CANVASES, given)
  np.testing.assert_allclose(gap, 0, atol=1e-5)


def test_mean_gap_over_orders_bounds_the_kl_of_the_mixture():
  """Two positions at once, then the third, for each choice of the third."""
  p = normalized(JOINT)
  dists = []
  for last in range(LENGTH):
    pair = p.sum(last, keepdims=True)
    first, second = (i for i in range(LENGTH) if i != last)
    marginals = pair.sum(first, keepdims=True), pair.sum(second, keepdims=True)
    dists.append(marginals[0] * marginals[1] * p / pair)
  means = []
  for q in dists:
    gap = metrics.factorization_gap(
      world(), np.log(q).ravel(), CANVASES, np.full(CANVASES.shape, VOCAB)
    )
    means.append((q.ravel() * gap).sum())
  np.testing.assert_allclose(means, [kl(q, p) for q in dists], atol=1e-6)
  assert 0 < kl(np.mean(dists, 0), p) < np.mean(means)


@functools.cache
def run_of(name, **settings):
  """(world, its joint, 20,000 rows) of a sampler on four coupled bits."""
  joint = normalized(reference.random_joint(3, 4, 2))
  build = lambda joint, _: (
    oracles.as_denoiser(oracles.table(jnp.log(joint))),
    getattr(samplers, name)(**settings),
  )
  run = punt_jax.compile(build)
  decoded = run(joint, (), jax.random.key(0), np.full((20_000, 4), 2))
  return oracles.table(jnp.log(joint)), joint, decoded


def gap_of(world, decoded):
  gap = metrics.factorization_gap(
    world, decoded.log_q, decoded.tokens, np.full(decoded.tokens.shape, 2)
  )
  return metrics.estimate(gap)


def distribution_in_blocks(joint, blocks):
  """The joint distribution of positions that are drawn block by block."""
  dist = np.ones(joint.shape)
  for canvas in np.ndindex(joint.shape):
    shown = np.full(joint.ndim, joint.shape[0])
    for block in blocks:
      p = reference.conditionals(joint, shown)
      shown[block] = np.array(canvas)[block]
      dist[canvas] *= p[block, shown[block]].prod()
  return dist


def test_mean_gap_of_random_pairs_is_the_mean_kl_over_orders():
  world, joint, decoded = run_of('uniform', k=2)
  first = [list(pair) for pair in itertools.combinations(range(4), 2)]
  rest = [[i for i in range(4) if i not in pair] for pair in first]
  kls = [
    kl(distribution_in_blocks(joint, blocks), joint)
    for blocks in zip(first, rest, strict=True)
  ]
  found = gap_of(world, decoded)
  assert abs(found.mean - np.mean(kls)) < 3 * found.stderr
  # Small enough to tell it from one order's KL.
  assert np.mean(kls) > 20 * found.stderr and np.ptp(kls) > 20 * found.stderr


def test_only_the_distribution_error_sees_an_order_by_draft():
  for score, bent in (('draft', True), ('entropy', False)):
    world, _, decoded = run_of('top_k', k=1, score=score)
    assert abs(gap_of(world, decoded).mean) < 1e-6
    found = metrics.joint_tv(world, decoded.tokens)
    assert (found.mean > 3 * found.floor) == bent
    assert (found.mean > found.floor + 4 * found.stderr) == bent


HIDDEN = np.random.default_rng(4).random(CANVASES.shape) < 0.6
HIDDEN[:2] = [[False], [True]]  # all of the first row is given
GIVEN = np.where(HIDDEN, VOCAB, CANVASES)


def test_log_p_per_token_against_enumeration():
  found = metrics.log_p_per_token(world(), CANVASES, GIVEN)
  p = normalized(JOINT)
  for row, given, value in zip(CANVASES, GIVEN, found, strict=True):
    shown = tuple(slice(None) if t == VOCAB else t for t in given)
    with np.errstate(invalid='ignore'):
      truth = np.log(p[tuple(row)] / p[shown].sum()) / (given == VOCAB).sum()
    assert value == pytest.approx(truth, rel=1e-4, nan_ok=True)
  assert np.isnan(found[0]) and np.isfinite(found[1])
  ones, empty = np.ones((1, 3), int), np.full((1, 3), 2)
  assert metrics.log_p_per_token(oracles.xor(), ones, empty) == -np.inf


def test_agreement_against_enumeration():
  found = metrics.agreement(world(), CANVASES, GIVEN)
  for row, given, value in zip(CANVASES, GIVEN, found, strict=True):
    agrees = []
    for i in np.flatnonzero(given == VOCAB):
      others = np.where(np.arange(LENGTH) == i, VOCAB, row)
      dist = reference.conditionals(JOINT, others)[i]
      agrees.append(dist.argmax() == row[i])
    truth = np.mean(agrees) if agrees else np.nan
    assert value == pytest.approx(truth, nan_ok=True)
  assert np.isnan(found[0]) and len(np.unique(found[1:])) == 3


def test_ties_agree():
  bits = np.array([[0, 1], [1, 1]])
  empty = np.full((2, 2), 2)
  skewed = oracles.product(np.log([[0.5, 0.5], [0.4, 0.6]]))
  assert metrics.agreement(skewed, bits, empty).tolist() == [1, 1]
  skewed = oracles.product(np.log([[0.4, 0.6], [0.6, 0.4]]))
  assert metrics.agreement(skewed, bits, empty).tolist() == [0, 0.5]


def test_impossible_rows_are_infinite_and_counted():
  xor = oracles.xor()
  tokens = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1]])
  gap = metrics.factorization_gap(
    xor, np.full(4, -3 * math.log(2)), tokens, np.full((4, 3), 2)
  )
  np.testing.assert_allclose(gap[[0, 1, 3]], -math.log(2), rtol=1e-6)
  assert gap[2] == np.inf and np.isinf(metrics.excess_nll(xor, tokens)[2])
  share = metrics.impossible_share(xor, tokens)
  assert share.mean == 0.25 and share.stderr == pytest.approx(0.25)
  assert metrics.estimate(gap).mean == np.inf


def test_excess_nll_has_the_right_zero_and_sign():
  exact = metrics.excess_nll(world(), draw(normalized(JOINT), 4000, seed=2))
  assert within(metrics.estimate(exact), 0)
  typical = draw(normalized(JOINT**2), 4000, seed=2)
  sharp = metrics.estimate(metrics.excess_nll(world(), typical))
  entropy = lambda q: -(q * np.log(normalized(JOINT))).sum()
  q, p = normalized(JOINT**2), normalized(JOINT)
  assert within(sharp, (entropy(q) - entropy(p)) / LENGTH)
  assert sharp.mean < -10 * sharp.stderr


@pytest.mark.parametrize('n', (1, 2, 7, 40))
def test_noise_floor_equals_the_sum_over_binomials(n):
  dist = np.array([[0.5, 0.5, 0.0], [0.9, 0.07, 0.03], [1.0, 0.0, 0.0]])
  expected = 0.0
  for p in dist.ravel():
    for k in range(n + 1):
      chance = math.comb(n, k) * p**k * (1 - p) ** (n - k)
      expected += chance * abs(k / n - p) / 2 / len(dist)
  assert metrics.noise_floor(dist, n) == pytest.approx(expected, rel=1e-9)


MEASURES = (metrics.joint_tv, metrics.unigram_tv, metrics.pair_tv)


@pytest.mark.parametrize('measure', MEASURES)
def test_exact_samples_lie_on_the_floor(measure):
  """So does the jackknife agree with the spread of repeated runs."""
  runs = [
    measure(world(), draw(normalized(JOINT), 300, seed)) for seed in range(60)
  ]
  means = np.array([run.mean for run in runs])
  floor = runs[0].floor
  assert abs(means.mean() - floor) < 4 * means.std() / math.sqrt(len(runs))
  assert 0.6 < np.mean([run.stderr for run in runs]) / means.std() < 1.7


@pytest.mark.parametrize('measure', MEASURES)
def test_another_distribution_is_found_at_its_distance(measure):
  p, q = normalized(JOINT), normalized(JOINT**2)
  kept = {
    metrics.joint_tv: [(0, 1, 2)],
    metrics.unigram_tv: [(0,), (1,), (2,)],
    metrics.pair_tv: [(0, 1), (0, 2), (1, 2)],
  }[measure]
  truth = np.mean([
    np.abs((p - q).sum(tuple({0, 1, 2} - set(axes)))).sum() / 2
    for axes in kept
  ])
  found = measure(world(), draw(q, 20_000, seed=3))
  assert truth > 10 * found.floor
  assert within(found, truth)


def test_each_measure_sees_one_order_more():
  """Uniform bits against parities of two and of three of them."""
  bits = np.asarray(jax.random.bernoulli(jax.random.key(0), shape=(4000, 3)))
  bits = bits.astype(int)
  couple, triple = oracles.parity(3, [(0, 1)]), oracles.xor()
  quiet = lambda d: d.mean < 2 * d.floor
  assert quiet(metrics.unigram_tv(couple, bits))
  assert metrics.pair_tv(couple, bits).mean == pytest.approx(1 / 6, abs=0.02)
  assert quiet(metrics.pair_tv(triple, bits))
  assert metrics.joint_tv(triple, bits).mean == pytest.approx(1 / 2, abs=0.02)


def test_spread_of_a_cost():
  cost = metrics.spread(np.arange(11))
  assert cost == (5.0, pytest.approx(1.0), 1.0, 5.0, 9.0)
  assert math.isnan(metrics.spread([3]).stderr)


def scored(measure):
  return lambda world, tokens: measure(world, tokens, tokens)


@pytest.mark.parametrize(
  'measure',
  (
    metrics.excess_nll, *MEASURES, scored(metrics.agreement),
    scored(metrics.log_p_per_token),
  ),
)
def test_a_row_that_is_not_finished_is_named(measure):
  with pytest.raises(ValueError, match='row 1 is not complete'):
    measure(world(), np.array([[0, 1, 2], [0, VOCAB, 2]]))


def test_a_world_too_large_to_enumerate_is_refused():
  large = oracles.product(np.zeros((11, 4)))
  with pytest.raises(ValueError, match='4 \\*\\* 11 canvases are too many'):
    metrics.joint_tv(large, np.zeros((2, 11), int))
