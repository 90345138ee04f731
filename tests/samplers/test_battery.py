"""What every sampler must do, checked by name on one small exact world.

One shape for all (L = 6, V = 3, B = 8), one compiled run per sampler.
"""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.decode import film
from punt_jax.oracles import as_denoiser, table
from tests.helpers import reference
from tests.helpers.attention import attending

# around punt, whose epsilon stands with theirs
WRAPPERS = ['blocks', 'stop', 'smc']

# Reasonable arguments of every sampler; numbers are traced hyperparams.
EXAMPLES = {
  'punt': dict(epsilon=0.2),
  'one_by_one': dict(score='confidence'),
  'top_k': dict(k=2),
  'uniform': dict(k=2),
  'maskgit': dict(steps=3, noise=1.0),
  'entropy_bound': dict(gamma=0.6),
  'dilated': dict(base=2.0),
  'halton': dict(steps=3),
  'threshold': dict(tau=0.45),
  'factor': dict(f=0.9),
  'hierarchical': dict(low=0.45, high=0.8, remask=0.4),
  'ancestral': dict(steps=3),
  'euler': dict(steps=3),
  'first_hitting': dict(),
  'remdm': dict(steps=6, eta=0.4),
  'p2': dict(steps=4, eta=1.0),
  'frechet': dict(delta=-0.4),
  'credit': dict(tau=0.5, alpha=0.7, entries=2),
  'klass': dict(tau=0.4, epsilon=0.3, history=1.0, k=1.0),
  'slowfast': dict(slow=2.0, reach=0.4, spread=1.0, tau=0.5, k=2.0),
  'lookahead': dict(k=2.0, paths=2, heat=0.5),
  'info_gain': dict(k=2.0, paths=2, heat=0.5, skip=0.6),
  'blocks': dict(epsilon=0.2, length=2),
  'stop': dict(epsilon=0.2, eos=1),
  'smc': dict(epsilon=0.2, particles=4),
  'speculative': dict(k=3.0),
  'adaptive_parallel': dict(mix=0.5, window=3.0),
  'dapd': dict(tau=0.2, late=0.3, sure=0.6),
  'adas': dict(k=2.0, alpha=1.0),
  'influence': dict(
    table=np.random.default_rng(0).random((6, 6), np.float32), kappa=0.8
  ),
  'learned': dict(policy=6.0, budget=4.0, temperature=1.0, bias=0.0),
  'random_size': dict(steps=3.0, distribution='uniform'),
  'random_order': dict(sizes=np.array([2.0, 0, 3, 1])),
  'explore': dict(),
}
NAMES = [*samplers.NAMES, *WRAPPERS, 'explore']


def defaults(name):
  """Arguments for a sampler without an example: its defaults, traced."""
  arguments = inspect.signature(getattr(samplers, name)).parameters
  return {
    k: p.default for k, p in arguments.items() if isinstance(p.default, float)
  }


EXAMPLES |= {name: defaults(name) for name in NAMES if name not in EXAMPLES}
BENT = ('maskgit', 'dilated', 'stop', 'smc')  # never exact
BENT += ('ancestral', 'euler', 'remdm', 'p2')
# These do not draw each token from the model's distribution on the canvas
# before:
OTHER_DISTRIBUTION = ('stop', 'smc', 'speculative', 'credit')
# These ask about several canvases of a row at once, in one question:
BATCHED = ('smc',)
AHEAD = ('lookahead', 'info_gain')  # in some of their steps
# These change what they have written; smc shows whoever leads:
CHANGING = ('remdm', 'p2', 'hierarchical', 'smc')
FILMED = ('punt', 'threshold', 'blocks')
WATCHED = ('punt', *CHANGING)  # their log_q is checked there alone

LENGTH, VOCAB = 6, 3
M = VOCAB
JOINT = reference.random_joint(0, LENGTH, VOCAB, sharpness=1.5)
ATTENTION = np.random.default_rng(1).random((2, LENGTH, LENGTH), np.float32)
TOKENS = np.array(
  [
    [M, M, M, M, M, M],
    [1, M, M, M, M, 2],
    [0, 1, 2, 0, 1, 2],  # nothing open
    [M, M, M, M, 0, M],  # the first two are padding
    [M, M, 0, M, 0, 2],  # the last two are padding
    [0, 1, 2, M, 1, 0],
    [M, M, M, M, M, M],  # all padding
    [M, 2, M, M, M, 0],
  ]
)
VALID = np.ones(TOKENS.shape, bool)
VALID[3, :2] = VALID[4, 4:] = VALID[6] = False
OPEN = VALID & (TOKENS == M)
IDLE = ~OPEN.any(1)


def make(name, **args):
  """The sampler of this name; the wrappers around punt."""
  if name in WRAPPERS:
    inner = samplers.punt(args.pop('epsilon'))
    return getattr(samplers, name)(inner, **args)
  if name == 'learned':
    slope = args.pop('policy')
    args['policy'] = lambda view, left: (
      slope * (view.confidence - 0.5) + 1 / left
    )
  return getattr(samplers, name)(**args)


class Case:
  """A sampler by name, its compiled drivers, and how often the model ran."""

  def __init__(self, name):
    self.name = name
    own = inspect.signature(getattr(samplers, name)).parameters
    shapes = [k for k, p in own.items() if type(p.default) in (str, int)]
    self.fixed = {k: v for k, v in EXAMPLES[name].items() if k in shapes}
    self.traced = {k: v for k, v in EXAMPLES[name].items() if k not in shapes}
    self.traces = 0
    self.canvases = 0
    self.decode = punt_jax.compile(self.build)
    self.film = punt_jax.compile(self.build, driver=film)
    self.watch = punt_jax.watch(self.build)

  def build(self, joint, hyperparams):
    world = table(jnp.log(joint))

    def counted(tokens):
      self.traces += 1
      rows = math.prod(tokens.shape[:-1])
      jax.debug.callback(lambda: self.count(rows))

    def logits(tokens):
      counted(tokens)
      return world.logits(tokens)

    def in_order(memo, tokens, rank, rows):  # the world's own way is longer
      counted(tokens)
      return as_denoiser(world).in_order(memo, tokens, rank, rows)

    model = as_denoiser(world._replace(logits=logits))
    model = attending(model._replace(in_order=in_order), ATTENTION)
    return model, make(self.name, **self.fixed, **hyperparams)

  def count(self, rows):
    self.canvases += rows

  def run(
    self, driver=None, seed=0, tokens=TOKENS, valid=VALID, hyperparams=None
  ):
    """(result, forward passes that the model really ran)."""
    before = self.canvases
    driver = driver or self.decode
    hyperparams = self.traced if hyperparams is None else hyperparams
    out = driver(JOINT, hyperparams, jax.random.key(seed), tokens, valid=valid)
    if driver is self.watch:
      out = list(out)
    out = jax.device_get(out)
    jax.effects_barrier()
    return out, (self.canvases - before) / len(TOKENS)


@functools.cache
def case_of(name):
  return Case(name)


@pytest.fixture(params=NAMES)
def case(request):
  return case_of(request.param)


def same_row(got, expected, row, there=slice(None), here=slice(None)):
  """The row came out the same to the bit, cost included."""
  for name in ('tokens', 'when'):
    a, b = getattr(got, name)[row, here], getattr(expected, name)[row, there]
    np.testing.assert_array_equal(a, b, f'{name} of row {row}')
  for name in ('log_q', 'steps', 'done'):
    assert getattr(got, name)[row] == getattr(expected, name)[row], name
  for name in ('nfe', 'depth', 'positions'):
    a, b = getattr(got.meter, name), getattr(expected.meter, name)
    assert a[row] == b[row], name


def test_fills_the_canvas_and_nothing_else(case):
  out, _ = case.run()
  assert out.done.all()
  assert (out.tokens[~OPEN] == TOKENS[~OPEN]).all()
  assert ((out.tokens[OPEN] >= 0) & (out.tokens[OPEN] < VOCAB)).all()
  assert (out.when[~OPEN] == -1).all()
  steps = np.broadcast_to(out.steps[:, None], OPEN.shape)
  assert ((out.when >= 0) & (out.when < steps))[OPEN].all()
  assert (out.steps == out.when.max(1) + 1).all()


def test_a_row_with_nothing_to_do_costs_nothing(case):
  out, _ = case.run()
  assert (IDLE == [0, 0, 1, 0, 0, 0, 1, 0]).all()
  for cost in (out.steps, out.log_q, *out.meter[:3]):
    assert (cost[IDLE] == 0).all()
  assert (out.steps[~IDLE] > 0).all()
  _, calls = case.run(tokens=np.zeros_like(TOKENS))
  assert calls == 0


@pytest.mark.parametrize(
  'name', [n for n in NAMES if n not in OTHER_DISTRIBUTION + CHANGING]
)
def test_log_q_is_the_distribution(name):
  """Step by step, on the canvases that `when` tells of."""
  out, _ = case_of(name).run()
  for row in np.flatnonzero(~IDLE):
    read, log_q = reference.distribution_of(JOINT, VALID[row]), 0.0
    for step in range(out.steps[row]):
      before = np.where(out.when[row] < step, out.tokens[row], TOKENS[row])
      at = np.flatnonzero(out.when[row] == step)
      log_q += np.log(read(before)[at, out.tokens[row, at]]).sum()
    np.testing.assert_allclose(out.log_q[row], log_q, atol=1e-4)


@pytest.mark.parametrize('name', WATCHED)  # one loop: some are enough
def test_watch_equals_decode(name):
  case = case_of(name)
  out, calls = case.run()
  seen, calls_watched = case.run(case.watch)
  last, _ = seen[-1]
  for name in ('tokens', 'when', 'steps', 'done'):
    np.testing.assert_array_equal(getattr(last, name), getattr(out, name))
  jax.tree.map(np.testing.assert_array_equal, last.memo.meter, out.meter)
  np.testing.assert_allclose(last.log_q, out.log_q, rtol=1e-6)
  assert calls_watched == calls

  log_q, before = np.zeros(len(TOKENS)), TOKENS
  for run, move in seen:
    np.testing.assert_array_equal(run.tokens, move.tokens)
    for row, position in np.argwhere(run.tokens != before):
      token = run.tokens[row, position]
      if token != M and case.name not in OTHER_DISTRIBUTION:
        dist = reference.distribution_of(JOINT, VALID[row])(before[row])
        log_q[row] += np.log(dist[position, token])
    before = run.tokens
  if case.name not in OTHER_DISTRIBUTION:
    np.testing.assert_allclose(out.log_q, log_q, atol=1e-4)


@pytest.mark.parametrize('name', FILMED)
def test_film_equals_decode(name):
  case = case_of(name)
  out, calls = case.run()
  (filmed, moves), calls_filmed = case.run(case.film)
  for row in range(len(TOKENS)):
    same_row(filmed, out, row)
  assert filmed.meter.forwards == out.meter.forwards
  assert calls_filmed == calls
  before, when = TOKENS, np.full(TOKENS.shape, -1)
  for step, after in enumerate(moves.tokens):
    changed = after != before
    assert name in CHANGING or (before[changed] == M).all()
    before, when = after, np.where(changed, step, when)
  np.testing.assert_array_equal(out.when, when)


def test_a_row_alone_is_the_row_beside_others_and_pays_for_its_calls(case):
  together, _ = case.run()
  for row in np.flatnonzero(~IDLE):
    tokens = np.zeros_like(TOKENS)
    tokens[row] = TOKENS[row]
    alone, calls = case.run(tokens=tokens)
    same_row(alone, together, row)
    meter = alone.meter
    assert meter.positions[row] == meter.nfe[row] * LENGTH
    if case.name in BATCHED:
      assert meter.depth[row] < meter.nfe[row] <= calls
    elif case.name in AHEAD:
      assert meter.depth[row] <= meter.nfe[row] == calls
    else:
      assert meter.nfe[row] == meter.depth[row] == calls


def test_padding_on_either_side_changes_nothing(case):
  content = [M, 0, M, M]
  outs = []
  for left, padding in enumerate([0, M, 2]):
    tokens = np.full(TOKENS.shape, padding)
    valid = np.zeros(TOKENS.shape, bool)
    tokens[:, left : left + 4] = content
    valid[:, left : left + 4] = True
    outs.append(case.run(tokens=tokens, valid=valid)[0])
  for left in (1, 2):
    for row in range(len(TOKENS)):
      there, here = slice(0, 4), slice(left, left + 4)
      same_row(outs[left], outs[0], row, there, here)
  assert len({tuple(row) for row in outs[0].tokens[:, :4]}) > 1  # rows differ


def test_a_shorter_canvas_draws_the_same():
  """Draws belong to a position, not to the width of the canvas."""
  case = case_of('uniform')  # draws both tokens and positions
  tokens = np.where(np.arange(LENGTH) < 4, M, 0) + 0 * TOKENS
  valid = np.arange(LENGTH) < 4 + 0 * TOKENS
  wide, _ = case.run(tokens=tokens, valid=valid)
  narrow, _ = case.run(tokens=tokens[:, :4], valid=valid[:, :4])
  np.testing.assert_array_equal(narrow.tokens, wide.tokens[:, :4])
  np.testing.assert_array_equal(narrow.when, wide.when[:, :4])


def test_the_device_counts_every_forward_pass(case):
  out, calls = case.run()
  assert out.meter.forwards.tolist() == [calls]
  assert out.meter.nfe.max() <= calls


def test_a_seed_and_a_row_number_give_other_drafts(case):
  same = np.tile(TOKENS[0], (len(TOKENS), 1))
  valid = np.ones(TOKENS.shape, bool)
  first, _ = case.run(tokens=same, valid=valid, seed=1)
  again, _ = case.run(tokens=same, valid=valid, seed=1)
  other, _ = case.run(tokens=same, valid=valid, seed=2)
  np.testing.assert_array_equal(first.tokens, again.tokens)
  assert (first.tokens != other.tokens).any()
  assert len({tuple(row) for row in first.tokens}) > 4


def test_other_hyperparams_change_the_run_but_compile_nothing(case):
  out, _ = case.run()
  traces = case.traces
  hyperparams = {k: 2 * v for k, v in case.traced.items()}
  if case.name == 'random_order':  # shares of the total: twice is the same
    hyperparams = dict(sizes=np.array([1.0, 1, 0, 4]))
  other, _ = case.run(hyperparams=hyperparams)
  assert case.traces == traces
  changed = (other.when != out.when).any()
  assert changed or not case.traced


EXACT = [n for n in NAMES if make(n, **EXAMPLES[n]).traits.exact is not None]


def test_exact_settings_or_a_reason():
  assert not set(BENT) & set(EXACT) and len(EXACT) >= 25
  for name in set(NAMES) - set(EXACT):
    assert 'exact' in getattr(samplers, name).__doc__.lower(), name


@pytest.mark.parametrize('name', EXACT)
def test_exact_settings_reproduce_the_world(name):
  """Two tokens given, 81 cells, 960 rows; also: the gap is zero."""
  case = case_of(name)
  exact = make(name, **EXAMPLES[name]).traits.exact
  assert all(case.fixed[k] == v for k, v in exact.items() if k in case.fixed)
  traced = {k: v for k, v in exact.items() if k not in case.fixed}
  hyperparams = case.traced | traced
  tokens = np.tile([M, 2, M, M, 0, M], (len(TOKENS), 1))
  valid = np.ones(TOKENS.shape, bool)
  dist = np.float64(JOINT[:, 2, :, :, 0, :])
  dist /= dist.sum()
  samples, log_q = [], []
  for seed in range(120):
    out, _ = case.run(
      tokens=tokens, valid=valid, hyperparams=hyperparams, seed=seed
    )
    samples.append(out.tokens[:, [0, 2, 3, 5]])
    log_q.append(out.log_q)
  samples = np.concatenate(samples)
  log_p = np.log(dist[tuple(samples.T)])
  np.testing.assert_allclose(np.concatenate(log_q), log_p, atol=1e-4)
  assert reference.fits(reference.histogram(samples, VOCAB), dist)


def test_stop_only_cuts_what_follows_the_first_end():
  """Up to EOS the text is the inner sampler's, for no more calls."""
  eos = EXAMPLES['stop']['eos']
  tails = 0
  for seed in range(20):
    whole, _ = case_of('punt').run(seed=seed)
    cut, _ = case_of('stop').run(seed=seed)
    assert (cut.meter.nfe <= whole.meter.nfe).all()
    for row in np.flatnonzero(~IDLE):
      drawn = OPEN[row] & (cut.tokens[row] == eos)
      end = np.argmax(drawn) if drawn.any() else LENGTH
      same = cut.tokens[row] == whole.tokens[row]
      assert same[: end + 1].all()
      tail = np.arange(LENGTH) > end
      assert (same | (OPEN[row] & tail & (cut.tokens[row] == eos))).all()
      tails += cut.meter.nfe[row] < whole.meter.nfe[row]
  assert tails > 10


def test_blocks_are_written_one_after_the_other():
  """Blocks of two open positions: given and padded ones do not count."""
  for seed in range(10):
    out, _ = case_of('blocks').run(seed=seed)
    for row in range(len(TOKENS)):
      when = out.when[row, OPEN[row]]
      pairs = [when[i : i + 2] for i in range(0, len(when), 2)]
      for left, right in zip(pairs, pairs[1:], strict=False):
        assert left.max() < right.min()
