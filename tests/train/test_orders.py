"""Learned orders: estimated gradients against exact ones, and the bound.

World: all canvases of three bits. With a budget of T steps a row has T - 1
actions of three bits each, so every run can be enumerated. The networks are
tables of random numbers: one logit per step, canvas and position.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.decode import film
from punt_jax.models import orders
from punt_jax.oracles import as_denoiser, table
from tests.helpers import reference
from train.orders import reinforce, variational

LENGTH, VOCAB = 3, 2
JOINT = reference.random_joint(3, LENGTH, VOCAB, sharpness=2.0)
ANSWER = np.array([1, 0, 1])
SHOWN = np.array([False, False, False])


def networks(seed=0):
  """{'policy', 'posterior'}: logits [steps left, code of what is masked, L]."""
  rng = np.random.default_rng(seed)
  draw = lambda: jnp.array(rng.normal(size=(4, 8, LENGTH)), jnp.float32)
  return {'policy': draw(), 'posterior': draw()}


def apply(params, view, left, truth):
  code = (view.masked * 2 ** np.arange(LENGTH)).sum(-1)
  prior = params['policy'][left.astype(int), code]
  # A posterior that looks at the answer, as it may.
  return prior, prior + params['posterior'][left.astype(int), code] * truth


def conditional(hidden, i, answer):
  """p(answer at i | what hidden shows)."""
  hidden, answer = np.array(hidden), np.array(answer)
  return reference.conditionals(JOINT, hidden)[i, answer[i]]


class Run(NamedTuple):
  """One way to write the answer, and its log-probabilities."""

  actions: tuple  # of (L,) 0/1, one per step; 0 where nothing was masked
  log_p: float  # of the answer's tokens, each given what was seen
  log_pi: float  # of the actions under the policy
  log_q: float  # and under the posterior


def log_prob(logit, masked):
  return -np.log1p(np.exp(-logit))[masked].sum()


def runs_of(params, budget, given=SHOWN, answer=ANSWER):
  """Every Run, from the definition: nothing is averaged within a step."""
  params = jax.tree.map(np.asarray, params)

  def go(hidden, left):
    masked = [i for i in range(LENGTH) if hidden[i] == VOCAB]
    idle = (0,) * LENGTH
    if not masked:
      return [Run((idle,) * left, 0.0, 0.0, 0.0)]
    truth = np.array([
      np.log(conditional(hidden, i, answer)) if i in masked else 0.0
      for i in range(LENGTH)
    ])
    if left == 1:
      return [Run((idle,), truth.sum(), 0.0, 0.0)]
    code = sum(2**i for i in masked)
    prior = params['policy'][left, code]
    guided = prior + params['posterior'][left, code] * truth
    found = []
    for bits in itertools.product([0, 1], repeat=len(masked)):
      action = np.zeros(LENGTH, int)
      action[masked] = bits
      chosen = [i for i in masked if action[i]]
      chosen = chosen or [max(masked, key=lambda i: prior[i])]
      sign = 2 * action - 1
      after = list(hidden)
      for i in chosen:
        after[i] = answer[i]
      for rest in go(tuple(after), left - 1):
        found.append(Run(
          (tuple(action), *rest.actions), truth[chosen].sum() + rest.log_p,
          log_prob(sign * prior, masked) + rest.log_pi,
          log_prob(sign * guided, masked) + rest.log_q,
        ))
    return found

  return go(tuple(np.where(given, answer, VOCAB).tolist()), budget)


def walk_all(params, runs, given=SHOWN, answer=ANSWER):
  """variational.walk through these runs: Walk (T, N)."""
  actions = np.array([run.actions for run in runs])
  tile = lambda x: jnp.tile(jnp.asarray(x), (len(runs), 1))
  # A uniform of 0 is below every probability, one of 1 below none.
  uniforms = jnp.moveaxis(jnp.where(actions, 0.0, 1.0), 1, 0)
  model = as_denoiser(table(jnp.log(JOINT)))
  look = lambda *seen: apply(params, *seen)
  return variational.walk(look, model, tile(answer), tile(given), uniforms)


def bound_of(runs):
  """E_q [log p + log pi - log q], nats."""
  log_p, log_pi, log_q = np.array([run[1:] for run in runs]).T
  return (np.exp(log_q) * (log_p + log_pi - log_q)).sum()


CASES = [(1, SHOWN), (2, SHOWN), (3, SHOWN), (3, np.array([0, 1, 0], bool))]


@pytest.mark.parametrize(('budget', 'given'), CASES)
def test_a_walk_is_the_sum_over_its_steps(budget, given):
  params = networks()
  runs = runs_of(params, budget, given)
  walked = walk_all(params, runs, given)
  log_q = np.array([run.log_q for run in runs])
  assert np.exp(log_q).sum() == pytest.approx(1)
  np.testing.assert_allclose(walked.logq.sum(0), log_q, rtol=1e-4, atol=1e-5)
  # Each step's own action is averaged out, and the mean is the same.
  mean = (np.exp(log_q) * np.asarray(walked.value.sum(0))).sum()
  assert mean == pytest.approx(bound_of(runs), abs=1e-4)


@pytest.mark.parametrize(('budget', 'given'), CASES)
def test_the_bound_is_below_the_likelihood(budget, given):
  for seed in range(4):
    runs = runs_of(networks(seed), budget, given)
    log_p, log_pi, _ = np.array([run[1:] for run in runs]).T
    exact = np.log(np.exp(log_p + log_pi).sum())
    assert bound_of(runs) < exact + 1e-9
    if budget > 1:
      assert bound_of(runs) < exact - 1e-3
    # One by one is exact, so the policy's distribution is no better than the
    # joint only on average over answers; one step is the product of marginals.
    if budget == 1:
      assert exact == pytest.approx(log_p[0])


def exact_bound(params, runs, given):
  walked = walk_all(params, runs, given)
  return (jnp.exp(walked.logq.sum(0)) * walked.value.sum(0)).sum()


@pytest.mark.slow
def test_the_exact_gradient_is_the_slope_of_the_bound():
  """The reference of the next test, against finite differences by hand."""
  params, way = networks(), networks(seed=1)
  grad = jax.grad(exact_bound)(params, runs_of(params, 3), SHOWN)
  for name in params:
    along = (grad[name] * way[name]).sum()
    ends = []
    for step in (1e-3, -1e-3):
      moved = {**params, name: params[name] + step * way[name]}
      ends.append(bound_of(runs_of(moved, 3)))
    assert abs(along) > 0.1
    assert along == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(('budget', 'given'), CASES[1:])
def test_the_estimated_gradient_is_unbiased(budget, given):
  """RLOO with Rao-Blackwellized steps: exact mean over all pairs of runs."""
  params = networks()
  runs = runs_of(params, budget, given)
  chance = jnp.exp(jnp.array([run.log_q for run in runs]))
  a, b = np.indices((len(runs), len(runs))).reshape(2, -1)

  def mean(params):
    walked = walk_all(params, runs, given)
    pairs = jax.tree.map(lambda x: jnp.stack([x[:, a], x[:, b]], -1), walked)
    return (chance[a] * chance[b] * variational.surrogate(pairs).mean(-1)).sum()

  found = jax.grad(mean)(params)
  exact = jax.grad(exact_bound)(params, runs, given)
  for name in params:
    assert jnp.abs(exact[name]).max() > 1e-2
    np.testing.assert_allclose(found[name], exact[name], atol=2e-5)


def test_the_policy_gradient_is_unbiased():
  """Without normalization, times K / (K - 1): mean over all pairs."""
  rng = np.random.default_rng(0)
  steps, rows = 2, 16  # all actions of two steps on two positions
  bits = np.array(list(itertools.product([0, 1], repeat=4)), bool)
  action = bits.reshape(rows, steps, 2).swapaxes(0, 1)
  masked = np.ones((steps, rows, 2), bool)
  acts = samplers.Acts(punt_jax.View(*[None] * 12)._replace(masked=masked),
                       None, action)
  reward = jnp.array(rng.normal(size=rows))
  logit = jnp.array(rng.normal(size=(steps, 1, 2)))
  logp = lambda logit: reinforce.log_prob(
    jnp.broadcast_to(logit, action.shape), acts
  )
  chance = jnp.exp(logp(logit).sum(0))
  assert chance.sum() == pytest.approx(1)
  exact = jax.grad(lambda x: (jnp.exp(logp(x).sum(0)) * reward).sum())(logit)
  a, b = np.indices((rows, rows)).reshape(2, -1)
  gain = 2 * reinforce.advantages(jnp.stack([reward[a], reward[b]], -1), False)

  def mean(x):
    found = [
      reinforce.surrogate(logp(x)[:, i], logp(logit)[:, i], gain[:, k], 0.2)
      for k, i in enumerate((a, b))
    ]
    return (chance[a] * chance[b] * (found[0] + found[1]) / 2).sum()

  assert jnp.abs(exact).max() > 1e-2
  np.testing.assert_allclose(jax.grad(mean)(logit), exact, atol=1e-6)


def test_the_ratio_is_clipped_where_it_helps_too_much():
  old = jnp.log(jnp.array([[0.5, 0.5, 0.5, 0.5]]))
  new = jnp.log(jnp.array([[0.9, 0.9, 0.1, 0.1]]))
  gain = jnp.array([1.0, -1.0, 1.0, -1.0])
  found = reinforce.surrogate(new, old, gain, 0.2)
  np.testing.assert_allclose(found, [1.2, -1.8, 0.2, -0.8], rtol=1e-6)


def test_advantages_are_of_the_group():
  rewards = np.array([[1.0, 0.0], [0.5, 0.5]])
  np.testing.assert_allclose(
    reinforce.advantages(rewards, False), [[0.5, -0.5], [0, 0]]
  )
  np.testing.assert_allclose(
    reinforce.advantages(rewards, True), [[1, -1], [0, 0]], atol=1e-5
  )


@functools.cache
def filmer():
  joint = reference.random_joint(0, 6, VOCAB)

  def build(line, hyperparams):
    policy = lambda view, left: line[view.position]
    model = as_denoiser(table(jnp.log(joint)))
    return model, samplers.learned(policy, **hyperparams)

  return punt_jax.compile(build, driver=film)


def filmed(line, **hyperparams):
  """(Decoded, Moves) of 1,024 empty canvases; line (6,) are the logits."""
  hyperparams = dict(budget=np.inf, temperature=1.0, bias=0.0) | hyperparams
  empty = np.full((1024, 6), VOCAB)
  return filmer()(jnp.array(line), hyperparams, jax.random.key(0), empty)


def test_a_budget_is_never_exceeded():
  likes = np.arange(6) - 4.0
  for budget in (1.0, 2.0, 3.9, 6.0):
    out, moves = filmed(likes, budget=budget)
    assert out.done.all() and out.steps.max() == min(int(budget), 6)
    left = np.asarray(moves.info.left)[0]
    assert (left == np.floor(budget)).all()


def test_an_empty_action_writes_the_position_liked_best():
  out, moves = filmed(np.arange(6) - 1e4)
  assert not moves.info.action.any()
  np.testing.assert_array_equal(
    out.when, np.tile(np.arange(5, -1, -1), (1024, 1))
  )


def test_actions_have_the_probabilities_of_the_policy():
  """And are what is written, but for the fallback and the last step."""
  logits = np.array([-3, -1, -2, 0.1, 0.2, -20])
  _, moves = filmed(logits, bias=0.5)
  info = jax.tree.map(lambda x: np.asarray(x)[0], moves.info)
  action, masked = info.action, info.view.masked
  assert masked.all()
  share = 1 / (1 + np.exp(-logits - 0.5))
  np.testing.assert_allclose(action.mean(0), share, atol=0.06)
  written = np.asarray(moves.tokens[0]) != VOCAB
  some = action.any(1)
  np.testing.assert_array_equal(written[some], action[some])
  assert (written[~some] == [0, 0, 0, 0, 1, 0]).all() and (~some).any()
  _, sure = filmed(logits, temperature=0.0)
  assert (np.asarray(sure.info.action[0]) == [0, 0, 0, 1, 1, 0]).all()


@pytest.mark.parametrize('hyperparams, said', [
  (dict(budget=0.0), 'budget = 0.0 is out of range'),
  (dict(temperature=-1.0), 'temperature = -1.0 is out of range'),
  (dict(bias=np.nan), 'bias = nan is out of range'),
])
def test_bad_hyperparams(hyperparams, said):
  with pytest.raises(ValueError, match=said):
    samplers.learned(lambda view, left: view.confidence, **hyperparams)


def test_padding_does_not_move_a_policy():
  """The same canvas with two padded positions on the left."""
  rng = np.random.default_rng(0)
  module = orders.Policy(width=8, heads=2, start=0.5)
  number = lambda length: jnp.array(rng.random(length), jnp.float32)
  blank = np.zeros(5)
  view = punt_jax.View(
    tokens=blank, masked=np.array([1, 1, 0, 1, 1], bool), open=blank > -1,
    position=np.arange(5), drafts=blank, draft_logp=blank, draft_score=blank,
    confidence=number(5), margin=number(5), entropy=number(5), total=5, step=0,
    features=jnp.array(rng.normal(size=(5, 4)), jnp.float32),
  )

  def pad(x):
    x = np.asarray(x)
    return x if not x.ndim else np.pad(x, [(2, 0)] + [(0, 0)] * (x.ndim - 1))

  padded = jax.tree.map(pad, view)._replace(
    position=np.array([-1, -1, 0, 1, 2, 3, 4])
  )
  batched = jax.tree.map(lambda x: np.asarray(x)[None], view)
  like = jax.eval_shape(module.init, jax.random.key(0), batched, jnp.ones(1))
  params = jax.tree.map(
    lambda x: jnp.array(rng.normal(size=x.shape), jnp.float32), like['params']
  )
  policy = jax.jit(orders.policy(module, params))
  found, same = policy(view, 3.0), policy(padded, 3.0)
  assert np.ptp(found) > 0.1
  np.testing.assert_allclose(found, same[2:], rtol=1e-4, atol=1e-5)
  assert np.abs(policy(view, 2.0) - found).max() > 1e-3  # it counts the steps
