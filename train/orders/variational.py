"""An unmasking policy by variational inference.

Fox, Bowyer, Liu, Aitchison, Santos-Rodriguez, Yang, "Learning Generation Orders
for Masked Discrete Diffusion Models via Variational Inference"
(https://arxiv.org/abs/2602.23968). The denoiser is frozen. In each of T steps
the policy pi draws an action, a bit per masked position, and the positions it
chooses are written independently of each other; the last step writes what is
left. The actions are latent:

  log p(x) >= E_q [ sum_t log p(x at what a_t writes | z_t)
                    + log pi(a_t | z_t) - log q(a_t | z_t, x) ].

q sees the answer x. The paper says that its posterior is parameterized so that
many positions are drawn at once, "score renormalization" in the digest we have;
here q is the policy's Bernoulli distribution tilted at each position by a
learned score and normalized again: logit q = logit pi + s(z_t, x). The
gradient: of each step, the expectation over its own action is exact
(Rao-Blackwell), for the steps after it the score function with the mean of the
other samples of the same row as a baseline (RLOO, Kool et al. 2019). What else
the paper leaves open to us: the temperature divides both logits, and one policy
serves several budgets, told how many steps are left.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, select
from punt_jax.models import orders
from punt_jax.sampler import look
from punt_jax.types import Array, Canvas
from train.orders import method


class Walk(NamedTuple):
  """What the steps of N rows contribute to the bound; nats."""

  value: Array  # (T, N), the expectation over the step's own action
  logq: Array  # (T, N) log-probability of the action that was drawn


def walk(apply, model, tokens, given, uniforms) -> Walk:
  """Unmasks the answer in the order that the posterior draws.

  Args:
    apply: (View of N rows, steps left (N,), log-probability of the answer
      (N, L)) -> logits of the policy and of the posterior, (N, L) each.
    model: Denoiser.
    tokens: (N, L) the answer.
    given: (N, L) bool: shown from the start.
    uniforms: (T, N, L); an action is uniform < probability.
  """
  budget, rows, _ = uniforms.shape
  valid = jnp.ones(given.shape, bool)
  total = (~given).sum(-1)
  keys = jax.random.split(jax.random.key(0), rows)  # of drafts nobody reads

  def step(hidden, at):
    t, uniform = at
    masked = ~given & (hidden == model.vocab)
    canvas = Canvas(hidden, valid, ~given, masked, total)
    when, left = jnp.full(rows, t), jnp.full(rows, budget - t)
    memo = model.init(hidden, valid)
    _, answer, view = look(keys, when, canvas, memo, model)
    truth = readout.log_prob(model, answer.features, tokens, masked)
    view, truth = jax.lax.stop_gradient((view, truth))
    prior, guided = apply(view, left, truth)
    action = uniform < jax.nn.sigmoid(guided)
    kept = jax.vmap(select.act)(action, prior, masked, left <= 1)
    found = jax.vmap(contribution)(
      prior, guided, truth, masked, action, left <= 1
    )
    return jnp.where(kept, tokens, hidden), found

  hidden = jnp.where(given, tokens, model.vocab)
  return jax.lax.scan(step, hidden, (jnp.arange(budget), uniforms))[1]


def contribution(prior, guided, truth, masked, action, last) -> Walk:
  """What one step of one row adds; arrays (L,), see `walk`."""
  on, off = jax.nn.log_sigmoid(guided), jax.nn.log_sigmoid(-guided)
  share = jnp.exp(on)
  apart = share * (on - jax.nn.log_sigmoid(prior))
  apart += (1 - share) * (off - jax.nn.log_sigmoid(-prior))
  sum_ = lambda x: jnp.where(masked, x, 0.0).sum()
  # The empty action, which writes the position that the policy likes best.
  best = select.act(jnp.zeros_like(action), prior, masked, False)
  empty = jnp.exp(sum_(off)) * jnp.where(best, truth, 0.0).sum()
  value = sum_(share * truth) + empty - sum_(apart)
  logq = sum_(jnp.where(action, on, off))
  return Walk(
    jnp.where(last, sum_(truth), value), jnp.where(last, 0.0, logq)
  )


def surrogate(walked: Walk):
  """(B, K) numbers whose mean has the estimated gradient; its value is biased.

  Args:
    walked: (T, B, K): K >= 2 samples of each row.
  """
  later = walked.value.sum(0) - jnp.cumsum(walked.value, 0)
  count = later.shape[-1]
  others = (later.sum(-1, keepdims=True) - later) / (count - 1)
  weight = jax.lax.stop_gradient(later - others)
  return (walked.value + weight * walked.logq).sum(0)


def make(config, task) -> method.Method:
  """The method on a task.

  Args:
    config: module (of models.orders.Policy), budgets (one is used in each
      update, in turn), batch, samples (K), tests, and the optimizer's.
    task: tasks.Task.
  """
  checks.whole('samples', config.samples, 2)
  for name in ('batch', 'tests'):
    checks.whole(name, config[name], 1)
  if not config.budgets:
    raise ValueError('budgets is empty: name at least one number of steps')
  for budget in config.budgets:
    checks.whole('budget', budget, 1)
  module = orders.Policy(**config.module)
  tilt = orders.Policy(**{**config.module, 'start': 0.0, 'slope': 0.0})
  rule = method.optimizer(config)

  def init(key):
    own, other = jax.random.split(key)
    example, left = method.example(task), jnp.ones(1)
    truth = jnp.zeros(example.masked.shape)
    return {
      'policy': module.init(own, example, left)['params'],
      'posterior': tilt.init(other, example, left, (truth,))['params'],
    }

  def logits(params, view, left, truth):
    prior = module.apply({'params': params['policy']}, view, left)
    more = tilt.apply({'params': params['posterior']}, view, left, (truth,))
    return prior, prior + more

  def walks(params, frozen, key, tokens, given, budget, count):
    """(T, B, count) trees."""
    spread = lambda x: jnp.repeat(x, count, 0)
    tokens, given = spread(tokens), spread(given)
    uniforms = jax.random.uniform(key, (budget, *tokens.shape))
    apply = lambda *seen: logits(params, *seen)
    model = task.loaded.denoiser(frozen)
    walked = walk(apply, model, tokens, given, uniforms)
    return jax.tree.map(lambda x: x.reshape(budget, -1, count), walked)

  def update(state, frozen, key, tokens, given, budget):
    def objective(params):
      walked = walks(params, frozen, key, tokens, given, budget, config.samples)
      return -surrogate(walked).mean(), walked.value.sum(0).mean()

    grad, bound = jax.grad(objective, has_aux=True)(state.params)
    return method.descend(rule, state, grad), {'bound': bound}

  update = jax.jit(update, static_argnums=5)
  measure = jax.jit(
    lambda params, frozen, key, tokens, given, budget: walks(
      params, frozen, key, tokens, given, budget, 1
    ).value.sum(0).mean(),
    static_argnums=5,
  )
  test = task.test(config.tests)

  def advance(state, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    budget = config.budgets[step % len(config.budgets)]
    batch = task.batch(step, config.batch)
    return update(state, task.loaded.params, key, *batch, budget)

  def evaluate(state):
    """The bound (nats per row) at each budget, on rows not learned from."""
    return {
      f'bound_{budget}': float(measure(
        state.params, task.loaded.params, jax.random.key(0), *test, budget
      )) for budget in config.budgets
    }

  return method.Method(
    'policy', init, advance, evaluate, lambda params: params['policy']
  )
