"""Rows spread over devices: bitwise the same results, and no collective."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import oracles, samplers
from tests.helpers.attention import attending
from tests.samplers.test_invariance import KINDS  # on 3 and 8 devices, too

ROWS, L, V = 11, 8, 3  # ragged: 11 rows on 8 devices
ATTENTION = np.random.default_rng(0).random((2, L, L), np.float32)
NAMES = {
  'punt': dict(epsilon=0.05),
  'uniform': dict(k=2),
  'entropy_bound': dict(gamma=0.5),
}
REST = {
  'influence': dict(table=np.full((L, L), 0.1, np.float32), kappa=0.25),
  'learned': dict(policy=2.0, budget=3.0),
  'one_by_one': {},
  'top_k': dict(k=2),
  'maskgit': dict(steps=3),
  'dilated': dict(base=2.0),
  'halton': dict(steps=3),
  'threshold': dict(tau=0.5),
  'factor': dict(f=1.0),
  'random_order': dict(sizes=np.array([2.0, 0, 3, 1])),
  'random_size': dict(steps=3.0),
  'hierarchical': dict(low=0.4),
  'ancestral': dict(steps=4),
  'euler': dict(steps=4),
  'first_hitting': {},
  'remdm': dict(steps=6, eta=0.4),
  'p2': dict(steps=4),
  'frechet': dict(delta=-0.5),
  'credit': dict(tau=0.6),
  'klass': dict(tau=0.5, epsilon=0.2, history=1.0),
  'slowfast': dict(slow=2.0, tau=0.5),
  'lookahead': dict(k=2.0),
  'info_gain': dict(k=2.0),
  'speculative': dict(k=3.0),
  'adaptive_parallel': dict(mix=0.5, window=3.0),
  'dapd': dict(tau=0.2),
  'adas': dict(k=2.0),
}
REST |= {name: {} for name in samplers.NAMES if name not in NAMES | REST}


@pytest.fixture(scope='module')
def problem():
  table = jax.random.dirichlet(jax.random.key(1), jnp.ones((V, V)))
  params = (jnp.log(jnp.full((V,), 1 / V)), jnp.log(table))
  tokens = np.full((ROWS, L), V, np.int32)
  tokens[2, :5] = 1  # rows need different numbers of steps
  tokens[3] = 0
  return params, tokens


def build_for(name):
  def build(params, hyperparams):
    first, transition = params
    steps = jnp.broadcast_to(transition, (L - 1, V, V))
    world = oracles.chain(first, steps)
    model = attending(oracles.as_denoiser(world), ATTENTION)
    if name == 'learned':
      policy = lambda view, left: view.confidence - hyperparams['policy'] / left
      return model, samplers.learned(policy, hyperparams['budget'])
    return model, getattr(samplers, name)(**hyperparams)

  return build


def check(name, hyperparams, problem, through, count):
  params, tokens = problem
  devices = jax.devices()[:count]
  assert len(devices) == count
  args = params, hyperparams, jax.random.key(5), tokens
  one = punt_jax.compile(build_for(name))(*args)
  run = punt_jax.compile(build_for(name), devices=devices, through=through)
  many = run(*args)
  for field in ('tokens', 'when', 'steps', 'done'):
    np.testing.assert_array_equal(getattr(one, field), getattr(many, field))
  # Sums over the vocabulary may differ in the last bit between batch sizes.
  np.testing.assert_allclose(one.log_q, many.log_q, rtol=1e-6)
  for field in ('nfe', 'depth', 'positions'):
    np.testing.assert_array_equal(
      getattr(one.meter, field), getattr(many.meter, field)
    )
  assert many.meter.forwards.shape == (count,)
  share = -(-ROWS // count)
  nfe = np.pad(np.asarray(one.meter.nfe), (0, share * count - ROWS))
  assert (many.meter.forwards >= nfe.reshape(count, share).max(1)).all()
  return run


@pytest.mark.parametrize('through', [
  'pmap', pytest.param('shard_map', marks=pytest.mark.slow),
])
def test_eight_devices_equal_one(problem, through):
  run = check('punt', NAMES['punt'], problem, through, 8)
  params, tokens = problem
  tokens = np.concatenate([tokens, tokens])[:16]
  batch = (np.arange(16), tokens, tokens != V, tokens >= 0)
  lowered = run.lower(params, NAMES['punt'], jax.random.key(5), *batch)
  text = lowered.compile().as_text()
  assert 'while' in text
  found = re.findall(
    r'all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter', text
  )
  assert not found


@pytest.mark.parametrize('name', ['uniform', 'entropy_bound'])
def test_four_devices_equal_one(problem, name):
  check(name, NAMES[name], problem, 'pmap', 4)


@pytest.mark.slow
@pytest.mark.parametrize('name', [x for x in REST if x not in KINDS])
def test_four_devices_equal_one_slow(problem, name):
  check(name, REST[name], problem, 'pmap', 4)


def test_film_runs_on_one_device():
  with pytest.raises(ValueError, match='only the driver `decode`'):
    punt_jax.compile(
      build_for('punt'), devices=jax.devices(), driver=punt_jax.decode.film
    )
  with pytest.raises(ValueError, match='unknown way'):
    punt_jax.compile(
      build_for('punt'), devices=jax.devices(), through='threads'
    )
