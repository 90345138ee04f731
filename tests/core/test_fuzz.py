"""Anything at all through every public door: an answer, or one sentence.

A sentence is a ValueError or TypeError that our code has raised, of one line
and less than 400 characters. What a door gives is traced, not compiled: that is
where most of what is wrong shows, and takes a tenth of a second.
"""

import inspect
import os
import time
import traceback

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import punt_jax
from punt_jax import (
  canvas,
  checks,
  denoiser,
  metrics,
  oracles,
  samplers,
  schedules,
)
from tests.samplers.test_battery import EXAMPLES

V, L = 3, 6
MASKS = np.full((2, L), V)
OURS = os.path.dirname(punt_jax.__file__)
TIME = 10.0  # seconds that one call may take, on a busy machine


def logits(tokens, valid):
  return jnp.zeros((*tokens.shape, V)) + valid[..., None]


def attend(tokens, valid):
  shape = tokens.shape[0], 2, L, L
  return logits(tokens, valid), jnp.ones(shape) / L


WORLD = oracles.product(np.zeros((L, V)))
MODEL = oracles.as_denoiser(WORLD)._replace(
  ask=punt_jax.from_features(attend, lambda f: f, V).ask
)
INNER = samplers.one_by_one()
ROWS = np.zeros((2, L), int)
PROFILE = np.linspace(1, 0.5, L)
EMPTY = np.empty(0)

# What stands in the place of a good argument.
ANYTHING = [
  None, True, False, 'word', '', b'', 0, 1, -1, 2, 7, 0.0, 0.5, -0.5, 1e-45,
  1e-38, 1e30, 1e300, -1e300, np.nan, np.inf, -np.inf, 2**31, 2**32, 2**40,
  -(2**40), 10**5000, 1j, [], {}, (), [[1, 2], [3]], ['a'], object(), object,
  len, samplers.punt, lambda *x: None, lambda *x: np.nan, lambda *x: -1,
  lambda *x: x[0], MODEL, INNER, WORLD,
  EMPTY, np.zeros(()), np.zeros(1), np.ones(L), np.ones(L, int),
  np.zeros(2**10), np.full(L, np.nan), np.full((L, V), -np.inf),
  np.full((L, V), np.inf),
  np.zeros((L, L)), np.full((L, L), np.nan), np.zeros((2, L)), MASKS, ROWS,
  np.zeros((2, L), bool), np.ones((2, L), bool), np.zeros((L, 0)),
  np.zeros((0, L), int), np.full((2, L), 10**9), np.full((2, L), -1),
  np.zeros((V, V)), np.full((V, V), np.nan), np.zeros((1, 1)), np.array('x'),
  np.array([None, 1]), np.datetime64('2020-01-01'), np.zeros(L, complex),
  np.float16(0.1), jnp.bfloat16(0.1), np.int64(2**40), np.uint64(2**63),
  jnp.zeros(()), jnp.ones(L), jnp.full((), jnp.nan), jax.random.key(0),
  jax.random.split(jax.random.key(0), 2), jax.random.PRNGKey(0),
]


class Traced:
  """Stands for a tracer of this value."""

  def __init__(self, value):
    self.value = value

  def __repr__(self):
    return f'Traced({self.value!r})'


TRACED = [
  Traced(x) for x in (0.5, -1.0, np.nan, 2, True, np.ones(L), np.zeros((L, V)),
                      MASKS, np.zeros((2, L), bool), np.zeros((0, 3)))
]


def sampled(sampler, tokens=MASKS):
  """The door that every sampler goes through, traced."""
  return jax.eval_shape(
    lambda: punt_jax.sample(0, MODEL, sampler, tokens)
  )


def decoded_with(model):
  return jax.eval_shape(lambda: punt_jax.sample(0, model, INNER, MASKS))


def doors_of_samplers():
  for name in (*samplers.NAMES, 'blocks', 'stop', 'smc', 'leap', 'thin'):
    function = getattr(samplers, name)
    good = dict(EXAMPLES.get(name, {}))
    if name in ('blocks', 'stop', 'smc'):
      good = {k: v for k, v in good.items() if k != 'epsilon'}
      good['inner'] = INNER
    if name == 'leap':
      good = dict(steps=2, rates=lambda *x: (0.5, 0.5))
    if name == 'thin':
      good = dict(table=np.zeros((L, L)), kappa=0.1)
    if name == 'learned':
      good['policy'] = lambda view, left: view.confidence
    for key, value in inspect.signature(function).parameters.items():
      if value.default is not inspect.Parameter.empty:
        good.setdefault(key, value.default)
    rule = punt_jax.from_rule if name == 'thin' else lambda sampler: sampler
    yield name, lambda _=(function, rule), **args: sampled(
      _[1](_[0](**args))
    ), good


def doors_of_models():
  wrapped = lambda wrap: lambda **args: decoded_with(wrap(**args))
  yield 'from_logits', wrapped(punt_jax.from_logits), dict(
    logits_fn=logits, vocab=V, mask=None
  )
  yield 'from_features', wrapped(punt_jax.from_features), dict(
    features_fn=attend, head_fn=lambda f: f, vocab=V, mask=None
  )
  yield 'temper', wrapped(punt_jax.temper), dict(model=MODEL, temperature=1.0)
  yield 'top_p', wrapped(punt_jax.top_p), dict(model=MODEL, p=0.5)
  yield 'ban', wrapped(punt_jax.ban), dict(model=MODEL, ids=[0])
  yield 'bias', wrapped(denoiser.bias), dict(model=MODEL, ids=[0], amount=-1.0)
  for name in ('judge_drafts', 'shift_right', 'left_to_right'):
    yield name, wrapped(getattr(denoiser, name)), dict(model=MODEL)
  yield 'as_denoiser', wrapped(oracles.as_denoiser), dict(world=WORLD)
  yield 'from_rule', lambda **args: sampled(punt_jax.from_rule(**args)), dict(
    rule=lambda key, view: view.masked, exact=None, needs=None
  )


def doors_of_runs():
  args = dict(
    key=0, tokens=MASKS, given=MASKS < 0, valid=MASKS > 0, rows=np.arange(2)
  )
  yield 'sample', lambda **x: jax.eval_shape(lambda: punt_jax.sample(**x)), (
    dict(args, denoiser=MODEL, sampler=INNER, max_steps=2)
  )
  args = {k: v for k, v in args.items() if k != 'key'}
  yield 'checks', lambda **x: canvas.checked(
    MODEL, *canvas.shaped(**x)
  ), args
  yield 'compile', lambda **x: punt_jax.compile(**x), dict(
    build=lambda *x: (MODEL, INNER), max_steps=2, driver=punt_jax.decode.decode,
    check=True,
  )
  yield 'mesh', punt_jax.parallel.mesh, dict(data=1, model=1)
  yield 'my_rows', punt_jax.parallel.my_rows, dict(count=3)


def doors_of_schedules():
  for name in ('even', 'cosine', 'arccos', 'geometric'):
    make = getattr(schedules, name)
    yield name, lambda make=make, **args: make(**args)(0, 5, 5), dict(steps=3)
  yield 'listed', lambda sizes: schedules.listed(sizes)(0, 5, 5), dict(
    sizes=[1, 2]
  )
  yield 'linear_epsilon', lambda **x: schedules.linear_epsilon(**x)(0.5), dict(
    start=0.1, end=1.0
  )
  for name in ('curve', 'total_correlation', 'dual_total_correlation',
               'isotonic'):
    yield name, getattr(schedules, name), dict(profile=PROFILE)
  yield 'grid', schedules.grid, dict(n=9, points=4)
  yield 'expected_kl', schedules.expected_kl, dict(profile=PROFILE, sizes=[L])
  yield 'guarantee', schedules.guarantee, dict(sizes=[2, 3])
  yield 'optimal', schedules.optimal, dict(profile=PROFILE, k=2)
  yield 'inverse_root', schedules.inverse_root, dict(profile=PROFILE, k=2)
  yield 'sizes_of', schedules.sizes_of, dict(schedule=schedules.even(2), n=5)
  yield 'estimate_profile', lambda **x: schedules.estimate_profile(
    params=(), **x
  ), dict(
    build=lambda params: MODEL, key=0, tokens=ROWS, counts=None,
    by='token', at_once=2,
  )
  yield 'forced_kl', schedules.forced_kl, dict(
    nats=np.zeros((2, L, L)), sizes=[L]
  )
  yield 'exact_profile', schedules.exact_profile, dict(world=WORLD)


def doors_of_worlds():
  """Traced: pieces that a world computes beforehand would be compiled."""
  for name, make, good in worlds():
    traced = lambda *args, make=make, **more: jax.eval_shape(
      lambda: [make(*args, **more), None][1]
    )
    yield name, traced, good


def worlds():
  yield 'table', oracles.table, dict(log_joint=np.zeros((2, 2)))
  yield 'product', oracles.product, dict(log_p=np.zeros((2, 2)))
  yield 'chain', oracles.chain, dict(
    log_initial=np.zeros(2), log_transition=np.zeros((2, 2)), length=3
  )
  yield 'hmm', oracles.hmm, dict(
    log_initial=np.zeros(2), log_transition=np.zeros((2, 2)),
    log_emission=np.zeros((2, 3)), length=3,
  )
  yield 'tree', oracles.tree, dict(
    log_root=np.zeros(2), log_edge=np.zeros((2, 2, 2)), parent=[0, 0]
  )
  yield 'strip', oracles.strip, dict(
    log_down=np.zeros((2, 2, 2)), log_right=np.zeros((1, 2, 2, 2))
  )
  flat = np.zeros((2, 2))
  yield 'documents', oracles.documents, dict(
    log_first=np.zeros(2), log_heading=flat, log_structure=flat,
    log_detail=flat, up=1.0, paragraphs=1, details=1, length=4,
  )
  yield 'code', oracles.code, dict(checks=[[1, 1, 0]])
  yield 'parity', oracles.parity, dict(length=3, checks=[(0, 1)])
  yield 'permuted', oracles.permuted, dict(world=WORLD, order=np.arange(L))
  small = dict(key=0, length=2, vocab=2)
  for name, more in (
    ('random_table', {}), ('random_chain', dict(beta=1.0)),
    ('random_tree', dict(beta=1.0)), ('random_strip', dict(beta=1.0)),
    ('random_hmm', dict(states=2, beta=1.0)),
    ('random_documents', dict(paragraphs=1, details=1, down=1.0, up=1.0)),
  ):
    yield name, getattr(oracles, name), small | more
  yield 'random_code', oracles.random_code, dict(
    key=0, length=4, checks=2, weight=2
  )
  yield 'world.sample', lambda key, n: WORLD.sample(key, n), dict(key=0, n=2)
  for function in ('log_prob', 'logits'):
    call = getattr(WORLD, function)
    yield function, lambda tokens, call=call: call(tokens), dict(tokens=MASKS)


def doors_of_metrics():
  rows = dict(world=WORLD, tokens=ROWS)
  for name in ('excess_nll', 'impossible_share', 'joint_tv', 'unigram_tv',
               'pair_tv'):
    yield name, getattr(metrics, name), rows
  for name in ('log_p_per_token', 'agreement'):
    yield name, getattr(metrics, name), dict(rows, given=MASKS)
  yield 'factorization_gap', metrics.factorization_gap, dict(
    rows, given=MASKS, log_q=np.zeros(2)
  )
  yield 'noise_floor', metrics.noise_floor, dict(dist=np.ones((1, 1)), n=3)
  for name in ('estimate', 'spread'):
    yield name, getattr(metrics, name), dict(values=[1.0, 2.0])


def told(args):
  return {key: checks.shown(value) for key, value in args.items()}


def settle(function, args):
  """Calls it; a fault that is not one sentence of ours fails the test."""
  begun = time.monotonic()
  traced = {k: v.value for k, v in args.items() if isinstance(v, Traced)}
  fixed = {k: v for k, v in args.items() if k not in traced}
  try:
    with np.errstate(all='ignore'):
      if traced:
        run = lambda traced: [function(**fixed, **traced), None][1]
        jax.eval_shape(run, traced)
      else:
        function(**args)
  except (ValueError, TypeError) as error:
    said, frames = str(error), traceback.extract_tb(error.__traceback__)
    where = f'{type(error).__name__} of {told(args)}: {said[:500]}'
    assert frames[-1].filename.startswith(OURS), where
    assert said and '\n' not in said and len(said) < 400, where
  assert time.monotonic() - begun < TIME, told(args)


DOORS = {
  'samplers': doors_of_samplers,
  'models': doors_of_models,
  'runs': doors_of_runs,
  'schedules': doors_of_schedules,
  'worlds': doors_of_worlds,
  'metrics': doors_of_metrics,
}


FEW = dict(
  samplers=60, models=60, runs=60, schedules=150, worlds=60, metrics=150
)


@pytest.mark.parametrize('times', [
  1, pytest.param(6, marks=pytest.mark.slow)
])
@pytest.mark.parametrize('kind', DOORS)
def test_anything_is_an_answer_or_a_sentence(kind, times):
  doors = {name: (call, good) for name, call, good in DOORS[kind]()}
  cases = [(name, key) for name, (_, good) in doors.items() for key in good]

  @hypothesis.settings(
    max_examples=FEW[kind] * times, deadline=None, database=None,
    derandomize=True, suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
  )
  @hypothesis.given(
    st.sampled_from(cases), st.sampled_from(ANYTHING + TRACED)
  )
  def check(case, value):
    name, key = case
    call, good = doors[name]
    settle(call, good | {key: value})

  check()
