"""Influence between positions, predicted by a head that learns from PUNT.

PUNT (Azangulov et al. https://arxiv.org/abs/2510.21961) shows drafts and asks
how far they move the predictions elsewhere, in every step anew. Here its
questions are recorded once and a small head on the features of the frozen
denoiser learns to answer them, as DEMASK does from single reveals (Ringel et
al. https://arxiv.org/abs/2604.02560, who predict a total variation). A question
shows several drafts; the head's answer at a tested position is the sum of their
influences. Its loss is the Poisson deviance: its optimum is the conditional
mean, and it minds the heavy tail of a divergence less than squares do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from punt_jax import checks, samplers
from punt_jax.decode import film
from punt_jax.models import orders
from punt_jax.samplers.influence import MOST
from punt_jax.types import View
from train.orders import method


class Asked(NamedTuple):
  """N canvases, and R questions about each."""

  tokens: np.ndarray  # (N, L) int32, before a draft is shown
  shown: np.ndarray  # (N, R, L) bool: where drafts were shown together
  moved: np.ndarray  # (N, R, L) nats; NaN where not compared


def record(task, probes, epsilon, tokens, given, seed):
  """Decodes canvases and keeps what was asked -> ([Asked] by row, passes).

  Args:
    task: tasks.Task.
    probes: 'punt', groups of drafts in the canvases that PUNT comes by, or
      'explore', single drafts in random order.
    epsilon: of PUNT.
    tokens: (B, L) answers; only what is given is read.
    given: (B, L) bool.
    seed: of the drafts.
  """
  checks.known('probes', probes, ('punt', 'explore'))
  groups = probes == 'punt'
  sampler = samplers.punt(epsilon) if groups else samplers.explore()
  build = lambda params, _: (task.loaded.denoiser(params), sampler)
  run = punt_jax.compile(build, driver=film)
  vocab = task.loaded.text.vocab
  canvas = np.where(given, tokens, vocab).astype(np.int32)
  key = jax.random.key(seed)
  out, moves = jax.device_get(run(task.loaded.params, (), key, canvas))
  before = np.concatenate([canvas[None], moves.tokens[:-1]])  # (T, B, L)
  if groups:
    found = Asked(before, moves.info.shown, moves.info.divergence)
  else:  # a step says what the reveal of the step before it moved
    shown, moved = (x[1:, :, None] for x in moves.info)
    found = Asked(before[:-1], shown, moved)
  moved = np.where(found.shown.any(-1, keepdims=True), found.moved, np.nan)
  found = found._replace(moved=np.minimum(moved, MOST))
  some = ~np.isnan(moved).all((-1, -2))  # (T, B)
  row = lambda b: Asked(*(x[some[:, b], b] for x in found))
  return [row(b) for b in range(len(canvas))], int(out.meter.nfe.sum())


def joined(parts) -> Asked:
  """One Asked of several."""
  return Asked(*map(np.concatenate, zip(*parts, strict=True)))


def seen(task, tokens, batch) -> View:
  """The View of each canvas (N, L), computed once, `batch` at a time."""

  def one(frozen, row):
    view = method.view_of(task.loaded.denoiser(frozen), row[None])
    return jax.tree.map(lambda x: x[0], view)

  every = lambda frozen, tokens: jax.lax.map(
    lambda row: one(frozen, row), tokens, batch_size=batch
  )
  return jax.device_get(jax.jit(every)(task.loaded.params, tokens))


def answers(weight, shown):
  """What moves (N, R, L) nats, if shown (N, R, L) have influence (N, L, L)."""
  return jnp.einsum('nri,nij->nrj', shown.astype(jnp.float32), weight)


def deviance(answer, moved):
  """Mean Poisson deviance: half of it, but for what no answer changes."""
  tested = ~jnp.isnan(moved)
  moved = jnp.where(tested, moved, 0.0)
  each = answer - moved * jnp.log(answer + 1e-6)
  return jnp.where(tested, each, 0.0).sum() / tested.sum()


def explained(answer, moved):
  """Share of the variance of `moved` that `answer` explains."""
  tested = ~np.isnan(moved)
  moved, answer = moved[tested], np.asarray(answer)[tested]
  return float(1 - np.square(moved - answer).sum() / moved.size / moved.var())


def rivals(asked, test):
  """{name: share explained} of tables that are the same for all canvases."""
  place = np.arange(asked.tokens.shape[1])
  kinds = {
    'constant': np.zeros((place.size, place.size), int),
    'distance': np.abs(place[:, None] - place),
    'pair': None,
  }
  fit = lambda alike: samplers.fit_influence(
    samplers.Probes(asked.shown, asked.moved), alike, iterations=50
  )
  guess = lambda table: test.shown.astype(np.float32) @ table
  return {
    name: explained(guess(fit(alike)), test.moved)
    for name, alike in kinds.items()
  }


def make(config, task) -> method.Method:
  """The method on a task.

  Args:
    config: module (of models.orders.Pairs), probes, epsilon (of PUNT), rows
      (whose probes are learned from), tests (rows whose probes test), batch
      (canvases), and the optimizer's.
    task: tasks.Task.

  Raises:
    ValueError: no rows to learn from or to test on, or none that differ, or a
      hyperparameter out of range.
  """
  for name in ('rows', 'tests', 'batch'):
    checks.whole(name, config[name], 1)
  module = orders.Pairs(**config.module)
  rule = method.optimizer(config)
  answered = task.batch(0, config.rows + config.tests)
  by_row, passes = record(
    task, config.probes, config.epsilon, *answered, config.seed
  )
  asked = joined(by_row[: config.rows])
  test = joined(by_row[config.rows :])
  for name, found in (('rows', asked), ('tests', test)):
    if not np.nan_to_num(found.moved).var():
      raise ValueError(
        f'the probes in {config[name]} {name} all measured the same: there is'
        f' nothing to learn or to explain; use more config.{name}'
      )
  known = {'passes': passes + len(asked.tokens)}  # of all rows, and `seen`
  known |= {f'explained_{k}': v for k, v in rivals(asked, test).items()}

  views, test_views = (
    seen(task, x.tokens, config.batch) for x in (asked, test)
  )
  weigh = lambda params, view: module.apply({'params': params}, view)

  @jax.jit
  def update(state, view, shown, moved):
    objective = lambda params: deviance(
      answers(weigh(params, view), shown), moved
    )
    loss, grad = jax.value_and_grad(objective)(state.params)
    return method.descend(rule, state, grad), {'loss': loss}

  @jax.jit
  def measure(params, view, shown):
    apply = orders.pairs(module, params)
    one = lambda row: answers(apply(row[0])[None], row[1][None])[0]
    return jax.lax.map(one, (view, shown), batch_size=config.batch)

  def advance(state, step):
    rng = np.random.default_rng((config.seed, step))
    chosen = rng.integers(len(asked.tokens), size=config.batch)
    batch = views, asked.shown, asked.moved
    return update(state, *jax.tree.map(lambda x: x[chosen], batch))

  def evaluate(state):
    """The loss, and the shares explained, on rows not learned from."""
    found = measure(state.params, test_views, test.shown)
    return known | {
      'test_loss': float(deviance(found, test.moved)),
      'explained': explained(found, test.moved),
    }

  init = lambda key: module.init(key, method.example(task))['params']
  return method.Method('pairs', init, advance, evaluate, lambda p: p)
