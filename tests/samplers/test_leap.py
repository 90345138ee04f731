"""Samplers driven by time: when they write, what they take back, what it costs.

Most tests use a model whose distribution does not depend on the canvas: what is
written and remasked when is then all there is to see.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import denoiser, samplers
from punt_jax.decode import film
from punt_jax.oracles import as_denoiser, table
from punt_jax.types import Canvas
from tests.helpers import reference

ROWS, LENGTH, VOCAB, STEPS = 64, 64, 4, 8
EVEN = np.full((LENGTH, VOCAB), 1 / VOCAB, np.float32)
MASKED = np.full((ROWS, LENGTH), VOCAB)
FOUR = np.where(np.arange(LENGTH) < 4, MASKED, 0)  # four open positions
calls = []


@functools.cache
def runner(name, **fixed):
  """A film of at most STEPS steps, compiled once per sampler."""

  def build(dists, hyperparams):
    dist, alone = jnp.log(jnp.asarray(dists))

    def logits(tokens, valid):
      if name == 'ancestral':  # code with callbacks is not kept on disk
        jax.debug.callback(lambda: calls.append(1))
      any_seen = (tokens != VOCAB).any(-1)[:, None, None]
      return jnp.where(any_seen, dist, alone)

    sampler = getattr(samplers, name)(**fixed, **hyperparams)
    return denoiser.from_logits(logits, VOCAB), sampler

  return punt_jax.compile(build, driver=film, max_steps=STEPS)


def run(
  name, tokens=MASKED, seed=0, dist=EVEN, alone=None, given=None, **args
):
  """(Decoded, Move of every step) on the host.

  distribution (L, V) is the model's wherever the canvas shows a token, and
  `alone`, the same by default, where it shows none.
  """
  fixed = {k: v for k, v in args.items() if isinstance(v, str)}
  hyperparams = {k: v for k, v in args.items() if k not in fixed}
  go = runner(name, **fixed)
  dists = np.stack([dist, dist if alone is None else alone])
  out, moves = go(dists, hyperparams, jax.random.key(seed), tokens, given=given)
  return jax.device_get((out, moves))


def times(out, moves):
  """(B, L) the time at which each position was last written."""
  return np.take_along_axis(moves.info.time.T, np.maximum(out.when, 0), 1)


@functools.cache
def waiter(name, path):
  """Compiled (steps, keys (N,)) -> Clock: N rows of one masked position."""

  def first(steps, keys):
    yes = jnp.ones((len(keys), 1), bool)
    canvas = Canvas(
      jnp.full(yes.shape, VOCAB), yes, yes, yes, yes.sum(-1)
    )
    return getattr(samplers, name)(steps, path).init(keys, canvas, None)

  return jax.jit(first)


@pytest.mark.parametrize(
  'name, path, steps, shares',
  [
    ('ancestral', 'linear', 4.0, [0.25, 0.25, 0.25, 0.25]),
    ('ancestral', 'linear', 2.5, [0.4, 0.4, 0.2]),
    # Masked: sin(pi/2 t) = 1, .866, .5, 0 at t = 1, 2/3, 1/3, 0.
    ('ancestral', 'cosine', 3.0, [0.1340, 0.3660, 0.5]),
    # Rate pi/2 cot(pi/2 t): 0 at t = 1, and .9069 / 3 of a step at t = 2/3.
    # At 1/3 it would be 2.7207 / 3 = .907, but the last step takes all.
    ('euler', 'cosine', 3.0, [0.0, 0.3023, 0.6977]),
    # At 3/4: .6506 / 4 = .1627; at 1/2: 1.5708 / 4 = .3927.
    ('euler', 'cosine', 4.0, [0.0, 0.1627, 0.8373 * 0.3927, 0.8373 * 0.6073]),
  ],
)
def test_when_a_position_is_written(name, path, steps, shares):
  keys = jax.random.split(jax.random.key(0), 4096)
  clock = waiter(name, path)(steps, keys)
  assert clock.kept.all() and not clock.dropped.any()
  counts = np.bincount(clock.index, minlength=len(shares) + 1)
  assert counts[0] == 0 and reference.fits(counts[1:], np.array(shares))


@pytest.mark.parametrize('steps', [1.0, 3.0, 7.0])
def test_euler_is_ancestral_on_the_linear_path(steps):
  keys = jax.random.split(jax.random.key(1), 4096)
  a, b = (waiter(n, 'linear')(steps, keys) for n in ('ancestral', 'euler'))
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert set(a.index.tolist()) == set(range(1, int(steps) + 1))


@pytest.mark.parametrize(
  'steps, calls_per_row',
  [
    (1.0, 1.0),
    # Four positions at two times: both times are hit unless all four agree.
    (2.0, 2 * (1 - 0.5**4)),
    # Different times among four of 100 equally likely ones.
    (100.0, 100 * (1 - 0.99**4)),
  ],
)
def test_a_time_without_a_write_costs_no_call(steps, calls_per_row):
  calls.clear()
  out, moves = run('ancestral', FOUR, path='linear', steps=steps)
  jax.effects_barrier()
  assert out.done.all()
  assert len(calls) == out.meter.forwards == out.meter.nfe.max() <= 4
  different = [len(set(row[:4])) for row in times(out, moves)]
  for count in (out.meter.nfe, out.meter.depth, out.steps):
    np.testing.assert_array_equal(count, different)
  assert abs(out.meter.nfe.mean() - calls_per_row) < 4 * np.sqrt(0.12 / ROWS)


def test_a_row_that_was_ended_early_pays_no_more():
  joint = reference.random_joint(0, 5, 3)
  build = lambda p, _: (
    as_denoiser(table(jnp.log(p))), samplers.stop(samplers.ancestral(20.0), 1)
  )
  decode = punt_jax.compile(build)
  empty = np.full((8, 5), 3)
  together = decode(joint, (), jax.random.key(0), empty)
  assert (together.meter.nfe == together.steps).all()
  assert together.meter.nfe.min() < together.meter.nfe.max()


def test_ancestral_tends_to_the_exact_distribution():
  joint = reference.random_joint(3, 4, 2, sharpness=1.5)
  build = lambda p, k: (as_denoiser(table(jnp.log(p))), samplers.ancestral(k))
  decode = punt_jax.compile(build)
  tokens = np.full((4096, 4), 2)

  def tv(steps):
    out = decode(joint, steps, jax.random.key(1), tokens)
    assert np.asarray(out.done).all()
    share = reference.histogram(np.asarray(out.tokens), 2) / len(tokens)
    return np.abs(share - joint).sum() / 2

  far, near, close = tv(1.0), tv(2.0), tv(64.0)
  assert far > 1.5 * near > 6 * close  # close: what 4096 samples leave
  assert close < 0.03


def test_hitting_times_are_uniform_ones_in_order():
  """The k-th largest of N uniforms has the mean (N + 1 - k) / (N + 1)."""
  outs = [run('first_hitting', FOUR, seed=seed) for seed in range(16)]
  hits = np.concatenate([moves.info.time[:4].T for _, moves in outs])
  when = np.concatenate([out.when[:, :4] for out, _ in outs])
  assert all((out.steps == 4).all() for out, _ in outs)
  assert (np.diff(hits) < 0).all() and (hits > 0).all()
  variance = np.array([4, 6, 6, 4]) / (25 * 6)
  error = 4 * np.sqrt(variance / len(hits))
  assert (abs(hits.mean(0) - [0.8, 0.6, 0.4, 0.2]) < error).all()
  np.testing.assert_allclose(hits.var(0), variance, rtol=0.2)
  counts = np.histogram(hits, 10, (0, 1))[0]
  assert reference.fits(counts, np.ones(10))
  orders = np.unique(when, axis=0, return_counts=True)[1]
  assert len(orders) == 24 and reference.fits(orders, np.ones(24))


def test_hitting_times_count_open_positions_only():
  tokens = np.where(np.arange(LENGTH) % 32 == 5, MASKED, 0)
  outs = [run('first_hitting', tokens, seed=seed) for seed in range(8)]
  hits = np.concatenate([moves.info.time[:2].T for _, moves in outs])
  assert (abs(hits.mean(0) - [2 / 3, 1 / 3]) < 4 * np.sqrt(1 / 18 / 512)).all()


# How T = 8 steps go: eta, and the masked share after each.
LINEAR = 1 - np.arange(1, 9) / 8
HELD = [0.6, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.0]
LOOP = dict(t_on=0.75, t_off=0.25, alpha_on=0.8)


@pytest.mark.parametrize(
  'strategy, eta, more, path, remasked, written',
  [
    # From t = 1/2 to 3/8: sigma_max = .375 / .5 = .75. With sigma = .3 a mask
    # is written with (.625 - .7 * .5) / .5 = .55.
    ('cap', 0.3, {}, LINEAR, 0.3, 0.55),
    ('cap', 1.0, {}, LINEAR, 0.75, 1.0),  # (.625 - .25 * .5) / .5
    ('rescale', 0.4, {}, LINEAR, 0.3, 0.55),
    # alpha stays .8: sigma_max = .2 / .8 = .25; (.8 - .8 * .8) / .2 = .8.
    ('loop', 0.2, LOOP, HELD, 0.2, 0.8),
    ('loop', 0.6, LOOP, HELD, 0.25, 1.0),
  ],
)
def test_remdm_by_hand(strategy, eta, more, path, remasked, written):
  out, moves = run('remdm', steps=8.0, strategy=strategy, eta=eta, **more)
  assert out.done.all() and (out.steps == 8).all()
  hidden = moves.tokens == VOCAB
  share = hidden.mean((1, 2))
  error = 4 * np.sqrt(share * (1 - share) / hidden[0].size)
  assert (abs(share - path) <= error + 1e-6).all()
  before, after = hidden[3], hidden[4]  # t = 1/2 and 3/8
  frequency = after[~before].mean()
  assert abs(frequency - remasked) < 4 * np.sqrt(0.25 / (~before).sum())
  frequency = (~after[before]).mean()
  assert abs(frequency - written) < 4 * np.sqrt(0.25 / before.sum())
  assert not (hidden[-1] | (hidden[7] & ~hidden[6])).any()  # sigma_max = 0
  if strategy == 'loop':  # outside the loop nothing is taken back
    assert not (hidden[1] & ~hidden[0]).any()
    assert not (hidden[6] & ~hidden[5]).any()


def test_remdm_conf_prefers_what_was_unsure():
  """Even positions were sure (1), odd ones were not (1/4)."""
  dist = EVEN.copy()
  dist[::2] = [1, 0, 0, 0]
  drops = []
  for seed in range(8):
    out, moves = run(
      'remdm', steps=8.0, strategy='conf', eta=1.0, dist=dist, seed=seed
    )
    assert out.done.all()
    every = moves.tokens[:, out.steps == 8]  # nearly all rows
    hidden = every == VOCAB
    drops.append ((hidden[1:] & ~hidden[:-1]).sum(0))
  # The softmax sums to 1: sigma_max remasked per time step, which is
  # 1, 1, 1, 3/4, 2/5, 1/6, 0 from the second step on.
  expected = 3 + 3 / 4 + 2 / 5 + 1 / 6
  drops = np.concatenate(drops)
  error = 4 * np.sqrt(expected / len(drops))
  assert len(drops) > 500 and abs(drops.sum(1).mean() - expected) < error
  sure, unsure = drops[:, ::2].sum(), drops[:, 1::2].sum()
  ratio = np.exp(1 - 1 / 4)
  error = ratio * np.sqrt(1 / sure + 1 / unsure)
  assert abs(unsure / sure - ratio) < 4 * error


@pytest.mark.parametrize('strategy', ['cap', 'rescale', 'conf'])
def test_remdm_without_eta_is_ancestral(strategy):
  a = run('remdm', eta=0.0, strategy=strategy, steps=5.0)
  b = run('ancestral', path='linear', steps=5.0)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('strategy', ['cap', 'rescale', 'conf', 'loop'])
def test_remdm_ends_and_keeps_what_was_given(strategy):
  """Also tokens that are there but not given: they may be taken back."""
  tokens = np.where(np.arange(LENGTH) % 3 == 0, MASKED, 2)
  given = np.arange(LENGTH) + 0 * tokens < 20
  given &= tokens != VOCAB
  more = LOOP if strategy == 'loop' else {}
  for steps in (1.0, 2.5, 8.0):
    for eta in (0.1, 1.0):
      out, moves = run(
        'remdm', tokens, given=given, steps=steps, eta=eta,
        strategy=strategy, **more,
      )
      assert out.done.all() and (out.tokens < VOCAB).all()
      assert (moves.info.time >= 0).all() and (moves.info.time < 1).all()
      assert (out.tokens[given] == 2).all() and (out.when[given] == -1).all()
      before = np.concatenate([tokens[None], moves.tokens[:-1]])
      drawn = moves.logp != 0
      assert (drawn | (moves.tokens == before) | (moves.tokens == VOCAB)).all()
      assert not (drawn & (given | (moves.tokens == VOCAB))).any()
      drawn = drawn.sum((0, 2))
      np.testing.assert_allclose(out.log_q, -drawn * np.log(VOCAB), rtol=1e-5)
      assert (out.steps == out.when.max(1) + 1).all()
      np.testing.assert_array_equal(out.meter.nfe, out.steps)
      back = (tokens == 2) & ~given & (out.when >= 0)
      assert back.any() == (steps > 1)


def test_remasking_before_the_first_write_is_seen_by_the_model():
  """One mask among 63 tokens that are not given; eta = 1 at alpha = 0.

  The first time step remasks them all. In most rows it writes nothing, so that
  the first step is another one and fills positions that had tokens, of which
  the model sees none: it drafts token 1 there, and token 0 later.
  """
  tokens = np.where(np.arange(LENGTH) == 7, MASKED, 2)
  dist, alone = (np.tile(np.eye(VOCAB)[i], (LENGTH, 1)) for i in (0, 1))
  out, moves = run(
    'remdm', tokens, given=np.zeros_like(tokens, bool), steps=8.0, eta=1.0,
    strategy='cap', dist=dist, alone=alone,
  )
  assert out.done.all() and (out.tokens < VOCAB).all() and (out.when >= 0).all()
  first = moves.tokens[0]
  late = moves.info.time[0] < 0.8
  assert late.mean() > 0.7
  assert set(first[late].ravel().tolist()) == {1, VOCAB}
  assert 0 in out.tokens[late]
  assert (first[~late] != VOCAB).sum(-1).tolist() == [1] * (~late).sum()


def test_remdm_loop_starts_from_masks_wherever_it_loops():
  """t_on = 1: alpha rests at alpha_on from the first time step on."""
  out, _ = run('remdm', steps=8.0, eta=0.0, strategy='loop', t_on=1.0)
  # Nine tenths at once, the rest after t_off.
  share = (out.when == 0).mean()
  assert abs(share - 0.9) < 0.02 and out.when.max() > 0


def test_defaults():
  assert run_defaults('remdm') == dict(
    eta=0.02, strategy='cap', path='linear', t_on=0.55, t_off=0.05,
    alpha_on=0.9,
  )
  for name in ('ancestral', 'euler'):
    assert run_defaults(name) == dict(path='linear')
    assert getattr(samplers, name)(3).traits.exact is None
  assert samplers.first_hitting().traits.exact == {}


def run_defaults(name):
  found = inspect.signature(getattr(samplers, name)).parameters.values()
  return {p.name: p.default for p in found if p.default is not p.empty}


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: samplers.ancestral(0.5), 'steps = 0.5'),
    (lambda: samplers.ancestral(np.inf), 'steps = inf'),
    (lambda: samplers.euler(np.nan), 'steps = nan'),
    (lambda: samplers.ancestral(3, 'sine'), "unknown path 'sine'.*cosine"),
    (lambda: samplers.euler(3, 'sine'), 'unknown path'),
    (lambda: samplers.remdm(3, path='sine'), 'unknown path'),
    (lambda: samplers.remdm(3, strategy='lid'), "unknown strategy 'lid'.*loop"),
    (lambda: samplers.remdm(3, eta=1.5), 'eta = 1.5'),
    (lambda: samplers.remdm(3, t_on=-1), 't_on = -1'),
    (lambda: samplers.remdm(3, t_off=2), 't_off = 2'),
    (lambda: samplers.remdm(3, alpha_on=np.nan), 'alpha_on = nan'),
    (lambda: samplers.remdm(0), 'steps = 0'),
  ],
)
def test_bad_hyperparams_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
