"""PUNT against an independent NumPy Algorithm 1, and on worlds with known ends.

Every step of a run is taken apart: which canvases the model was shown, what
each test said, who survived each round, what was written, what it cost. The
drafts are the implementation's own: the same step with epsilon = inf writes
all of them.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.oracles import as_denoiser, table
from tests.helpers import reference

LENGTH, VOCAB = 9, 3
ROWS = 9  # row r of a canvas has r + 1 masked positions

# score, divergence, first bit, codes, how the drafts are drawn
SETTINGS = {
  'paper': ('entropy', 'kl', 'msb', 'plain', 'raw'),
  'lsb': ('confidence', 'tv', 'lsb', 'plain', 'tempered'),
  'balanced': ('margin', 'jsd', 'msb', 'balanced', 'judged'),
  'lsb balanced': ('draft', 'kl', 'lsb', 'balanced', 'raw'),
}
THRESHOLD = {'kl': 0.03, 'tv': 0.08, 'jsd': 0.015}
TEMPERATURE = 0.7


class Case:
  """One setting of PUNT, compiled as single steps that record their probes."""

  def __init__(self, name):
    self.score, self.divergence, self.first, self.codes, self.drafts = SETTINGS[
      name
    ]
    self.shown = []
    self.steps = punt_jax.step(self.build)

  def build(self, joint, hyperparams):
    world = table(jnp.log(joint))

    def logits(tokens):
      record = lambda tokens: self.shown.append(np.array(tokens))
      jax.debug.callback(record, tokens, ordered=True)
      return world.logits(tokens)

    model = as_denoiser(world._replace(logits=logits))
    if self.drafts != 'raw':
      model = punt_jax.temper(model, TEMPERATURE)
    if self.drafts == 'judged':
      model = punt_jax.judge_drafts(model)
    epsilon = hyperparams['epsilon']
    if self.codes == 'balanced':  # a schedule of the masked fraction
      epsilon = lambda fraction: hyperparams['epsilon'] * fraction
    return model, samplers.punt(
      epsilon, self.score, self.divergence, self.first, self.codes
    )

  def epsilon(self, epsilon, masked, total):
    """The threshold of a row, as `build` schedules it."""
    fraction = masked / total if self.codes == 'balanced' else 1.0
    return epsilon * fraction

  def judge(self, joint, valid):
    """The distribution that scores and divergences read."""
    raw = reference.distribution_of(joint, valid)
    if self.drafts != 'judged':
      return raw

    def tempered(tokens):
      p = raw(tokens) ** (1 / TEMPERATURE)
      return p / p.sum(axis=1, keepdims=True)

    return tempered

  def advance(self, joint, epsilon, run):
    """One step: (Run, Move, canvases (calls, B, L) shown to the model)."""
    self.shown.clear()
    run, move = self.steps.advance(joint, dict(epsilon=epsilon), run)
    run, move = jax.device_get((run, move))
    jax.effects_barrier()
    return run, move, np.stack(self.shown) if self.shown else None


case_of = functools.cache(Case)


@functools.cache
def starter():
  """Compiled once: the beginning of a run does not depend on the setting."""
  return case_of('paper').steps.start


def start(joint, tokens, valid=None, seed=0):
  hyperparams = dict(epsilon=0.0)
  key = jax.random.key(seed)
  return starter()(joint, hyperparams, key, tokens, valid=valid)


def ragged(seed):
  """tokens, valid (B, L): row r has r + 1 masked positions, some padding."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(VOCAB, size=(ROWS, LENGTH))
  valid = np.ones(tokens.shape, bool)
  for row in range(ROWS):
    masked = rng.permutation(LENGTH)[: row + 1]
    tokens[row, masked] = VOCAB
    spare = rng.integers(LENGTH - row)  # padding on the left or on the right
    edge = np.flatnonzero(tokens[row] != VOCAB)[:spare]
    valid[row, edge[edge == np.arange(len(edge))]] = False
  return tokens, valid


def checked_steps(case, joint, epsilon, tokens, valid=None, seed=0):
  """Runs to the end; checks every step of every row against the reference.

  Yields (row, tokens before, drafts, threshold, distribution, reference.Step)
  for each live row and step.
  """
  run = start(joint, tokens, valid, seed)
  total = ((run.tokens == VOCAB) & run.valid & ~run.given).sum(1)
  close = steps = 0
  while not run.done.all():
    before = np.asarray(run.tokens)
    masked = (before == VOCAB) & np.asarray(run.valid & ~run.given)
    live = ~np.asarray(run.done)
    nfe = np.asarray(run.memo.meter.nfe)
    drafts = case.advance(joint, np.inf, run)[0].tokens
    run, move, shown = case.advance(joint, epsilon, run)
    for row in np.flatnonzero(live):
      m = masked[row].sum()
      dist = case.judge(joint, run.valid[row])
      limit = case.epsilon(epsilon, m, int(total[row]))
      expected = reference.punt_step(
        dist,
        before[row],
        masked[row],
        drafts[row],
        limit,
        case.score,
        case.divergence,
        case.first,
        case.codes,
      )
      steps += 1
      if expected.slack < 1e-5:
        close += 1
        continue
      real = np.flatnonzero(run.valid[row])  # as_denoiser packs them
      packed = shown[:, row, : len(real)]
      canvases = np.tile(before[row], (len(shown), 1))
      canvases[:, real] = packed
      same_step(expected, row, before[row], drafts[row], move, canvases)
      assert run.memo.meter.nfe[row] - nfe[row] == expected.calls
      yield row, before[row], drafts[row], limit, dist, expected
  assert close <= 1 + 0.05 * steps


def same_step(expected, row, before, drafts, move, canvases):
  """Round by round: what was shown, what moved, who is left."""
  asked = np.asarray(move.info.asked)
  np.testing.assert_array_equal(canvases[0], before)
  for r, round_ in enumerate(expected.rounds):
    assert asked[row, r] == round_.asked
    if round_.asked:
      np.testing.assert_array_equal(
        canvases[1 + r], np.where(round_.anchors, drafts, before)
      )
    moved = move.info.divergence[row, r]
    np.testing.assert_array_equal(np.isfinite(moved), round_.tests)
    np.testing.assert_allclose(
      moved[round_.tests], round_.divergence[round_.tests], atol=2e-5
    )
    np.testing.assert_array_equal(move.info.kept[row, r], round_.survivors)
  assert not asked[row, len(expected.rounds) :].any()
  assert expected.kept[expected.order[0]]
  np.testing.assert_array_equal(
    move.tokens[row], np.where(expected.kept, drafts, before)
  )


@pytest.mark.parametrize('name', SETTINGS)
def test_equals_algorithm_1_round_by_round(name):
  case = case_of(name)
  tested = dropped = 0
  for seed in range(5):
    joint = reference.coupled_joint(seed, LENGTH, VOCAB)
    tokens, valid = ragged(seed)
    for _, _, _, _, _, step in checked_steps(
      case, joint, THRESHOLD[case.divergence], tokens, valid, seed
    ):
      tested += sum(round_.tests.sum() for round_ in step.rounds)
      dropped += len(step.order) - step.kept.sum()
  assert 0.15 < dropped / tested < 0.85  # both outcomes are common


@pytest.mark.parametrize('epsilon', [-1.0, 0.03, np.inf])
def test_equals_the_recursion_where_it_must(epsilon):
  """Up to two masked positions, or when all tests fail or none is made."""
  joint = reference.coupled_joint(3, LENGTH, VOCAB)
  tokens, valid = ragged(3)
  if epsilon == 0.03:
    tokens = np.where(
      np.cumsum(tokens == VOCAB, 1) > 2, 0, tokens
    )  # two masked positions at most
  compared = 0
  for _, before, drafts, limit, dist, step in checked_steps(
    case_of('paper'), joint, epsilon, tokens, valid
  ):
    masked = np.isin(np.arange(LENGTH), step.order)
    kept, _ = reference.punt_recursion(dist, before, masked, drafts, limit)
    np.testing.assert_array_equal(kept, step.kept)
    compared += 1
  assert compared >= ROWS


def product_joint(seed):
  """A table whose positions are independent."""
  rng = np.random.default_rng(seed)
  dists = rng.dirichlet(np.ones(VOCAB), size=LENGTH)
  return functools.reduce(np.multiply.outer, dists).astype(np.float32)


@pytest.mark.parametrize('name', SETTINGS)
def test_independent_tokens_take_one_step_and_log_many_calls(name):
  tokens, valid = ragged(1)
  run = start(product_joint(1), tokens, valid)
  run, _, shown = case_of(name).advance(product_joint(1), 1e-3, run)
  assert run.done.all()
  calls = [1 + int(np.ceil(np.log2(m))) for m in range(1, ROWS + 1)]
  assert run.memo.meter.nfe.tolist() == calls
  assert run.memo.meter.depth.tolist() == calls
  assert run.memo.meter.forwards.tolist() == [len(shown)] == [max(calls)]


def test_the_recursion_agrees_on_independent_tokens():
  joint = product_joint(2)
  dist, drafts = reference.distribution_of(joint), np.arange(LENGTH) % VOCAB
  blank = np.full(LENGTH, VOCAB)
  kept, calls = reference.punt_recursion(dist, blank, blank > 0, drafts, 0.1)
  assert kept.all() and calls == LENGTH  # the splits of a tree of 9, and 1


@pytest.mark.parametrize('name', SETTINGS)
def test_infinite_epsilon_is_one_step_and_one_call(name):
  joint = reference.coupled_joint(5, LENGTH, VOCAB)
  run = start(joint, *ragged(5))
  run, move, shown = case_of(name).advance(joint, np.inf, run)
  assert run.done.all() and not move.info.asked.any()
  assert (run.memo.meter.nfe == 1).all() and len(shown) == 1


@pytest.mark.parametrize('name', ['paper', 'lsb balanced'])
def test_negative_epsilon_writes_one_position_per_step(name):
  joint = product_joint(4)
  tokens, valid = ragged(4)
  steps = list(checked_steps(case_of(name), joint, -1.0, tokens, valid))
  assert len(steps) == sum(range(1, ROWS + 1))
  assert all(step.kept.sum() == 1 for *_, step in steps)


def test_drafts_are_drawn_afresh_in_every_step():
  """In a product world a key used twice would draw the same drafts again."""
  joint, again = product_joint(6), []
  tokens, valid = ragged(6)
  steps = checked_steps(case_of('paper'), joint, -1.0, tokens, valid)
  last = {}
  for row, _, drafts, _, _, step in steps:
    if row in last:
      again.extend((last[row] == drafts)[step.order])
    last[row] = drafts
  assert len(again) > 100 and 0.2 < np.mean(again) < 0.8


@functools.cache
def decoder(score='entropy', first='msb'):
  """A whole run of PUNT on a table."""

  def build(joint, epsilon):
    model = as_denoiser(table(jnp.log(joint)))
    return model, samplers.punt(epsilon, score, first=first)

  return punt_jax.compile(build)


def decode(joint, epsilon, rows, seed=0, length=None, **settings):
  """`rows` empty canvases of the first `length` positions, decoded."""
  vocab, size = joint.shape[0], joint.ndim
  tokens = np.full((rows, size), vocab)
  valid = np.broadcast_to(np.arange(size) < (length or size), tokens.shape)
  run = decoder(**settings)
  joint = jnp.asarray(joint, jnp.float32)
  out = run(joint, epsilon, jax.random.key(seed), tokens, valid=valid)
  return jax.device_get(out)


@pytest.mark.parametrize(
  'score, exact',
  [
    ('entropy', True),
    # The order looks at the drafts: one by one, and yet another distribution.
    pytest.param('draft', False, marks=pytest.mark.slow),
  ],
)
def test_negative_epsilon_samples_the_joint(score, exact):
  joint = reference.random_joint(7, 5, 3, sharpness=1.5)
  out = decode(joint, -1.0, 8192, score=score)
  assert (out.steps == 5).all()
  assert (out.meter.nfe == 4 + 3 + 3 + 2 + 1).all()  # m = 5 4 3 2 1
  assert reference.fits(reference.histogram(out.tokens, 3), joint) == exact
  if exact:
    log_p = np.log(joint / joint.sum())[tuple(out.tokens.T)]
    np.testing.assert_allclose(out.log_q, log_p, atol=1e-4)


def parity_joint(check):
  """Four bits, uniform where the checked ones xor to 0."""
  joint = np.zeros((2,) * 4)
  for bits in itertools.product((0, 1), repeat=4):
    joint[bits] = sum(bits[i] for i in check) % 2 == 0
  return joint


def odd(out, check):
  """Share of the rows that break the check."""
  return (out.tokens[:, list(check)].sum(1) % 2).mean()


# All entropies are ln 2: ranks follow positions, whatever the arithmetic.
@pytest.mark.parametrize(
  'first, length, when',
  [
    # Codes 00 01 10. msb: {0 1} are shown to 2, which drops out.
    ('msb', 3, [0, 0, 1, -1]),
    # lsb: {0 2} are shown to 1, which drops out.
    ('lsb', 3, [0, 1, 0, -1]),
    # Codes 00 01 10 11. msb: {0 1} are shown to {2 3}: 2 drops out.
    ('msb', 4, [0, 0, 1, 0]),
    # lsb: {0 2} are shown to {1 3}: 1 drops out.
    ('lsb', 4, [0, 1, 0, 0]),
  ],
)
def test_a_three_token_xor_is_caught(first, length, when):
  check = (0, 1, 2)
  out = decode(parity_joint(check), 0.1, 256, length=length, first=first)
  assert (out.when == when).all()
  assert (out.meter.nfe == 3 + 1).all() and (out.steps == 2).all()
  assert odd(out, check) == 0


@pytest.mark.parametrize('first', ['msb', 'lsb'])
@pytest.mark.parametrize('check', [(1, 2, 3), (0, 1, 2, 3)])
def test_joint_dependence_slips_through_the_tests(check, first):
  """Position 3 is shown {0 1} and {0 2}, never {1 2}: half the rows break."""
  out = decode(parity_joint(check), 0.1, 256, first=first)
  assert (out.when == 0).all() and (out.meter.nfe == 3).all()
  assert abs(odd(out, check) - 0.5) < 4 * 0.5 / 16
  careful = decode(parity_joint(check), -1.0, 256, first=first)
  assert odd(careful, check) == 0


def test_the_docstring_says_what_the_tests_miss():
  assert 'xor' in samplers.punt.__doc__


@pytest.mark.slow
def test_film_keeps_what_the_steps_said():
  case = case_of('paper')
  joint = reference.coupled_joint(0, LENGTH, VOCAB)
  tokens, valid = ragged(0)
  film = punt_jax.compile(case.build, driver=punt_jax.decode.film)
  key, hyperparams = jax.random.key(0), dict(epsilon=0.03)
  _, moves = film(joint, hyperparams, key, tokens, valid=valid)
  run = start(joint, tokens, valid)
  step = 0
  while not run.done.all():
    run, move, _ = case.advance(joint, 0.03, run)
    for name in ('asked', 'kept'):
      filmed = getattr(moves.info, name)[step]
      np.testing.assert_array_equal(filmed, getattr(move.info, name))
    step += 1


@pytest.mark.parametrize(
  'wrong, word',
  [
    (dict(epsilon=float('nan')), 'epsilon'),
    (dict(epsilon=0.1, score='luck'), 'entropy'),
    (dict(epsilon=0.1, divergence='l2'), 'jsd'),
    (dict(epsilon=0.1, first='middle'), 'lsb'),
    (dict(epsilon=0.1, codes='gray'), 'balanced'),
  ],
)
def test_wrong_arguments_are_named(wrong, word):
  with pytest.raises(ValueError, match=word):
    samplers.punt(**wrong)


def test_what_does_not_move_passes_an_epsilon_of_zero():
  """Independent positions: nothing moves, and a move of 0 is not above 0."""
  model = punt_jax.from_logits(
    lambda tokens, valid: jnp.zeros((*tokens.shape, 3)), 3
  )
  out = jax.jit(lambda: punt_jax.sample(
    0, model, samplers.punt(0.0), jnp.full((1, 8), 3)
  ))()
  assert out.steps.tolist() == [1] and out.meter.nfe.tolist() == [4]
