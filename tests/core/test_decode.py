"""The loop: what it protects, freezes, records, and which input it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import oracles, samplers, schedules
from punt_jax.sampler import no_carry
from punt_jax.types import Move, Sampler

B, L, V = 8, 6, 3


@pytest.fixture(scope='module')
def joint():
  draw = jax.random.dirichlet(jax.random.key(3), jnp.ones(V**L))
  return draw.reshape((V,) * L)


def build(params, hyperparams):
  world = oracles.as_denoiser(oracles.table(jnp.log(params)))
  return world, samplers.top_k(**hyperparams)


@pytest.fixture(scope='module')
def run():
  return punt_jax.compile(build)


def canvas():
  return np.full((B, L), V, np.int32)


def test_log_q_of_one_by_one_is_the_joint(joint, run):
  out = run(joint, dict(k=1), jax.random.key(0), canvas())
  world = oracles.table(jnp.log(joint))
  np.testing.assert_allclose(out.log_q, world.log_prob(out.tokens), atol=1e-5)
  assert (np.sort(out.when, -1) == np.arange(L)).all()
  assert (out.steps == L).all() and out.done.all()


def test_film_is_decode_and_shows_when(joint):
  film = punt_jax.compile(build, driver=punt_jax.decode.film)
  out, moves = film(joint, dict(k=2), jax.random.key(0), canvas())
  one = punt_jax.compile(build)(joint, dict(k=2), jax.random.key(0), canvas())
  jax.tree.map(np.testing.assert_array_equal, out, one)
  tokens = np.asarray(moves.tokens)
  assert tokens.shape == (L, B, L)
  first = (tokens != V).argmax(0)  # the step that first shows the position
  np.testing.assert_array_equal(first, out.when)
  np.testing.assert_allclose(moves.logp.sum((0, 2)), out.log_q, atol=1e-5)
  assert moves.done.sum() == B * (L - 2)  # done from the third step on


def test_rows_do_not_depend_on_the_batch(joint, run):
  key = jax.random.key(9)
  whole = run(joint, dict(k=2), key, canvas())
  part = run(joint, dict(k=2), key, canvas()[:5])
  np.testing.assert_array_equal(whole.tokens[:5], part.tokens)
  other = run(joint, dict(k=2), jax.random.key(10), canvas())
  assert (other.tokens != whole.tokens).any()
  assert len(np.unique(whole.tokens, axis=0)) > 1


def test_max_steps_runs_out(joint):
  short = punt_jax.compile(build, max_steps=2)
  out = short(joint, dict(k=1), jax.random.key(0), canvas())
  assert not out.done.any()
  assert ((out.tokens == V).sum(-1) == L - 2).all()
  assert (out.steps == 2).all() and (out.meter.nfe == 2).all()


def test_nothing_open_costs_nothing(joint, run):
  tokens = np.zeros((B, L), np.int32)
  out = run(joint, dict(k=1), jax.random.key(0), tokens)
  assert out.meter.forwards.tolist() == [0]
  assert not out.meter.nfe.any() and not out.log_q.any() and out.done.all()
  np.testing.assert_array_equal(out.tokens, tokens)
  assert (out.when == -1).all()


def trespasser():
  """Writes two of its positions a step, and says it wrote everywhere."""

  def step(keys, t, canvas, carry, memo, model):
    mine = canvas.masked & (jnp.cumsum(canvas.masked, -1) <= 2)
    tokens = jnp.where(canvas.masked & ~mine, V, 0)
    done = ~(canvas.masked & ~mine).any(-1)
    return Move(tokens, jnp.full(tokens.shape, -1.0), done), carry, memo

  return Sampler(no_carry, step)


def test_a_sampler_that_writes_where_it_may_not():
  """Given tokens, padding and finished rows stay, and are in no log_q."""
  tokens = np.full((4, L), V)
  tokens[:, 0], tokens[1, 2:], tokens[3] = 2, 1, 1
  valid = np.ones(tokens.shape, bool)
  valid[2, 3:] = False
  model = punt_jax.from_logits(lambda x, valid: jnp.zeros((*x.shape, V)), V)
  run = punt_jax.compile(lambda params, hyperparams: (model, trespasser()))
  out = run((), (), 0, tokens, valid=valid)
  open_ = valid & (tokens == V)
  np.testing.assert_array_equal(out.tokens, np.where(open_, 0, tokens))
  # A row counts its open positions once a step, until it is done.
  assert open_.sum(-1).tolist() == [5, 1, 2, 0]
  assert out.steps.tolist() == [3, 1, 1, 0]
  np.testing.assert_array_equal(out.log_q, [-15.0, -1.0, -2.0, 0.0])
  assert (out.when[~open_] == -1).all()


def test_step_and_watch(joint):
  steps = punt_jax.step(build)
  state = steps.start(joint, dict(k=4), jax.random.key(0), canvas())
  state, move = steps.advance(joint, dict(k=4), state)
  assert ((move.tokens != V).sum(-1) == 4).all() and not move.done.any()
  frames = punt_jax.watch(build)(joint, dict(k=4), jax.random.key(0), canvas())
  frames = list(frames)
  assert len(frames) == 2
  np.testing.assert_array_equal(frames[0][1].tokens, move.tokens)


BAD = {
  'an id too large': (
    dict(tokens=np.full((2, L), V + 1)),
    r'token id outside \[0, 3\]: row 0, position 0',
  ),
  'a negative id': (
    dict(tokens=np.array([[0] * L, [0, -1, 0, 0, 0, 0]])),
    r'token id outside \[0, 3\]: row 1, position 1',
  ),
  'one axis': (dict(tokens=np.zeros(L, int)), r'shape \(rows, positions\)'),
  'floats': (dict(tokens=np.zeros((2, L))), 'must be integers'),
  'short valid': (
    dict(valid=np.ones((B, L - 1), bool)),
    r'valid must be bool of the shape of tokens \(8, 6\)',
  ),
  'integer given': (dict(given=np.ones((B, L), int)), 'given must be bool'),
  'a given mask': (
    dict(given=np.eye(B, L, 1, bool)),
    'a given position that is MASK: row 0, position 1',
  ),
  'k of 0': (
    dict(hyperparams=dict(k=0)), 'k = 0 is out of range: .* at least 1'
  ),
  'k is NaN': (dict(hyperparams=dict(k=np.nan)), 'k = nan is out of range'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_one_sentence(joint, run, case):
  change, message = BAD[case]
  args = dict(hyperparams=dict(k=1), key=jax.random.key(0), tokens=canvas())
  with pytest.raises(ValueError, match=message) as error:
    run(joint, **(args | change))
  assert '\n' not in str(error.value)


def test_nan_logits_are_named_with_their_row():
  def spoiled(params, hyperparams):
    def logits(tokens, valid):
      bad = (tokens[:, :1] == 1)[..., None]
      return jnp.where(bad, jnp.nan, jnp.zeros(tokens.shape + (V,)))

    return punt_jax.from_logits(logits, V), samplers.punt(hyperparams)

  tokens = canvas()
  tokens[:, 0] = np.arange(B) == 5
  with pytest.raises(ValueError, match=r'NaN .* in row 5 \(1 of 8 rows\)'):
    punt_jax.compile(spoiled)(0.0, 0.1, jax.random.key(0), tokens)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: samplers.punt(np.nan), 'epsilon = nan'),
    (lambda: samplers.punt(0.1, score='best'), 'unknown score .*confidence'),
    (lambda: samplers.punt(0.1, divergence='l2'), 'unknown divergence'),
    (lambda: samplers.punt(0.1, first='top'), 'unknown bit order'),
    (lambda: samplers.punt(0.1, codes='gray'), 'unknown codes'),
    (lambda: samplers.uniform(0.5), 'k = 0.5'),
    (lambda: samplers.maskgit(0), 'steps = 0'),
    (lambda: samplers.entropy_bound(-1), 'gamma = -1'),
    (lambda: samplers.dilated(1), 'base = 1'),
    (lambda: samplers.halton(0), 'steps = 0'),
    (lambda: samplers.threshold(np.nan), 'tau = nan'),
    (lambda: samplers.factor(-0.1), 'f = -0.1'),
    (lambda: samplers.blocks(samplers.uniform(1), 0), 'block length = 0'),
  ],
)
def test_hyperparams_out_of_range(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_count_schedules():
  run = lambda count, steps, total: _simulate(count(steps), total)
  assert run(schedules.even, 4, 10) == [3, 3, 2, 2]
  # floor(10 cos(pi/2 t/4)) stay masked: 9, 7, 3, 0
  assert run(schedules.cosine, 4, 10) == [1, 2, 4, 3]
  # floor(10 (1 - 2/pi arccos(t/4))) are done: 1, 3, 5, 10
  assert run(schedules.arccos, 4, 10) == [1, 2, 2, 5]


def _simulate(count, total):
  counts, left, step = [], total, 0
  while left:
    n = min(max(int(count(jnp.int32(step), total, left)), 1), left)
    counts.append(n)
    left, step = left - n, step + 1
  return counts


def test_epsilon_schedule_sees_the_masked_fraction(joint):
  # Strict while everything is masked, then lax: one token, then the rest.
  strict_first = lambda f: jnp.where(f == 1, -1.0, jnp.inf)
  sampler = samplers.punt(strict_first)
  model = lambda params: oracles.as_denoiser(oracles.table(jnp.log(params)))
  run = punt_jax.compile(lambda params, hyperparams: (model(params), sampler))
  out = run(joint, (), jax.random.key(0), canvas())
  assert (out.steps == 2).all()
  assert ((out.when == 0).sum(-1) == 1).all()
  assert schedules.linear_epsilon(0.1, 0.5)(0.25) == pytest.approx(0.4)
