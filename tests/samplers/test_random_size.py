"""Random block sizes: their means, what they cost, and random_order's steps."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import oracles, samplers, schedules
from punt_jax.samplers.random_size import DISTRIBUTIONS, drawn_marks
from tests.schedules.test_schedules import noisy_copies, parities

LENGTH, VOCAB, ROWS = 16, 2, 512


@functools.cache
def drawer(length, scheme, dist):
  draw = lambda key, total, steps: drawn_marks(
    key, total, length, steps, scheme, dist
  )
  return jax.jit(jax.vmap(draw, (0, None, None)))


def sizes_drawn(count, length, total, steps, scheme, dist):
  """(count, length) sizes of the blocks."""
  keys = jax.random.split(jax.random.key(7), count)
  marks = np.asarray(drawer(length, scheme, dist)(keys, total, float(steps)))
  assert (marks[:, -1] == total).all()
  return np.diff(marks, axis=1, prepend=0)


@pytest.mark.parametrize('scheme', schedules.SCHEMES)
@pytest.mark.parametrize('dist', DISTRIBUTIONS)
def test_means_are_those_of_the_geometric_schedule(dist, scheme):
  for total, steps in ((31, 5), (20, 7)):
    sizes = sizes_drawn(4000, 40, total, steps, scheme, dist)
    assert (sizes >= (dist != 'poisson')).all(0)[:steps].all()
    assert (sizes[:, steps:] == 0).all() and (sizes.sum(1) == total).all()
    marks = schedules.geometric_marks(jnp.arange(41), total, steps, scheme)
    mean = np.diff(marks)
    if total == 31:
      double = [1, 2, 4, 8, 16]
      double = double if scheme == 'dtc' else double[::-1]
      np.testing.assert_allclose(mean[:5], double, rtol=1e-4)
    error = sizes.std(0) / math.sqrt(len(sizes))
    assert (np.abs(sizes.mean(0) - mean) < 4.5 * error + 0.005).all()


def test_uniform_sizes_spread_from_one_to_twice_the_mean():
  # 3 blocks of mean 1, 3, 9: the second takes 1 and a uniform share of mean
  # 2/10 of the 10 that three blocks of one leave: from 1 to 5.
  sizes = sizes_drawn(4000, 13, 13, 3, 'dtc', 'uniform')
  assert (sizes[:, 0] == 1).all()
  counts = np.bincount(sizes[:, 1])
  # A real number on [1, 5] cut at a random phase.
  np.testing.assert_allclose(
    counts / 4000, [0, 1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], atol=0.03
  )
  # 9, 3, 1: the first share, of mean .8, is uniform on [.6, 1].
  sizes = sizes_drawn(4000, 13, 13, 3, 'tc', 'uniform')
  assert set(sizes[:, 0]) == set(range(7, 12))


def test_poisson_sizes_are_those_of_independent_positions():
  sizes = sizes_drawn(4000, 13, 13, 3, 'dtc', 'poisson')
  for size, mean in zip(sizes.T, (1, 3, 9), strict=False):
    variance = 13 * mean / 13 * (1 - mean / 13)
    assert size.var() == pytest.approx(variance, rel=0.12)
  assert 0.3 < (sizes[:, 0] == 0).mean() < 0.4  # (12 / 13) ** 13 = .353


def test_rounding_only_cuts_the_mean_to_whole_numbers():
  sizes = sizes_drawn(500, 20, 20, 7, 'tc', 'rounding')
  marks = np.array(
    schedules.geometric_marks(jnp.arange(1, 21), 20, 7, 'tc')
  )
  assert (np.abs(sizes.cumsum(1) - marks) < 1).all()
  assert len({tuple(row) for row in sizes}) > 3


# Error against blocks where TC and DTC differ by far, from the exact curves.
SMALL_DTC, SMALL_TC = noisy_copies(512, 0.1), parities(512, 32)
BLOCKS = np.array([16, 32, 64, 128])


def costs(profile, scheme, dist):
  return np.array([
    schedules.expected_kl(
      profile, sizes_drawn(100, 512, 512, k, scheme, dist)
    ).mean()
    for k in BLOCKS
  ])


@pytest.mark.parametrize(
  'profile, scheme, small, large',
  [
    (SMALL_DTC, 'dtc', 0.6931, 187.8), (SMALL_TC, 'tc', 11.09, 343.8),
  ],
)
def test_the_error_falls_like_the_small_correlation_over_k(
  profile, scheme, small, large
):
  both = (
    schedules.total_correlation(profile),
    schedules.dual_total_correlation(profile),
  )
  assert sorted(both) == pytest.approx([small, large], rel=1e-3)
  for dist in ('uniform', 'rounding'):
    found = costs(profile, scheme, dist)
    slope = np.polyfit(np.log(BLOCKS), np.log(found), 1)[0]
    assert -1.5 < slope < -0.9
    # Of the order of small / K, up to log(512).
    share = found / (small / BLOCKS)
    assert ((share > 0.5) & (share < 6.24)).all()
  (other,) = {'dtc', 'tc'} - {scheme}
  assert (costs(profile, other, 'uniform') > 4 * found).all()


def test_poisson_sizes_lose_the_rate():
  """Two positions may share the first block, however many blocks there are."""
  found = costs(SMALL_DTC, 'dtc', 'poisson')
  assert found[-1] > found[0] / 2


@functools.cache
def runner(**words):
  """One compiled run of even bits per word; counts its traces."""
  traces = []

  def build(_, hyperparams):
    traces.append(1)
    model = oracles.as_denoiser(oracles.product(jnp.zeros((LENGTH, VOCAB))))
    name = 'random_order' if 'sizes' in hyperparams else 'random_size'
    make = getattr(samplers, name)
    return model, make(**words, **hyperparams)

  return punt_jax.compile(build), traces


def run(given=0, seed=0, words=(), **hyperparams):
  """Decodes ROWS canvases of which the first tokens are given."""
  tokens = np.full((ROWS, LENGTH), VOCAB)
  tokens[:, :given] = 0
  decode, _ = runner(**dict(words))
  out = jax.device_get(decode((), hyperparams, jax.random.key(seed), tokens))
  assert out.done.all()
  np.testing.assert_array_equal(out.meter.nfe, out.steps)
  return out


def block_sizes(out):
  """(B, LENGTH) positions written at each step."""
  return (out.when[:, :, None] == np.arange(LENGTH)).sum(1)


def test_rows_draw_their_own_sizes_and_the_decoded_means_match():
  out = run(steps=4.0)
  sizes = block_sizes(out)
  assert (out.steps == 4).all()
  assert len({tuple(row) for row in sizes}) > 20
  marks = schedules.geometric_marks(jnp.arange(LENGTH + 1), LENGTH, 4, 'dtc')
  error = sizes.std(0) / math.sqrt(ROWS)
  gap = np.abs(sizes.mean(0) - np.diff(marks))
  assert (gap < 4.5 * error + 0.005).all()
  # Positions are uniform: each is as often in the first block.
  first = (out.when == 0).mean(0)
  share = sizes[:, 0].mean() / LENGTH
  assert (np.abs(first - share) < 4.5 * math.sqrt(share / ROWS)).all()


def test_steps_are_traced_and_given_tokens_do_not_count():
  _, traces = runner()
  run(steps=4.0)
  before = len(traces)
  assert (run(steps=2.0).steps == 2).all()
  assert (run(steps=1.0).steps == 1).all()
  assert (run(given=13, steps=99.0).steps == 3).all()
  # `compile` looks at the concrete hyperparameters once per run, and compiles
  # nothing.
  assert len(traces) == before + 3


def test_empty_blocks_cost_nothing():
  out = run(words=(('distribution', 'poisson'),), steps=8.0)
  sizes = block_sizes(out)
  assert ((sizes > 0).sum(1) == out.steps).all()
  assert (sizes[:, 0] > 0).all()  # no step writes nothing
  assert out.steps.min() < out.steps.max() <= 8
  drawn = sizes_drawn(ROWS, LENGTH, LENGTH, 8, 'dtc', 'poisson')
  passes = (drawn > 0).sum(1)
  error = math.hypot(passes.std(), out.steps.std()) / math.sqrt(ROWS)
  assert abs(out.steps.mean() - passes.mean()) < 4.5 * error


def test_random_order_writes_the_sizes_it_is_given():
  sizes = np.array([3.0, 0, 1, 12, 0])
  out = run(sizes=sizes)
  assert (block_sizes(out)[:, :4] == [3, 1, 12, 0]).all()
  # 8 open: 8 (3, 4, 16) / 16 = 1.5 (up), 2, 8; so 2, 6.
  out = run(given=8, sizes=sizes)
  assert (block_sizes(out)[:, :3] == [2, 6, 0]).all()
  assert (run(given=15, sizes=sizes).steps == 1).all()
  exact = samplers.random_order(sizes).traits.exact
  assert (exact['sizes'] == 1).all() and len(exact['sizes']) >= LENGTH


@pytest.mark.parametrize(
  'make, said',
  [
    (lambda: samplers.random_size(0.5), 'steps = 0.5'),
    (lambda: samplers.random_size(np.nan), 'steps = nan'),
    (lambda: samplers.random_size(3, 'td'), 'unknown scheme'),
    (
      lambda: samplers.random_size(3, distribution='normal'),
      'unknown distribution',
    ),
    (lambda: samplers.random_order([1, -1]), 'sizes'),
    (lambda: samplers.random_order([0.0, 0.0]), 'above 0'),
  ],
)
def test_bad_hyperparams(make, said):
  with pytest.raises(ValueError, match=said):
    make()
