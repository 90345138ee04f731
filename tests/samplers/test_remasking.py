"""P2 and hierarchical: what stays, what is taken back, and that they end.

The model's confidence in token 0, the only token it drafts here, depends on the
position and on how many masks are left: odds[masks, position]. It says so at
written positions too, where an exact world is always sure.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import denoiser, samplers
from punt_jax.decode import film

LENGTH, VOCAB, STEPS = 8, 4, 9
FOUR = range(4, 8)  # given where four positions are open
calls = []


def model_of(odds, name=None):
  """A denoiser that drafts token 0 everywhere; its calls count by name."""

  def logits(tokens, valid):
    if name:  # code with callbacks is not kept on disk
      jax.debug.callback(lambda: calls.append(name))
    masks = (valid & (tokens == VOCAB)).sum(-1)
    sure = jnp.asarray(odds)[masks][..., None]
    other = (1 - sure) / (VOCAB - 1)
    return jnp.log(jnp.where(jnp.arange(VOCAB) == 0, sure, other))

  return denoiser.temper(denoiser.from_logits(logits, VOCAB), 0.0)


@functools.cache
def runner(name, planned):
  def build(odds, hyperparams):
    hyperparams = dict(hyperparams)
    if planned:
      hyperparams['planner'] = model_of(hyperparams.pop('planned'), 'planner')
    model = model_of(odds, planned and 'model')
    return model, getattr(samplers, name)(**hyperparams)

  return punt_jax.compile(build, driver=film, max_steps=STEPS)


def run(name, odds, given=(), valid=None, **hyperparams):
  """(Decoded, canvases after each step (S, L)) of one row."""
  odds = np.broadcast_to(odds, (LENGTH + 1, LENGTH)).astype(np.float32)
  tokens = np.full((1, LENGTH), VOCAB)
  tokens[:, list(given)] = 1
  valid = None if valid is None else np.array([valid])
  go = runner(name, 'planned' in hyperparams)
  args = odds, hyperparams, jax.random.key(0), tokens
  out, moves = jax.device_get(go(*args, valid=valid))
  assert out.done.all() and (out.tokens[0, list(given)] == 1).all()
  assert (out.when[0, list(given)] == -1).all()
  return out, moves.tokens[: out.steps[0], 0]


def when(name, odds, **more):
  """The step that last wrote each of the open positions 0 to 3 (or all)."""
  out, _ = run(name, odds, **more)
  assert out.meter.nfe[0] == out.meter.depth[0] == out.steps[0]
  return out.when[0, : 4 if more.get('given') is FOUR else LENGTH].tolist()


def by_masks(**rows):
  """odds from rows m4=, m3=, ...: those of four open positions."""
  odds = np.full((LENGTH + 1, LENGTH), 0.9)
  for name, row in rows.items():
    odds[int(name[1:]), :4] = row
  return odds


ODDS = by_masks(
  m4=[0.9, 0.8, 0.7, 0.6], m3=[0.5, 0.8, 0.7, 0.6], m2=[0.9, 0.6, 0.8, 0.7]
)


@pytest.mark.parametrize(
  'steps, eta, expected',
  [
    # Masks left: 3 2 1 0. Writes 0, whose odds fall to .5: {1 2} stay and 0
    # goes. Now 1 is the worst, .6: 0 and 3 are written, and then 1 again.
    (4.0, 1.0, [2, 3, 1, 2]),
    # .5 ** .5 = .707 > .7: 0 and 1 stay. .6 ** .5 = .775 > .7: 2 is written.
    (4.0, 0.5, [0, 1, 2, 3]),
    (4.0, 0.7, [2, 3, 1, 2]),  # .5 ** .7 = .616 < .7 and .6 ** .7 = .699 < .7
    (4.0, 0.0, [0, 1, 2, 3]),
    (2.0, 1.0, [0, 0, 1, 1]),  # masks left: 2 0
    (3.0, 1.0, [0, 2, 1, 1]),  # 2 1 0: of {0 1}, then 1 (.6) is the worst
    (1.0, 1.0, [0, 0, 0, 0]),
  ],
)
def test_p2(steps, eta, expected):
  assert when('p2', ODDS, given=FOUR, steps=steps, eta=eta) == expected


def test_p2_never_remasks_without_eta():
  """Even where drafts are certain and written tokens impossible."""
  odds = by_masks(m4=[0.5, 0.6, 0.7, 1], m3=[1, 1, 1, 0], m2=[0, 1, 1, 0])
  got = when('p2', odds, given=FOUR, steps=4.0, eta=0.0)
  assert got == [1, 2, 3, 0]
  # With more steps than positions none is spent on nothing.
  assert when('p2', odds, given=FOUR, steps=8.0, eta=0.0) == got


def p2_reference(odds, opened, steps, eta):
  """(S, L) what is masked after each step, in float64."""
  masked = opened.copy()
  seen = []
  for t in range(1, steps + 1):
    # Whole numbers: floor((1 - t / steps) N).
    goal = (steps - t) * opened.sum() // steps
    if eta == 0:
      goal = min(goal, masked.sum() - 1)
    score = np.log(odds[masked.sum()])
    score = np.where(masked, score, eta * score if eta > 0 else np.inf)
    order = sorted(np.flatnonzero(opened), key=lambda i: (score[i], -i))
    masked = np.zeros(LENGTH, bool)
    masked[order[:goal]] = True
    seen.append(masked)
    if not masked.any():
      break
  return np.array(seen)


def test_p2_equals_the_reference():
  rng = np.random.default_rng(0)
  remasked = 0
  for trial in range(60):
    odds = rng.uniform(0.3, 1, (LENGTH + 1, LENGTH))
    given = np.flatnonzero(rng.random(LENGTH) < 0.2)
    opened = np.ones(LENGTH, bool)
    opened[given] = False
    steps, eta = rng.integers(1, STEPS + 1), [0.0, 0.6, 1.0, 2.0][trial % 4]
    out, canvases = run('p2', odds, given, steps=float(steps), eta=eta)
    seen = p2_reference(odds, opened, steps, eta)
    np.testing.assert_array_equal(canvases == VOCAB, seen)
    assert out.meter.nfe[0] == out.steps[0] == len(seen) <= steps
    back = (seen[1:] & ~seen[:-1]).sum()
    assert eta > 0 or not back
    remasked += back
  assert remasked > 50


def test_p2_compares_like_with_like():
  """One distribution for drafts and tokens, so nothing is remasked.

  At temperature 0 that is a probability of .6 for both, judged or not.
  """
  dist = jnp.log(jnp.array([0.6, 0.3, 0.1]))
  plain = punt_jax.from_logits(
    lambda tokens, valid: jnp.broadcast_to(dist, (*tokens.shape, 3)), 3
  )
  empty = np.full((4, 6), 3)
  for wrap in (lambda model: model, punt_jax.judge_drafts):
    build = lambda p, _, wrap=wrap: (
      wrap(punt_jax.temper(plain, 0.0)), samplers.p2(6.0)
    )
    out = punt_jax.compile(build)((), (), jax.random.key(0), empty)
    assert sorted(np.asarray(out.when)[0].tolist()) == list(range(6))


def test_p2_asks_its_planner_about_the_drafts_filled_in():
  """It knows only full canvases, and dislikes position 0 whatever the model
  says. One more pass in the steps that may remask: the second and third."""
  opinion = np.full((LENGTH + 1, LENGTH), 0.5)
  opinion[0] = 0.99
  opinion[0, 0] = 0.3
  calls.clear()
  out, _ = run(
    'p2', ODDS, given=FOUR, steps=4.0, eta=1.0, planned=opinion.astype('f4')
  )
  jax.effects_barrier()
  # {0}, then {1 2} for 0 (.3 < .6), then 0 (.9) rather than 3 (.7), then 3.
  assert out.when[0, :4].tolist() == [2, 1, 1, 3]
  assert (calls.count('model'), calls.count('planner')) == (4, 2)
  assert out.meter.nfe[0] == out.meter.depth[0] == out.meter.forwards == 6
  assert out.meter.positions[0] == 6 * LENGTH
  calls.clear()
  out, _ = run(
    'p2', ODDS, given=FOUR, steps=4.0, eta=0.0, planned=opinion.astype('f4')
  )
  jax.effects_barrier()
  assert out.meter.nfe[0] == 4 and 'planner' not in calls


def test_a_planner_of_another_vocabulary_is_refused():
  other = denoiser.from_logits(lambda tokens, valid: None, VOCAB + 1)
  build = lambda odds, hyperparams: (
    model_of(odds), samplers.p2(2, planner=other)
  )
  tokens = np.full((1, LENGTH), VOCAB)
  with pytest.raises(ValueError, match='the planner has 5 tokens, the model 4'):
    punt_jax.compile(build)(
      np.ones((LENGTH + 1, LENGTH)), (), jax.random.key(0), tokens
    )


# Position 3 ends the first run of masks.
RUNS = [0.5, 0.45, 0.3, 0.99, 0.35, 0.3, 0.42, 0.39]


@pytest.mark.parametrize('how', ['given', 'padding'])
@pytest.mark.parametrize(
  'low, high, expected',
  [
    # {0 6}; of {1 2} {4 5} {7} only 1 is above .4; then the surest each time:
    # 7 4, and 2 before 5 as the leftmost.
    (0.4, 2.0, [0, 1, 4, -1, 3, 5, 0, 2]),
    # {0 6} and 1, as .45 > .41; then 7 4 2 5.
    (0.4, 0.41, [0, 0, 3, -1, 2, 4, 0, 1]),
    # {0 6}, {1 4 7}, {2 5}: one of each run.
    (0.2, 2.0, [0, 1, 2, -1, 1, 2, 0, 1]),
    (2.0, 2.0, [0, 1, 5, -1, 4, 6, 2, 3]),  # one by one
    (2.0, 0.0, [0, 0, 0, -1, 0, 0, 0, 0]),
  ],
)
def test_hierarchical(low, high, expected, how):
  more = dict(given=(3,))
  if how == 'padding':
    more = dict(valid=np.arange(LENGTH) != 3)
  got = when('hierarchical', RUNS, low=low, high=high, remask=0.0, **more)
  assert got == expected


def test_ties_in_a_run_go_to_the_leftmost():
  got = when('hierarchical', [0.5] * 8, low=0.4, high=2.0, remask=0.4)
  assert got == list(range(8))


FADING = by_masks(
  m4=[0.8, 0.7, 0.6, 0.5], m3=[0.3, 0.7, 0.6, 0.5], m2=[0.45, 0.3, 0.35, 0.6]
)


@pytest.mark.parametrize(
  'remask, expected',
  [
    # 0; then 0 falls to .3: it goes and 2 are written, {1 2}. Then 1 (.3) and 2
    # (.35) are below .4, but of 2 masks only one may be replaced: 1 goes, {0
    # 3} are written. Then 1, and nothing can be replaced.
    (0.4, [2, 3, 1, 2]),
    (0.0, [0, 1, 3, 2]),
    (0.29, [0, 1, 3, 2]),  # nothing falls below
    (9.0, [2, 3, 1, 2]),  # at most one fewer than there are masks
  ],
)
def test_hierarchical_remasks(remask, expected):
  got = when(
    'hierarchical', FADING, given=FOUR, low=2.0, high=2.0, remask=remask
  )
  assert got == expected


def test_hierarchical_always_ends():
  rng = np.random.default_rng(1)
  remasked = 0
  for _ in range(60):
    odds = rng.uniform(0.3, 1, (LENGTH + 1, LENGTH))
    low, high, remask = rng.uniform(0.3, 1.2, 3).tolist()
    given = np.flatnonzero(rng.random(LENGTH) < 0.2)
    out, canvases = run(
      'hierarchical', odds, given, low=low, high=high, remask=remask
    )
    left = np.append(LENGTH - len(given), (canvases == VOCAB).sum(-1))
    assert (np.diff(left) < 0).all() and left[-1] == 0
    remasked += ((canvases[1:] == VOCAB) & (canvases[:-1] == 0)).sum()
  assert remasked > 50


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: samplers.p2(0), 'steps = 0'),
    (lambda: samplers.p2(np.inf), 'steps = inf'),
    (lambda: samplers.p2(2, -1), 'eta = -1'),
    (lambda: samplers.hierarchical(-0.1), 'low = -0.1'),
    (lambda: samplers.hierarchical(high=np.nan), 'high = nan'),
    (lambda: samplers.hierarchical(remask=-1), 'remask = -1'),
  ],
)
def test_bad_hyperparams_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
