"""Information curves and block sizes, against enumeration in float64.

The identity is checked against the KL of every ordered partition, the sizes
against every composition, the estimate against the exact profile of a chain.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax import metrics, oracles, schedules
from tests.helpers import reference


def distribution_of(world):
  """The (V,) * n distribution of a world in float64."""
  shape = (world.vocab,) * world.length
  canvases = np.indices(shape).reshape(world.length, -1).T
  joint = np.exp(np.asarray(world.log_prob(canvases), np.float64))
  return joint.reshape(shape) / joint.sum()


def marginal(dist, kept):
  """Summed over all axes but `kept`, which stay in place."""
  gone = tuple(a for a in range(dist.ndim) if a not in kept)
  return dist.sum(gone, keepdims=True)


def entropy(dist):
  dist = dist[dist > 0]
  return -(dist * np.log(dist)).sum()


def kl_of(dist, blocks):
  """KL(p || q) in nats, q drawing each block's positions on their own."""
  possible = dist > 0
  log = lambda kept: np.log(
    np.broadcast_to(marginal(dist, kept), dist.shape)[possible]
  )
  gap, known = np.log(dist[possible]), ()
  for block in blocks:
    for i in block:
      gap -= log((*known, i)) - log(known)
    known += tuple(block)
  return (dist[possible] * gap).sum()


def partitions(places, sizes):
  """All ways to fill blocks of these sizes, in order."""
  if not sizes:
    yield ()
    return
  for block in itertools.combinations(places, sizes[0]):
    rest = [i for i in places if i not in block]
    for others in partitions(rest, sizes[1:]):
      yield (block, *others)


def compositions(n):
  """All lists of sizes >= 1 with sum n."""
  for cuts in itertools.product((False, True), repeat=n - 1):
    marks = [0, *(i + 1 for i in range(n - 1) if cuts[i]), n]
    yield tuple(np.diff(marks).tolist())


WORLDS = {
  'table': lambda: oracles.random_table(jax.random.key(0), 4, 3),
  'parity': lambda: oracles.parity(5, [(0, 1, 2), (2, 3, 4)]),
  'product': lambda: oracles.product(
    jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
  ),
  'chain': lambda: oracles.random_chain(jax.random.key(2), 6, 2, 2.0),
}


@functools.cache
def known_world(name):
  """(its distribution, its exact profile)."""
  world = WORLDS[name]()
  return distribution_of(world), schedules.exact_profile(world)


@pytest.mark.parametrize('name', WORLDS)
def test_the_identity_equals_all_ordered_partitions(name):
  dist, profile = known_world(name)
  n = dist.ndim
  lists = [(1,) * n, (n,), (1, n - 1), (n - 1, 1), (2,) * (n // 2) + (1,) * (
    n % 2), (1, 0, 2) + (n - 3,) * (n > 3)]
  found = []
  for sizes in lists:
    costs = [kl_of(dist, blocks) for blocks in partitions(range(n), sizes)]
    assert len(costs) == math.factorial(n) / math.prod(
      math.factorial(s) for s in sizes
    )
    found.append(schedules.expected_kl(profile, sizes))
    assert found[-1] == pytest.approx(np.mean(costs), abs=1e-6)
  assert found[0] == pytest.approx(0, abs=1e-9)  # one by one costs nothing
  assert (max(found) > 0.1) == (name != 'product')


@pytest.mark.parametrize('name', WORLDS)
def test_tc_and_dtc_equal_their_definitions(name):
  dist, profile = known_world(name)
  places = range(dist.ndim)
  each = sum(entropy(marginal(dist, (i,))) for i in places)
  last = sum(
    entropy(dist) - entropy(dist.sum(i)) for i in places
  )  # H(X_i | the rest)
  tc = schedules.total_correlation(profile)
  dtc = schedules.dual_total_correlation(profile)
  assert tc == pytest.approx(each - entropy(dist), abs=1e-9)
  assert dtc == pytest.approx(entropy(dist) - last, abs=1e-9)
  assert profile.sum() == pytest.approx(entropy(dist))
  assert schedules.expected_kl(profile, [dist.ndim]) == pytest.approx(tc)
  if name == 'parity':  # two checks on five bits, every pair independent
    np.testing.assert_allclose(profile[:2], math.log(2))
    assert tc == pytest.approx(2 * math.log(2))


N, ROWS, FEW = 12, 8192, 1024


@functools.cache
def chain():
  """(world, its profile, ROWS of its rows, their nats by teacher forcing)."""
  world = oracles.random_chain(jax.random.key(3), N, 2, 2.0)
  rows = np.asarray(world.sample(jax.random.key(4), ROWS))
  nats = schedules.teacher_force(
    lambda _: oracles.as_denoiser(world), (), jax.random.key(5), rows,
    at_once=3000,
  )
  return world, schedules.exact_profile(world), rows, nats


@pytest.mark.parametrize('sizes', [[6, 6], [1, 11], [1, 2, 3, 6], [3] * 4])
def test_the_identity_equals_teacher_forcing(sizes):
  _, profile, _, nats = chain()
  expected = schedules.expected_kl(profile, sizes)
  found = metrics.estimate(schedules.forced_kl(nats, sizes))
  assert abs(found.mean - expected) < 4 * found.stderr
  assert 4 * found.stderr < expected / 5  # a wrong identity would show


def test_teacher_forcing_one_by_one_is_the_log_probability():
  world, _, rows, nats = chain()
  place = np.arange(N)
  log_p = -nats[:, place, place].sum(-1)
  np.testing.assert_allclose(log_p, world.log_prob(rows), atol=1e-4)
  assert (nats[:, place[:, None] > place] == 0).all()  # known tokens
  # Each row may have its own sizes.
  sizes = np.tile([[4, 4, 4], [12, 0, 0]], (ROWS // 2, 1))
  both = schedules.forced_kl(nats, sizes)
  for row, own in enumerate([[4, 4, 4], [12]]):
    alone = schedules.forced_kl(nats, own)
    np.testing.assert_array_equal(both[row::2], alone[row::2])


def estimated(by, counts=None):
  world, _, rows, _ = chain()
  return schedules.estimate_profile(
    lambda _: oracles.as_denoiser(world), (), jax.random.key(6), rows[:FEW],
    counts, by, at_once=FEW,
  )


def test_the_estimate_equals_the_exact_profile():
  _, profile, _, _ = chain()
  errors = {}
  for by in ('token', 'entropy'):
    found = estimated(by)
    assert found.shape == (FEW, N)
    for value in (
      lambda x: x, schedules.curve, schedules.total_correlation,
      schedules.dual_total_correlation,
      lambda x: schedules.expected_kl(x, [2, 4, 6]),
    ):
      each = value(found)
      error = each.std(0, ddof=1) / math.sqrt(FEW)
      gap = np.abs(each.mean(0) - value(profile))
      assert (gap <= 4 * error + 1e-6).all(), by
    errors[by] = found.std(0).sum()
  assert errors['entropy'] < errors['token'] / 1.5


def test_between_the_counts_lie_straight_lines():
  counts = schedules.grid(N, 4)
  assert counts.tolist() == [0, 3, 8, 11]
  every, few = estimated('token'), estimated('token', counts)
  np.testing.assert_allclose(few[:, counts], every[:, counts], rtol=1e-5)
  np.testing.assert_allclose(
    few[:, 5], 0.6 * every[:, 3] + 0.4 * every[:, 8], rtol=1e-5
  )
  assert schedules.grid(5).tolist() == [0, 1, 2, 3, 4]
  assert schedules.grid(1).tolist() == [0]


def curves(n):
  """Profiles of several shapes; the last one is no distribution's."""
  rng = np.random.default_rng(n)
  i = np.arange(n)
  return [
    np.exp(-i / 2.0),
    1.0 - (i / n) ** 4,
    np.sort(rng.random(n))[::-1],
    np.where(i < n // 2, 1.0, 0.2),
    rng.random(n),
  ]


@pytest.mark.parametrize('n', [1, 2, 5, 9])
def test_optimal_sizes_beat_every_composition(n):
  for profile in curves(n):
    best = {}
    for sizes in compositions(n):
      cost = schedules.expected_kl(profile, sizes)
      best[len(sizes)] = min(cost, best.get(len(sizes), np.inf))
    assert len(best) == n
    for k, cost in best.items():
      sizes = schedules.optimal(profile, k)
      assert len(sizes) == k and sizes.min() >= 1 and sizes.sum() == n
      assert schedules.expected_kl(profile, sizes) == pytest.approx(cost)


@pytest.mark.parametrize('n', [1, 2, 9, 64])
def test_inverse_root_has_k_blocks(n):
  for profile in curves(n):
    for k in {1, 2, n // 2, n - 1, n} & set(range(1, n + 1)):
      sizes = schedules.inverse_root(profile, k)
      assert len(sizes) == k and sizes.min() >= 1 and sizes.sum() == n


def test_inverse_root_is_close_to_the_best():
  # Z' = exp(-i / 20): sizes in proportion to exp(N / 40), the last and the
  # first to exp(64 / 40) = 5.
  smooth = 20 * np.exp(-np.arange(64) / 20)
  sizes = schedules.inverse_root(smooth, 16)
  assert 2.5 < sizes[-1] / sizes[0] < 6
  best = schedules.expected_kl(smooth, schedules.optimal(smooth, 16))
  assert schedules.expected_kl(smooth, sizes) < 1.05 * best
  # A flat curve: equal sizes.
  assert schedules.inverse_root(np.ones(12), 4).tolist() == [3, 3, 3, 3]


def test_guarantees_hold_and_are_reached():
  rng = np.random.default_rng(0)
  for sizes in compositions(8):
    a, b = schedules.guarantee(sizes)
    for _ in range(3):
      profile = np.sort(rng.exponential(size=8) ** 3)[::-1]
      cost = schedules.expected_kl(profile, sizes)
      assert cost <= a * schedules.total_correlation(profile) + 1e-9
      assert cost <= b * schedules.dual_total_correlation(profile) + 1e-9
  # All that is to be known is known after one, two, ... tokens.
  falls = [np.where(np.arange(8) < m, 1.0, 0.0) for m in range(1, 8)]
  for sizes in ([2, 3, 3], [8], [1, 1, 2, 4]):
    a, b = schedules.guarantee(sizes)
    cost = np.array([schedules.expected_kl(x, sizes) for x in falls])
    tc = [schedules.total_correlation(x) for x in falls]
    dtc = [schedules.dual_total_correlation(x) for x in falls]
    assert (cost / tc).max() == pytest.approx(a)
    assert (cost / dtc).max() == pytest.approx(b)


def test_geometric_sizes_by_hand():
  sizes = lambda scheme, k, n: schedules.sizes_of(
    schedules.geometric(k, scheme), n
  ).tolist()
  assert sizes('dtc', 5, 31) == [1, 2, 4, 8, 16]
  assert sizes('tc', 5, 31) == [16, 8, 4, 2, 1]
  assert sizes('dtc', 3, 13) == [1, 3, 9]
  for scheme in schedules.SCHEMES:
    assert sizes(scheme, 1, 9) == [9]
    assert sizes(scheme, 9, 9) == sizes(scheme, 99.0, 9) == [1] * 9
    for k in range(1, 40, 3):
      found = sizes(scheme, k, 40)
      assert len(found) == k and sum(found) == 40
  # r = 2: a block may add once what is known, or leave half of what is left.
  assert schedules.guarantee([1, 2, 4, 8, 16])[1] == 15 / 16
  assert schedules.guarantee([16, 8, 4, 2, 1])[0] == 0.5


def noisy_copies(n, flip):
  """The profile of n copies of one even bit, each flipped with this chance."""
  entropies = [0.0]
  for m in range(1, n + 1):
    k = np.arange(m + 1)
    p = flip**k * (1 - flip) ** (m - k)
    p = (p + p[::-1]) / 2
    ways = np.array([math.comb(m, i) for i in k], float)
    entropies.append(-(ways * p * np.log(p)).sum())
  return np.diff(entropies)


def parities(n, size):
  """The profile of n bits in groups of this size, each of even parity."""
  told = [math.comb(n - size, i - size + 1) if i >= size - 1 else 0
          for i in range(n)]
  ways = np.array([math.comb(n - 1, i) for i in range(n)], float)
  return math.log(2) * (1 - np.array(told) / ways)


def test_these_profiles_are_right():
  joint = np.zeros((2,) * 5)
  for x in np.ndindex(joint.shape):
    joint[x] = sum(
      np.prod([0.9 if a == b else 0.1 for a in x]) / 2 for b in (0, 1)
    )
  world = oracles.table(jnp.log(joint))
  np.testing.assert_allclose(
    noisy_copies(5, 0.1), schedules.exact_profile(world), atol=1e-6
  )
  world = oracles.parity(6, [(0, 1, 2), (3, 4, 5)])
  np.testing.assert_allclose(
    parities(6, 3), schedules.exact_profile(world), atol=1e-6
  )


@pytest.mark.parametrize(
  'profile, scheme, size, other, equal_needs',
  [
    (noisy_copies(64, 0.1), 'dtc', 'dual_total_correlation',
     'total_correlation', 32),
    (parities(64, 8), 'tc', 'total_correlation', 'dual_total_correlation', 17),
  ],
)
def test_geometric_schedules_where_one_correlation_is_small(
  profile, scheme, size, other, equal_needs
):
  small, large = (getattr(schedules, x)(profile) for x in (size, other))
  assert small < large / 5
  cost = lambda schedule: schedules.expected_kl(
    profile, schedules.sizes_of(schedule, 64)
  )
  steps = 10  # between log2(64) and twice that
  reached = cost(schedules.geometric(steps, scheme))
  assert reached < math.log(64) / steps * small
  equal = [cost(schedules.even(k)) for k in range(1, 65)]
  assert min(equal[: equal_needs - 1]) > reached
  wrong = [name for name in schedules.SCHEMES if name != scheme]
  assert cost(schedules.geometric(steps, *wrong)) > 5 * reached


def test_listed_sizes_are_stretched_and_leave_out_empty_steps():
  run = lambda sizes, total: schedules.sizes_of(
    schedules.listed(np.array(sizes)), total
  ).tolist()
  assert run([2, 0, 3, 1], 6) == [2, 3, 1]
  assert run([2, 0, 3, 1], 12) == [4, 6, 2]
  # 8 (2, 5, 6) / 6 = 2.67, 6.67, 8
  assert run([2, 0, 3, 1], 8) == [3, 4, 1]
  # 2 (2, 5, 6) / 6 = .67, 1.67, 2
  assert run([2, 0, 3, 1], 2) == [1, 1]
  assert run([0, 0, 0, 7], 3) == [3]
  assert run(np.ones(4096), 5) == [1] * 5


def test_isotonic_by_hand_and_by_search():
  np.testing.assert_allclose(
    schedules.isotonic([3, 1, 2, 0, 5]), [3, 2, 2, 2, 2]
  )
  np.testing.assert_allclose(schedules.isotonic([3, 2, 2, 1]), [3, 2, 2, 1])
  rng = np.random.default_rng(0)
  for _ in range(20):
    noisy = rng.normal(size=6)
    fit = schedules.isotonic(noisy)
    assert (np.diff(fit) <= 1e-12).all()
    others = -np.sort(-(fit + rng.normal(size=(500, 6)) / 5), axis=1)
    assert ((others - noisy) ** 2).sum(1).min() >= ((fit - noisy) ** 2).sum()


PROFILE = np.array([1.0, 0.5, 0.25])


@pytest.mark.parametrize(
  'call, said',
  [
    (lambda: schedules.expected_kl(PROFILE, [1, 1]), 'with sum 3'),
    (lambda: schedules.expected_kl(PROFILE, [4, -1]), 'whole numbers >= 0'),
    (lambda: schedules.expected_kl(PROFILE, [1.5, 1.5]), 'whole numbers >= 0'),
    (lambda: schedules.expected_kl([1, np.nan, 0], [3]), 'finite numbers'),
    (lambda: schedules.optimal([1, np.inf, 0], 2), 'finite numbers'),
    (lambda: schedules.optimal(PROFILE, 0), '3 positions .* into 0 blocks'),
    (lambda: schedules.optimal(PROFILE, 4), '3 positions .* into 4 blocks'),
    (lambda: schedules.inverse_root(PROFILE, 1.5), 'into 1.5 blocks'),
    (lambda: schedules.geometric(0.0), 'steps = 0'),
    (lambda: schedules.geometric(3, 'td'), 'unknown scheme'),
    (lambda: schedules.listed([1, np.nan]), 'sizes'),
    (lambda: schedules.listed([0, 0]), 'above 0'),
    (lambda: schedules.exact_profile(oracles.random_chain(
      jax.random.key(0), 30, 2)), 'too many to enumerate'),
    (lambda: schedules.forced_kl(np.zeros((2, 2, 3)), [3]), 'all 3 counts'),
    (lambda: estimated('words'), 'unknown by'),
    (lambda: estimated('token', [0, 5]), 'increase from 0 to 11'),
  ],
)
def test_bad_input_is_one_sentence(call, said):
  with pytest.raises(ValueError, match=said) as caught:
    call()
  assert '\n' not in str(caught.value)


def test_an_impossible_row_is_named():
  world = oracles.parity(3, [(0, 1, 2)])
  with pytest.raises(ValueError, match='row 1 holds a token'):
    schedules.estimate_profile(
      lambda _: oracles.as_denoiser(world), (), jax.random.key(0),
      np.array([[0, 0, 0], [0, 0, 1]]),
    )


def test_reference_chain_of_the_rows():
  """The conditionals that teacher forcing reads are the distribution's."""
  world, _, rows, nats = chain()
  dist = distribution_of(world)
  # With all but one known, the last of the order is the only one hidden.
  last = np.exp(-nats[:20, -1, -1])
  hidden = []
  for row in rows[:20]:
    found = []
    for i in range(N):
      canvas = row.copy()
      canvas[i] = 2
      found.append(reference.conditionals(dist, canvas)[i, row[i]])
    hidden.append(found)
  assert (np.abs(np.array(hidden) - last[:, None]).min(1) < 1e-5).all()


@pytest.mark.parametrize(
  'call, said',
  [
    (lambda: schedules.listed(3), r'sizes must be a list \(K,\) of numbers'),
    (lambda: schedules.even(0), 'steps = 0 is out of range'),
    (lambda: schedules.cosine(0.5), 'steps = 0.5 is out of range'),
    (lambda: schedules.arccos(float('nan')), 'steps = nan is out of range'),
  ],
)
def test_bad_counts_are_one_sentence(call, said):
  with pytest.raises(ValueError, match=said):
    call()


def test_worlds_are_enumerated_up_to_a_bound(monkeypatch):
  world = oracles.product(np.zeros((4, 2)))
  monkeypatch.setattr(schedules.information, 'MOST', 3**4)
  np.testing.assert_allclose(
    schedules.exact_profile(world), np.log(2), rtol=1e-6
  )
  monkeypatch.setattr(schedules.information, 'MOST', 3**4 - 1)
  with pytest.raises(ValueError, match=r'3 \*\* 4 partial canvases'):
    schedules.exact_profile(world)
