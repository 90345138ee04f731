"""Drafts that are checked: speculative and adaptive parallel decoding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import oracles, readout, samplers
from tests.helpers import reference

ROWS = 512


def run(model, sampler, length, rows=ROWS, seed=0):
  build = lambda params, hyperparams: (model, sampler)
  empty = np.full((rows, length), model.vocab)
  out = punt_jax.compile(build)((), (), jax.random.key(seed), empty)
  return jax.device_get(out)


def constant(logits):
  """A model that says (L, V) whatever it sees."""
  logits = jnp.asarray(logits, jnp.float32)
  return punt_jax.from_logits(
    lambda tokens, valid: jnp.broadcast_to(
      logits, (*tokens.shape, logits.shape[-1])
    ), logits.shape[-1],
  )


# In order: what both are tested with.


@pytest.mark.parametrize('seed', range(4))
def test_in_order_sees_lower_ranks_alone(seed):
  rng = np.random.default_rng(seed)
  length, vocab = 5, 2
  joint = reference.random_joint(seed, length, vocab)
  model = oracles.as_denoiser(oracles.table(jnp.log(joint)))
  tokens = rng.integers(0, vocab, (3, length))
  tokens[1, rng.integers(length)] = vocab  # a masked one is seen by nobody
  rank = np.array([rng.permutation(length) - 2 for _ in tokens])
  rank[rank < 0] = -1  # the context
  valid = np.ones(tokens.shape, bool)
  memo, answer = model.in_order(
    model.init(tokens, valid), jnp.array(tokens), jnp.array(rank),
    jnp.array([True, True, False]),
  )
  assert memo.meter.nfe.tolist() == [1, 1, 0]
  assert memo.meter.forwards.tolist() == [1]
  found = np.exp(model.read(answer.features))
  for row, i in itertools.product(range(3), range(length)):
    if rank[row, i] >= 0:
      shown = np.where(rank[row] < rank[row, i], tokens[row], vocab)
      dist = reference.conditionals(joint, shown)[i]
      np.testing.assert_allclose(found[row, i], dist, atol=1e-6)


def test_a_model_that_cannot_says_so():
  model = constant(np.zeros((3, 2)))
  for sampler in (samplers.speculative(), samplers.adaptive_parallel()):
    with pytest.raises(ValueError, match='no Denoiser.in_order'):
      run(model, sampler, 3)


# Speculative.


def verdict(q, p, draft, accept, correct):
  """The Verdict about one draft, all (N,) or numbers."""
  count = np.size(accept)
  spread = lambda x: jnp.broadcast_to(jnp.asarray(x), (1, count))
  dist = lambda x: jnp.broadcast_to(
    jnp.log(jnp.array(x, jnp.float32)), (1, count, len(x))
  )
  return readout.verify(
    constant(np.zeros((1, len(q)))), dist(q), dist(p), spread(draft),
    jnp.ones((1, count), bool), spread(accept), spread(correct),
  )


def test_a_draft_is_kept_or_corrected_by_hand():
  """q = (.5, .5), p = (.8, .2): 0 is always kept, 1 two times in five."""
  q, p = [0.5, 0.5], [0.8, 0.2]
  assert verdict(q, p, 0, 0.99, 0.5).kept.tolist() == [[True]]
  said = verdict(q, p, 1, np.array([0.39, 0.41]), 0.9)
  assert said.kept.tolist() == [[True, False]]
  assert said.tokens.tolist() == [[1, 0]]
  np.testing.assert_allclose(said.logp, np.log([[0.2, 0.8]]), rtol=1e-6)


def test_corrected_drafts_have_the_distribution_of_the_target():
  q, p = np.array([0.6, 0.3, 0.1, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])
  grid = (np.arange(400) + 0.5) / 400
  accept, correct = (x.ravel() for x in np.meshgrid(grid, grid))
  dist = np.zeros(4)
  for draft in range(3):
    said = verdict(q, p, draft, accept, correct)
    dist += q[draft] * np.bincount(said.tokens[0], minlength=4) / accept.size
  np.testing.assert_allclose(dist, p, atol=0.005)


def test_independent_drafts_are_all_kept():
  world = oracles.product(jnp.log(jnp.full((6, 3), 1 / 3)))
  out = run(oracles.as_denoiser(world), samplers.speculative(3.0), 6)
  assert (out.when == [0, 0, 0, 1, 1, 1]).all()
  assert (out.meter.nfe == 4).all()


def test_a_step_writes_two_and_never_costs_more_than_one_by_one():
  world = oracles.random_chain(jax.random.key(0), 7, 4, 3.0)
  out = run(oracles.as_denoiser(world), samplers.speculative(4.0), 7)
  assert (out.meter.nfe <= 7).all() and out.meter.nfe.min() < 7
  for row in out.when:
    sizes = np.bincount(row)
    assert (sizes[:-1] >= 2).all() and sizes.max() <= 4
  # Two a step, and one for a last position that needs no check.
  lone = np.array([np.bincount(row)[-1] == 1 for row in out.when])
  assert (out.meter.nfe == 2 * out.steps - lone).all()
  assert lone.any() and not lone.all()
  log_p = world.log_prob(jnp.array(out.tokens))
  np.testing.assert_allclose(out.log_q, log_p, atol=1e-4)


def test_at_another_temperature_it_is_one_by_one_at_that_temperature():
  joint = reference.random_joint(3, 3, 2, sharpness=2.0)
  world = oracles.table(jnp.log(joint))
  model = punt_jax.temper(oracles.as_denoiser(world), 0.5)
  out = run(model, samplers.speculative(3.0), 3, rows=8192)
  dist = np.ones((2,) * 3)
  for cell in np.ndindex(dist.shape):
    for i in range(3):
      shown = np.where(np.arange(3) < i, cell, 2)
      p = reference.conditionals(joint, shown)[i] ** 2
      dist[cell] *= p[cell[i]] / p.sum()
  assert reference.fits(reference.histogram(out.tokens, 2), dist)
  np.testing.assert_allclose(
    out.log_q, np.log(dist[tuple(out.tokens.T)]), atol=1e-4
  )


# Adaptive parallel decoding.


def test_the_judge_cuts_the_prefix_by_hand():
  """Temperature 0: argmax against argmax of the mixture."""
  model = punt_jax.temper(constant([[0.0, 1.0]] * 5), 0.0)
  judge = constant([[0.0, 9.0], [0.0, 9.0], [0.0, 0.0], [2.5, 0.0], [0.0, 9.0]])

  def steps(mix, window=200.0):
    apd = samplers.adaptive_parallel(mix, window, judge)
    out = run(model, apd, 5, rows=2)
    assert (out.tokens == 1).all() and (out.when[0] == out.when[1]).all()
    return out.when[0].tolist(), int(out.meter.nfe[0])

  # mix 0.9: 0.9 > 0.25 at position 3, so nothing is cut.
  assert steps(0.9) == ([0, 0, 0, 0, 0], 2)
  # mix 0.5: 0.5 < 1.25 there; as the first draft of a step it needs no check.
  assert steps(0.5) == ([0, 0, 0, 1, 1], 4)
  # Windows of two: the first draft of each step is written unchecked.
  assert steps(0.5, window=2.0) == ([0, 0, 1, 2, 2], 6)
  assert steps(0.5, window=1.0) == ([0, 1, 2, 3, 4], 5)


@pytest.mark.parametrize('token', range(2))
def test_a_draft_that_the_judge_excludes_is_cut(token):
  """No token is possible for both, whichever of the two each is sure of."""
  never = [[-np.inf, 0.0]] if token else [[0.0, -np.inf]]
  model, judge = constant(never * 4), constant(np.flip(never * 4, 1))
  out = run(model, samplers.adaptive_parallel(0.5, 200.0, judge), 4, rows=2)
  assert (out.tokens == token).all() and (out.when == np.arange(4)).all()


def test_the_judge_reads_the_drafts_to_its_left():
  """It expects what it sees: after token 1 a 1, after token 0 a 0."""
  def expect(tokens, valid):
    left = jnp.concatenate([tokens[:, :1], tokens[:, :-1]], 1)
    return 50.0 * jax.nn.one_hot(left, 2)

  judge = punt_jax.from_logits(expect, 2)
  model = constant(np.zeros((8, 2)))
  out = run(model, samplers.adaptive_parallel(0.0, 200.0, judge), 8)
  for tokens, when in zip(out.tokens, out.when, strict=True):
    for i in range(1, 8):  # a step ends where the next token is another
      assert when[i] > when[i - 1] or tokens[i] == tokens[i - 1]
  assert 2 < out.steps.mean() < 6


def test_shared_noise_couples_two_distributions():
  """The same distribution, the same token; each gets its own frequencies."""
  count = 20000
  keys = jax.random.split(jax.random.key(0), count)[None]
  draws = []
  for p in ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7]):
    features = jnp.broadcast_to(jnp.log(jnp.array(p)), (1, count, 3))
    tokens, logp = readout.gumbel_drafts(
      constant(np.zeros((1, 3))), jnp.ones((1, count), bool), keys, features
    )
    np.testing.assert_allclose(logp, np.log(p)[np.asarray(tokens)], 1e-5)
    share = np.bincount(tokens[0], minlength=3) / count
    np.testing.assert_allclose(share, p, atol=0.015)
    draws.append(np.asarray(tokens[0]))
  # Independent draws agree with probability .18. With shared noise token i
  # wins in both with probability 1 / sum_j max(p_j / p_i, q_j / q_i).
  agree = 1 / (1 + 2 + 7) + 1 / (3.5 + 1 + 3.5) + 1 / (7 + 2 + 1)
  assert abs((draws[0] == draws[1]).mean() - agree) < 0.015


def test_its_hyperparams():
  for bad in (dict(mix=1.5), dict(window=0.5)):
    with pytest.raises(ValueError, match=next(iter(bad))):
      samplers.adaptive_parallel(**bad)
  with pytest.raises(ValueError, match='k = 0'):
    samplers.speculative(0)
  judge = constant(np.zeros((1, 3)))
  with pytest.raises(ValueError, match='the judge has 3 tokens, the model 2'):
    run(constant(np.zeros((1, 2))), samplers.adaptive_parallel(judge=judge), 1)
