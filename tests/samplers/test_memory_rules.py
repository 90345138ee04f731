"""frechet, credit, klass and slowfast, worked by hand and against NumPy.

The models here are clocks: the distribution of a position depends on how many
masks the row has left and on nothing else, so that the whole run can be worked
on paper. `when` is the step that writes each position.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.samplers.credit import earn
from tests.helpers.reference import confident

LENGTH, VOCAB, ROWS = 8, 4, 2
M = VOCAB


def clock(dists):
  """A model of distributions (L + 1, L, V), by the number of masks left."""

  def logits(tokens, valid):
    return jnp.log(dists)[(valid & (tokens == M)).sum(-1)]

  return punt_jax.from_logits(logits, VOCAB)


@functools.cache
def runner(name, blocks=None, **fixed):
  """One compiled run per sampler; fractional numbers are traced."""

  def build(dists, hyperparams):
    sampler = getattr(samplers, name)(**fixed, **hyperparams)
    return clock(dists), samplers.blocks(sampler, blocks) if blocks else sampler

  return punt_jax.compile(build)


def run(name, dists, seed=0, tokens=None, valid=None, blocks=None, **args):
  """Decodes ROWS rows; distributions (L, V) or (L + 1, L, V)."""
  fixed = {k: v for k, v in args.items() if k == 'entries'}
  hyperparams = {k: float(v) for k, v in args.items() if k not in fixed}
  tokens = np.full((ROWS, LENGTH), M) if tokens is None else np.array(tokens)
  dists = np.broadcast_to(dists, (LENGTH + 1, LENGTH, VOCAB)).astype(np.float32)
  decode = runner(name, blocks, **fixed)
  out = decode(dists, hyperparams, jax.random.key(seed), tokens, valid=valid)
  assert np.asarray(out.done).all()
  return jax.device_get(out)


def when(name, dists, **args):
  """The steps that all rows share."""
  steps = run(name, dists, **args).when
  assert (steps == steps[0]).all()
  return steps[0].tolist()


def random_clock(seed, drift):
  """(L + 1, L, V): a random one per position, moved a little each time."""
  rng = np.random.default_rng(seed)
  logits = 1.5 * rng.normal(size=(LENGTH, VOCAB))
  logits = logits + drift * rng.normal(size=(LENGTH + 1, LENGTH, VOCAB))
  return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def best(order, chosen, count):
  """The `count` best of the chosen positions; ties to the left."""
  ranked = sorted(np.flatnonzero(chosen), key=lambda i: (-order[i], i))
  return np.isin(np.arange(len(order)), ranked[: int(count)])


# Best first: 7 (.99), 1 (.95), 3 (.9), 0 (.8), 4 (.6), 5 (.5), 6 (.45), 2 (.4)
LADDER = confident(0.8, 0.95, 0.4, 0.9, 0.6, 0.5, 0.45, 0.99)
CERTAIN = confident(*[1.0] * LENGTH)
ONE_LEFT = [[M, 0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2, M]]

DEFAULTS = {
  'frechet': dict(delta=0.25),
  'credit': dict(tau=0.9, alpha=0.7, gamma=0.2, beta=0.8, entries=8),
  'klass': dict(tau=0.9, epsilon=0.01, history=2.0, k=1.0),
  'slowfast': dict(slow=6.0, reach=0.3, spread=1.0, tau=0.9, k=3.0),
}


@pytest.mark.parametrize('name', DEFAULTS)
def test_defaults(name):
  found = inspect.signature(getattr(samplers, name)).parameters
  assert {k: p.default for k, p in found.items()} == DEFAULTS[name]


@pytest.mark.parametrize(
  'name, wrong',
  [
    ('frechet', dict(delta=-1.01)),
    ('frechet', dict(delta=np.nan)),
    ('credit', dict(tau=-0.1)),
    ('credit', dict(alpha=-0.1)),
    ('credit', dict(gamma=-0.1)),
    ('credit', dict(beta=1.1)),
    ('credit', dict(entries=0)),
    ('klass', dict(tau=np.nan)),
    ('klass', dict(epsilon=-0.1)),
    ('klass', dict(history=-1)),
    ('klass', dict(k=0.5)),
    ('slowfast', dict(slow=0)),
    ('slowfast', dict(reach=-0.1)),
    ('slowfast', dict(spread=-1)),
    ('slowfast', dict(tau=-1)),
    ('slowfast', dict(k=0)),
  ],
)
def test_a_number_out_of_range_is_named(name, wrong):
  (hyperparam,) = wrong
  with pytest.raises(ValueError, match=f'^{hyperparam} = '):
    getattr(samplers, name)(**wrong)


@pytest.mark.parametrize('name', DEFAULTS)
def test_a_single_mask_is_written_at_once(name):
  dist = confident(*[0.3] * LENGTH)
  out = run(name, dist, tokens=ONE_LEFT, **DEFAULTS[name])
  assert out.steps.tolist() == out.meter.nfe.tolist() == [1, 1]


@pytest.mark.parametrize('name', ['credit', 'klass'])
def test_memory_is_small(name):
  """Nothing of the size of the vocabulary, or of L x L, in the carry."""
  features = lambda tokens, valid: jnp.zeros((*tokens.shape, 3))
  head = lambda x: x @ jnp.ones((3, 50))
  model = punt_jax.denoiser.from_features(features, head, 50)
  tokens, flags = jnp.zeros((2, 7), jnp.int32), jnp.ones((2, 7), bool)
  canvas = punt_jax.Canvas(tokens, flags, flags, flags, flags.sum(-1))
  carry = getattr(samplers, name)().init(jax.random.key(0), canvas, model)
  shapes = {x.shape for x in jax.tree.leaves(carry)}
  assert shapes <= {(2, 7), (2, 7, 3), (2, 7, 8)}


# frechet


@pytest.mark.parametrize(
  'delta, expected',
  [
    # Sorted doubts 1 - c: .01 .05 .1 .2 .4 .5 .55 .6, so L: .99 .94 .84 .64
    # .24 0 0 0 and L - U: .98 .89 .74 .44 -.16 -.5 -.55 -.6. Later steps start
    # afresh: of .6 alone L - U is .2, with .5 it is .1 - .5.
    (0.25, [0, 0, 4, 0, 1, 2, 3, 0]),  # {7 1 3 0} and one by one
    (0.9, [3, 1, 7, 2, 4, 5, 6, 0]),
    # {7 1 3 0 4}, then .5 .45 .4: 0, -.55, -.6.
    (-0.2, [0, 0, 3, 0, 0, 1, 2, 0]),
    # .98 ... -.5 for six of them; then 2 L - U: .45: -.1, -.6.
    (-0.52, [0, 0, 2, 0, 0, 0, 1, 0]),
    (-0.58, [0, 0, 1, 0, 0, 0, 0, 0]),  # only because L is never below 0
    (-1.0, [0] * 8),
    (1.0, [3, 1, 7, 2, 4, 5, 6, 0]),
  ],
)
def test_frechet(delta, expected):
  assert when('frechet', LADDER, delta=delta) == expected


def test_frechet_of_certain_positions():
  assert when('frechet', CERTAIN, delta=0.99) == [0] * 8
  assert when('frechet', CERTAIN, delta=1.0) == list(range(8))


def test_frechet_is_the_factor_rule_where_all_are_equally_sure():
  # (n + 1) .2 < .75 and .8 - .2 n > .25 both say n = 2.
  dist = confident(*[0.8] * LENGTH)
  for name, args in ('frechet', dict(delta=0.25)), ('factor', dict(f=0.75)):
    assert np.bincount(when(name, dist, **args)).tolist() == [2, 2, 2, 2]


def test_frechet_writes_more_than_factor_where_they_are_not():
  more = 0
  for seed in range(12):
    c = np.random.default_rng(seed).uniform(0.7, 1, size=LENGTH)
    delta = 0.1 + 0.05 * seed
    ours = run('frechet', confident(*c), delta=delta).when[0] == 0
    theirs = run('factor', confident(*c), f=1 - delta).when[0] == 0
    c = -np.sort(-c)
    gaps = [c[:n].sum() - (n - 1) - (1 - c[n - 1]) for n in range(1, 9)]
    assert ours.sum() == max(1, np.sum(np.array(gaps) > delta))
    assert (ours | ~theirs).all()
    more += ours.sum() > theirs.sum()
  assert more > 3


# credit


@pytest.mark.parametrize(
  'args, counts',
  [
    # All have .6. Credits: .6 ** .2 = .9029; .8 of it and .9029, 1.6252; then
    # 2.2031, 2.6654. (1 + C) ** .7 lifts the odds .6 : .4 to .6 * 1.5689 : .4,
    # that is to .7018; then 1.9651, .7467; 2.2591, .7721; 2.4823, .7883.
    (dict(tau=0.69), [8]),
    (dict(tau=0.71), [1, 7]),
    (dict(tau=0.74), [1, 7]),
    (dict(tau=0.75), [1, 1, 6]),
    (dict(tau=0.78), [1, 1, 1, 5]),
    (dict(tau=0.61, alpha=0.0), [1] * 8),
    (dict(tau=0.705, gamma=0.0), [8]),  # 2 ** .7 = 1.6245, .7090
    (dict(tau=0.75, beta=1.0), [1, 7]),  # 1.8058, 2.0592, .7554
    (dict(tau=0.71, beta=0.0), [1] * 8),  # .7018 for ever
  ],
)
def test_credit_by_hand(args, counts):
  args = DEFAULTS['credit'] | args
  dist = confident(*[0.6] * LENGTH)
  assert np.bincount(when('credit', dist, **args)).tolist() == counts


def credit_reference(dists, tau, alpha, gamma, beta, entries):
  """(when, the boosted distribution at which each position was written)."""
  masked = np.ones(LENGTH, bool)
  written, distribution_then = np.zeros(LENGTH, int), np.zeros((LENGTH, VOCAB))
  credits = np.zeros((LENGTH, VOCAB))
  step = 0
  while masked.any():
    dist = dists[masked.sum()]
    for i in np.flatnonzero(masked):
      top = dist[i].argmax()
      others = np.delete(beta * credits[i], top)
      mine = beta * credits[i, top] + dist[i, top] ** gamma
      if credits[i, top] == 0 and (others > 0).sum() == entries:
        weakest = others[others > 0].min()
        if mine > weakest:
          others[others == weakest] = 0
        else:
          mine = 0
      credits[i] = np.insert(others, top, mine)
    boosted = dist * (1 + credits) ** alpha
    boosted /= boosted.sum(-1, keepdims=True)
    sure = boosted.max(-1)
    kept = masked & (best(sure, masked, 1) | (sure >= tau))
    written[kept], distribution_then[kept] = step, boosted[kept]
    masked &= ~kept
    step += 1
  return written, distribution_then


@pytest.mark.parametrize('entries', [8, 2])
def test_credit_is_the_dense_formula(entries):
  """Also what is drawn: log_q is the boosted distribution's."""
  differs = 0
  for seed in range(12):
    dists = random_clock(seed, drift=1.0)
    args = dict(tau=0.6 + 0.03 * seed, alpha=0.7, gamma=0.2, beta=0.8)
    steps, dist = credit_reference(dists, **args, entries=entries)
    out = run('credit', dists, seed=seed, **args, entries=entries)
    assert out.when[0].tolist() == out.when[1].tolist() == steps.tolist()
    np.testing.assert_allclose(
      out.log_q, np.log(dist[np.arange(LENGTH), out.tokens]).sum(-1), atol=1e-4
    )
    plain = credit_reference(dists, **(args | dict(alpha=0)), entries=entries)
    differs += (plain[0] != steps).any()
  assert differs > 3


def test_entries_change_the_distribution():
  """Where the favorite changes every step, one slot forgets the last."""
  dists = random_clock(3, drift=3.0)
  args = dict(tau=2.0, alpha=2.0, gamma=0.2, beta=0.9)
  one, many = (credit_reference(dists, **args, entries=e)[1] for e in (1, 4))
  assert np.abs(one - many).max() > 0.1
  out = run('credit', dists, **args, entries=1)
  np.testing.assert_allclose(
    out.log_q, np.log(one[np.arange(LENGTH), out.tokens]).sum(-1), atol=1e-4
  )


@pytest.mark.parametrize(
  'token, gain, beta, ids, amounts',
  [
    (9, 0.6, 1.0, [5, 9, 7], [0.5, 0.6, 0.4]),  # the smallest, 8, makes room
    (9, 0.2, 1.0, [5, 8, 7], [0.5, 0.3, 0.4]),  # or stays if it is more
    (8, 0.2, 1.0, [5, 8, 7], [0.5, 0.5, 0.4]),
    (9, 0.2, 0.5, [5, 9, 7], [0.25, 0.2, 0.2]),  # .15 after its decay
    (5, 0.1, 0.0, [5, 8, 7], [0.1, 0.0, 0.0]),
  ],
)
def test_the_smallest_credit_makes_room(token, gain, beta, ids, amounts):
  got = earn(
    jnp.array([5, 8, 7]), jnp.array([0.5, 0.3, 0.4]),
    jnp.array(token), jnp.array(gain), beta,
  )
  assert got[0].tolist() == ids
  np.testing.assert_allclose(got[1], amounts, atol=1e-6)


def test_the_first_credits_take_the_empty_places():
  ids, amounts = jnp.full((3,), VOCAB), jnp.zeros(3)
  for token in (2, 0, 2, 1):
    ids, amounts = earn(ids, amounts, jnp.array(token), jnp.array(1.0), 1.0)
  assert ids.tolist() == [2, 0, 1] and amounts.tolist() == [2, 1, 1]


# klass


@pytest.mark.parametrize(
  'args, expected',
  [
    # Nothing moves. {7} {1}, then what is above tau, then one by one.
    (dict(tau=0.7, history=2), [2, 1, 6, 2, 3, 4, 5, 0]),
    (dict(tau=0.7, history=1), [1, 1, 5, 1, 2, 3, 4, 0]),
    (dict(tau=0.7, history=0), [0, 0, 4, 0, 1, 2, 3, 0]),
    (dict(tau=0.7, history=2, k=2), [1, 0, 3, 1, 2, 2, 3, 0]),
    (dict(tau=0.42, history=2, k=1), [2, 1, 3, 2, 2, 2, 2, 0]),
    (dict(tau=0.42, history=2, epsilon=0), [3, 1, 7, 2, 4, 5, 6, 0]),
  ],
)
def test_klass_where_nothing_moves(args, expected):
  args = DEFAULTS['klass'] | args
  assert when('klass', LADDER, **args) == expected


def test_klass_of_certain_positions():
  args = DEFAULTS['klass']
  assert when('klass', CERTAIN, **args) == [0, 1] + [2] * 6
  args = args | dict(tau=1.0)  # more than tau, not equal
  assert when('klass', CERTAIN, **args) == list(range(8))


def test_klass_compares_nothing_in_the_first_step():
  dist = confident(*[1 / VOCAB] * LENGTH)
  got = when('klass', dist, tau=0.2, epsilon=0.01, history=1, k=1)
  assert got == [0] + [1] * 7


@pytest.mark.parametrize(
  'epsilon, expected',
  [
    # Between steps 1 and 2 (7 and 6 masks) position 3 goes from .9 .05 .05 to
    # .9 .02 .08: KL(now || before) = .02 ln .4 + .08 ln 1.6 = .0193, while
    # KL(before || now) = .05 ln 2.5 + .05 ln .625 = .0223. If that is too much
    # it misses step 2, has one quiet step at 3, where it is the surest.
    (0.01, [2, 1, 7, 3, 4, 5, 6, 0]),
    (0.0208, [2, 1, 6, 2, 3, 4, 5, 0]),
  ],
)
def test_klass_waits_for_what_moves(epsilon, expected):
  dists = np.tile(LADDER, (LENGTH + 1, 1, 1))
  dists[:, 3] = [0.05, 0.05, 1e-9, 0.9]
  dists[:7, 3] = [0.02, 0.08, 1e-9, 0.9]
  args = DEFAULTS['klass'] | dict(tau=0.7, epsilon=epsilon)
  assert when('klass', dists, **args) == expected


def test_klass_forgets_at_the_end_of_a_block():
  # Blocks of 4: {1} {3} {0} {2}, {7} {4}, then 5 and 6 together: both above
  # .42 and quiet for two steps of their block.
  got = when('klass', LADDER, tau=0.42, blocks=4)
  assert got == [2, 0, 3, 1, 5, 6, 6, 4]


def klass_reference(dists, tau, epsilon, history, k):
  masked, before = np.ones(LENGTH, bool), None
  quiet, written, step = np.zeros(LENGTH), np.zeros(LENGTH, int), 0
  while masked.any():
    dist = dists[masked.sum()]
    if before is not None:
      moved = (dist * np.log(dist / before)).sum(-1)
      quiet = np.where(moved < epsilon, quiet + 1, 0)
    before, sure = dist, dist.max(-1)
    kept = masked & (quiet >= history) & (sure > tau)
    if not kept.any():
      kept = best(sure, masked, k)
    written[kept] = step
    masked &= ~kept
    step += 1
  return written.tolist()


def test_klass_is_its_reference():
  quick = 0
  for seed in range(20):
    dists = random_clock(seed, drift=0.15)
    args = dict(
      tau=0.4 + 0.02 * seed, epsilon=0.03, history=1 + seed % 2, k=1 + seed % 3
    )
    expected = klass_reference(dists, **args)
    assert when('klass', dists, **args) == expected
    quick += max(expected) < 7 // args['k']
  assert quick > 3


# slowfast


@pytest.mark.parametrize(
  'args, expected',
  [
    # Both slow steps see all 8 positions: {0} {2}. Then none is above .9, so
    # the 3 surest twice: {4 5 1} {6 3 7}.
    (dict(), [0, 2, 1, 3, 2, 2, 3, 3]),
    (dict(tau=0.52), [0, 3, 1, 3, 2, 2, 3, 4]),  # {4 5} {1 6 3} {7}
    (dict(k=1), [0, 4, 1, 6, 2, 3, 5, 7]),
    (dict(slow=1), [0, 2, 1, 3, 2, 2, 3, 3]),  # fast from step 1: {2} alone
    (dict(spread=0), [0, 4, 1, 6, 2, 3, 5, 6]),  # 6 slow steps, then {3 7}
  ],
)
def test_slowfast_fills_the_whole_canvas(args, expected):
  args = DEFAULTS['slowfast'] | args
  dist = confident(0.95, 0.5, 0.92, 0.4, 0.6, 0.55, 0.45, 0.35)
  assert when('slowfast', dist, **args) == expected


def test_slowfast_spans():
  # The first three are above .3. Slow: {0} {1}, both see 3, so the span ends
  # there. Fast: {2}. Slow: nothing is above .3, so the span ends behind the
  # first mask: 4 and 4, writing {6} {7}. Fast: {3}. Slow: 5, writing {4}, then
  # 6, writing {5}.
  dist = confident(0.95, 0.6, 0.5, 0.25, 0.25, 0.25, 0.28, 0.26)
  args = DEFAULTS['slowfast']
  assert when('slowfast', dist, **args) == [0, 1, 2, 5, 6, 7, 3, 4]


# Position 7 has .5 while 8 or 6 masks are left, so it is seen at steps 0 and 2.
BLINK = np.tile(
  confident(0.95, 0.94, 0.93, 0.7, 0.28, 0.27, 0.26, 0.25), (LENGTH + 1, 1, 1)
)
BLINK[[8, 6], 7] = confident(*[0.5] * 8)[7]


@pytest.mark.parametrize(
  'args, expected',
  [
    # Seen 8, 4 and 8, never within 2 of the last. After 3 steps, {0} {1} {2},
    # the span ends at (4 + 8) // 2 = 6: {3 4 5}. Slow again: {6} {7}.
    (dict(slow=3), [0, 1, 2, 3, 3, 3, 4, 5]),
    (dict(slow=3, tau=0.6), [0, 1, 2, 3, 4, 4, 5, 6]),  # {3} {4 5}
    (dict(slow=2, tau=0.6), [0, 1, 2, 2, 3, 3, 4, 5]),  # {0} {1} {2 3} {4 5}
    # Half of 4 is below 2.1: settled at 4 after {0} {1}. Fast: {2} {3}. Slow:
    # only the first mask is seen, 5, 6 and so on: {4} {5}, {6} {7}.
    (dict(spread=2.1), [0, 1, 2, 3, 4, 5, 6, 7]),
    (dict(spread=2.1, tau=0.6), [0, 1, 2, 2, 3, 4, 5, 6]),
  ],
)
def test_slowfast_ends_a_slow_phase(args, expected):
  args = DEFAULTS['slowfast'] | args
  assert when('slowfast', BLINK, **args) == expected


def test_slowfast_counts_open_positions():
  # 3 and 4 are given in row 0 and padding in row 1. Slow: {0}, 2 is the last
  # that is seen, place 3; then {1}, and 5 is seen, place 4: settled. Fast:
  # {2 5}. Slow: {6} {7}.
  tokens = np.full((ROWS, LENGTH), M)
  tokens[0, 3:5] = 0
  valid = np.ones(tokens.shape, bool)
  valid[1, 3:5] = False
  dist = confident(0.95, 0.94, 0.5, 1, 1, 0.25, 0.28, 0.27)
  dists = np.tile(dist, (LENGTH + 1, 1, 1))
  dists[:6, 5] = confident(*[0.4] * 8)[5]
  args = DEFAULTS['slowfast'] | dict(tokens=tokens, valid=valid)
  out = run('slowfast', dists, **args)
  assert (out.when == [0, 1, 2, -1, -1, 2, 3, 4]).all()
  # Blocks of 3, {0 1 2} and {5 6 7}: slow {0} {1}, fast {2}; slow {6} {7}, the
  # first mask being all that is seen, fast {5}.
  out = run('slowfast', dist, blocks=3, **args)
  assert (out.when == [0, 1, 2, -1, -1, 5, 3, 4]).all()


def slowfast_reference(dists, slow, reach, spread, tau, k):
  masked, written, step = np.ones(LENGTH, bool), np.zeros(LENGTH, int), 0
  seen, end = [], 0

  def write(kept):
    nonlocal step
    written[kept] = step
    masked[kept] = False
    step += 1

  while masked.any():
    sure = dists[masked.sum()].max(-1)
    far = np.flatnonzero(masked & (sure >= reach))
    seen.append((far[-1] if len(far) else np.flatnonzero(masked)[0]) + 1)
    write(best(sure, masked, 1))
    if len(seen) > 1 and np.std(seen[-2:]) < spread:
      end = seen[-1]
    elif len(seen) >= slow:
      end = int(np.mean(seen[-2:]))
    else:
      continue
    while masked[:end].any():
      span = masked & (np.arange(LENGTH) < end)
      sure = dists[masked.sum()].max(-1)
      high = span & (sure >= tau)
      write(high if high.any() else best(sure, span, k))
    seen = []
  return written.tolist()


def test_slowfast_is_its_reference():
  steps = []
  for seed in range(20):
    args = dict(
      slow=2 + seed % 3, reach=0.6 + 0.01 * seed, tau=0.7, k=1 + seed % 2,
      spread=0.5 + seed % 4 / 2,
    )
    dists = random_clock(seed, drift=0.5)
    expected = slowfast_reference(dists, **args)
    assert when('slowfast', dists, **args) == expected
    steps.append(max(expected))
  assert len(set(steps)) > 2
