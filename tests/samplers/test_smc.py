"""The particle wrapper: one is none, weights choose, groups stay together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import oracles, samplers
from punt_jax.samplers.smc import Particles, resample

L, V, ROWS = 5, 3, 6
TOKENS = np.full((ROWS, L), V)
TOKENS[1, :3] = 0
TOKENS[2] = 1  # nothing to do
JOINT = np.random.default_rng(0).random((V,) * L, np.float32) ** 3
INNER = {
  'punt': lambda: samplers.punt(0.1),
  'blocks': lambda: samplers.blocks(samplers.uniform(1), 2),
  'threshold': lambda: samplers.threshold(0.5),
}


def decode(make, joint=JOINT, tokens=TOKENS, devices=None, seed=0):
  build = lambda p, _: (oracles.as_denoiser(oracles.table(jnp.log(p))), make())
  run = punt_jax.compile(build, devices=devices)
  return jax.device_get(run(joint, (), jax.random.key(seed), tokens))


@pytest.mark.parametrize('name', INNER)
def test_one_particle_is_the_inner_sampler(name):
  one = decode(lambda: samplers.smc(INNER[name](), particles=1))
  jax.tree.map(np.testing.assert_array_equal, one, decode(INNER[name]))


def test_without_weights_the_first_particle_is_the_inner_sampler():
  flat = lambda canvas, move: jnp.zeros(move.done.shape)
  inner = INNER['punt']
  many = decode(lambda: samplers.smc(inner(), particles=3, potential=flat))
  one = decode(inner)
  np.testing.assert_array_equal(many.tokens, one.tokens)
  np.testing.assert_array_equal(many.log_q, one.log_q)
  assert (many.meter.nfe[[0, 1]] > 2 * one.meter.nfe[[0, 1]]).all()
  assert many.meter.nfe[2] == many.meter.depth[2] == many.steps[2] == 0


def test_every_particle_is_paid_for():
  out = decode(lambda: samplers.smc(samplers.uniform(1), particles=4))
  assert out.meter.nfe.tolist() == [20, 8, 0, 20, 20, 20]
  assert out.meter.depth.tolist() == [5, 2, 0, 5, 5, 5]
  assert out.meter.positions.tolist() == (L * out.meter.nfe).tolist()
  assert out.meter.forwards.tolist() == [20]


def test_the_likelier_particle_wins():
  """One position, p = .8 and .2: the rare token needs all P draws."""
  joint, tokens = np.array([0.8, 0.2], np.float32), np.full((20000, 1), 2)
  make = lambda: samplers.smc(samplers.uniform(1), particles=2)
  out = decode(make, joint, tokens)
  rare = 0.2**2
  sigma = np.sqrt(rare * (1 - rare) / len(tokens))
  assert abs(out.tokens.mean() - rare) < 4 * sigma
  np.testing.assert_allclose(out.log_q, np.log(joint[out.tokens[:, 0]]), 1e-6)


def particles(weight):
  count = len(weight)
  place = jnp.arange(count)
  number = place.astype(jnp.float32)
  return Particles(
    tokens=place[:, None], logp=number[:, None], done=place > 1, steps=place,
    score=number, weight=jnp.array(weight), inner=dict(a=place), goal=(),
    told=(),
  )


@pytest.mark.parametrize(
  'weight, due, ancestors',
  [
    ([0.0, 0.0, 50.0, 0.0], True, [2, 2, 2, 2]),
    ([0.0, 0.0, 50.0, 0.0], False, [0, 1, 2, 3]),  # not now
    # Half of them equal, half hopeless: ESS = 2 = P / 2 is enough.
    ([0.0, -50.0, 0.0, -50.0], True, [0, 1, 2, 3]),
    ([-np.inf] * 4, True, [0, 1, 2, 3]),
  ],
)
def test_resampling_by_hand(weight, due, ancestors):
  now = particles(weight)
  after = resample(jax.random.key(0), now, jnp.array(due))
  again = due and ancestors != [0, 1, 2, 3]
  moved = after.tokens[:, 0], after.logp[:, 0], after.score, after.inner['a']
  for x in moved:
    assert x.tolist() == ancestors
  assert after.done.tolist() == [a > 1 for a in ancestors]
  assert after.weight.tolist() == ([0.0] * 4 if again else weight)


def test_ancestors_are_drawn_by_weight():
  weight = np.log([0.9, 0.05, 0.05, 1e-9]).astype(np.float32)
  draw = jax.vmap(lambda key: resample(key, particles(weight), True).score)
  drawn = np.asarray(draw(jax.random.split(jax.random.key(1), 5000)))
  share = np.bincount(drawn.astype(int).ravel(), minlength=4) / drawn.size
  np.testing.assert_allclose(share, [0.9, 0.05, 0.05, 0], atol=0.007)


@pytest.mark.parametrize('every', [1.0, 3.0])
def test_every_says_when(every):
  """In positions; between resamplings weight and score are the same sum."""
  worth = lambda canvas, move: 2.0 * (move.tokens == 0).sum(-1)
  inner = samplers.one_by_one('left_to_right')
  build = lambda p, _: (
    oracles.as_denoiser(oracles.table(jnp.log(p))),
    samplers.smc(inner, 4, worth, every),
  )
  start, advance = punt_jax.step(build)
  state = start(JOINT, (), jax.random.key(0), np.full((64, L), V))
  for t in range(L - 1):
    before = state.carry
    state, _ = advance(JOINT, (), state)
    gained = state.carry.score - before.score
    kept = (state.carry.weight == before.weight + gained).all(-1)
    anew = (state.carry.weight == 0).all(-1)
    due = (t + 1) % every == 0
    assert (kept | (anew & due)).all()
    assert (~kept).any() == due
    best = np.asarray(state.carry.score).argmax(-1)
    leads = np.asarray(state.carry.tokens)[np.arange(64), best]
    np.testing.assert_array_equal(state.tokens, leads)
  assert (best > 0).any()


def test_a_finished_particle_earns_nothing_more():
  one = lambda canvas, move: jnp.ones(move.done.shape)
  sampler = samplers.smc(samplers.punt(0.3), 3, one, every=9.0)
  build = lambda p, _: (oracles.as_denoiser(oracles.table(jnp.log(p))), sampler)
  start, advance = punt_jax.step(build)
  state = start(JOINT, (), jax.random.key(0), np.full((16, L), V))
  waited = 0
  while not state.done.all():
    before = state.carry
    live = ~np.asarray(before.done) & ~np.asarray(state.done)[:, None]
    state, _ = advance(JOINT, (), state)
    np.testing.assert_array_equal(state.carry.score - before.score, live)
    waited += (live.any(1) & ~live.all(1)).sum()
  assert waited > 0


def decode_watched(make, tokens, joint=JOINT, seed=0):
  """The carries of a run, one after each step, and how many steps it took."""
  build = lambda p, _: (oracles.as_denoiser(oracles.table(jnp.log(p))), make())
  run = punt_jax.watch(build, 4 * tokens.shape[1])
  runs = [state for state, _ in run(joint, (), jax.random.key(seed), tokens)]
  assert runs[-1].done.all()
  return jax.device_get([state.carry for state in runs])


def test_particles_wait_for_each_other_at_the_end_of_a_block():
  """Blocks of two, some written in one step and some in two."""
  tokens = np.full((16, 6), V)
  joint = np.random.default_rng(1).random((V,) * 6, np.float32) ** 3
  inner = samplers.blocks(samplers.ancestral(3.0), 2)
  worth = lambda canvas, move: 5.0 * (move.tokens == 0).sum(-1)
  make = lambda: samplers.smc(inner, 4, worth, every=2.0)
  uneven = again = 0
  goal = np.full(16, 4)
  for now in decode_watched(make, tokens, joint):
    masks = (now.tokens == V).sum(-1)
    assert (masks >= goal[:, None]).all()  # nobody runs ahead
    early = masks.min(1) > 0  # and not only in the last block
    uneven += (early & (masks.min(1) != masks.max(1))).sum()
    moved_on = now.goal != goal
    assert (masks[moved_on] == masks[moved_on][:, :1]).all()
    again += (moved_on & (now.weight == 0).all(1) & (masks[:, 0] > 0)).sum()
    goal = now.goal
  assert uneven > 0 and again > 0


def test_particles_that_wrote_different_numbers_are_not_compared():
  """Every token costs as much: who leads leads by having written less."""
  flat = np.ones((V,) * L, np.float32)

  def cost(canvas, move):
    return -10.0 * (canvas.masked & (move.tokens < V)).sum(-1)

  make = lambda: samplers.smc(samplers.ancestral(8.0), 4, cost)
  for now in decode_watched(make, np.full((32, L), V), flat):
    np.testing.assert_array_equal(now.weight, now.score)


def test_the_best_is_not_resampled_away_at_the_end():
  make = lambda: samplers.smc(samplers.uniform(5), 4)
  (now,) = decode_watched(make, np.full((64, L), V))
  np.testing.assert_array_equal(now.weight, now.score)


@pytest.mark.slow
def test_groups_stay_on_their_device():
  make = lambda: samplers.smc(samplers.uniform(2), particles=3)
  many = decode(make, devices=jax.devices()[:4])
  one = decode(make)
  for name in ('tokens', 'when', 'steps', 'done'):
    np.testing.assert_array_equal(getattr(many, name), getattr(one, name))
  np.testing.assert_array_equal(many.meter.nfe, one.meter.nfe)


@pytest.mark.parametrize(
  'bad', [dict(particles=0), dict(particles=2.5), dict(every=0.5)]
)
def test_bad_hyperparams(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    samplers.smc(samplers.uniform(1), **bad)
