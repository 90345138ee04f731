"""Exact worlds against enumeration, with every partial canvas of a small one.

The joint distributions are built in NumPy by plain loops; L = 4, V = 3
throughout, so that each world compiles once.
"""

import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from punt_jax import oracles
from tests.helpers import reference

LENGTH, VOCAB = 4, 3
M = VOCAB
CANVASES = np.array(list(itertools.product(range(VOCAB + 1), repeat=LENGTH)))
COMPLETE = CANVASES[(CANVASES != M).all(1)]
ORDER = np.array([2, 0, 3, 1])


def chain_joint(initial, transition):
  """(V,) * L probabilities of a chain given by potentials, by plain loops."""
  length, vocab = len(transition) + 1, len(initial)
  joint = np.zeros((vocab,) * length)
  for x in itertools.product(range(vocab), repeat=length):
    total = initial[x[0]]
    total += sum(transition[t][x[t], x[t + 1]] for t in range(length - 1))
    joint[x] = np.exp(total)
  return joint / joint.sum()


def potentials(seed, length=LENGTH, vocab=VOCAB, holes=0.0):
  """Random potentials of a chain, a share of them -inf (float32)."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: np.where(
    rng.random(shape) < holes, -np.inf, rng.normal(size=shape)
  ).astype(np.float32)
  return draw(vocab), draw(length - 1, vocab, vocab)


@functools.cache
def case_of(name):
  """(world, its joint distribution by other means)."""
  joint = reference.random_joint(1, LENGTH, VOCAB)
  holed = np.where(np.arange(joint.size).reshape(joint.shape) % 3, joint, 0)
  log_p = np.random.default_rng(2).normal(size=(LENGTH, VOCAB))
  # Token 1 is impossible at position 2.
  log_p[2, 1] = -np.inf
  p = np.exp(log_p) / np.exp(log_p).sum(1, keepdims=True)
  independent = functools.reduce(np.multiply.outer, p)
  initial, transition = potentials(3)
  chained = chain_joint(initial, transition)
  # Position i of the shuffled canvas shows position ORDER[i] of the chain.
  shuffled = chained.transpose(ORDER)
  world = oracles.chain(initial, transition)
  return {
    'table': lambda: (oracles.table(jnp.log(7 * joint)), joint),
    'holed': lambda: (oracles.table(jnp.log(holed)), holed / holed.sum()),
    'product': lambda: (oracles.product(log_p), independent),
    'chain': lambda: (world, chained),
    'permuted': lambda: (oracles.permuted(world, ORDER), shuffled),
  }[name]()


NAMES = ('table', 'holed', 'product', 'chain', 'permuted')


def mass(joint, tokens):
  """Probability of the observed tokens."""
  shown = tuple(slice(None) if t == M else t for t in tokens)
  return joint.astype(np.float64)[shown].sum()


def check_conditionals(world, joint, atol=2e-6):
  """log_prob and logits of every partial canvas; counts impossible ones."""
  log_prob = np.asarray(world.log_prob(CANVASES))
  dist = np.exp(np.asarray(world.logits(CANVASES)))
  impossible = 0
  for tokens, log_p, p in zip(CANVASES, log_prob, dist, strict=True):
    if mass(joint, tokens) == 0:
      impossible += 1
      assert log_p == -np.inf
      np.testing.assert_allclose(p, 1 / VOCAB, rtol=1e-6)
    else:
      np.testing.assert_allclose(np.exp(log_p), mass(joint, tokens), atol=atol)
      np.testing.assert_allclose(
        p, reference.conditionals(joint, tokens), atol=atol
      )
      shown = tokens != M
      assert (p[shown, tokens[shown]] == 1).all()  # a point mass, exactly
  return impossible


@pytest.mark.parametrize('name', NAMES)
def test_every_partial_canvas_equals_enumeration(name):
  world, joint = case_of(name)
  assert (world.vocab, world.length) == (VOCAB, LENGTH)
  impossible = check_conditionals(world, joint)
  assert bool(impossible) == (name in ('holed', 'product'))


@pytest.mark.parametrize('name', NAMES)
def test_entropy_equals_enumeration(name):
  world, joint = case_of(name)
  p = joint[joint > 0].astype(np.float64)
  np.testing.assert_allclose(world.entropy(), -(p * np.log(p)).sum(), rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_samples_follow_the_distribution(name):
  world, joint = case_of(name)
  tokens = world.sample(jax.random.key(5), 20_000)
  assert tokens.shape == (20_000, LENGTH) and tokens.dtype == jnp.int32
  counts = reference.histogram(tokens, VOCAB)
  assert reference.fits(counts, joint)
  # The same test finds a distribution that is a tenth off.
  bent = joint * np.linspace(0.8, 1.2, VOCAB)
  assert not reference.fits(counts, bent / bent.sum())


@jax.jit
def conditionals_of_chain(initial, transition, tokens):
  world = oracles.chain(initial, transition)
  return world.log_prob(tokens), world.logits(tokens)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**20), holes=st.sampled_from([0.0, 0.2, 0.6])
)
def test_chains_with_forbidden_steps(seed, holes):
  initial, transition = potentials(seed, holes=holes)
  with np.errstate(invalid='ignore'):
    joint = chain_joint(initial, transition)
  hypothesis.assume(np.isfinite(joint).all())
  log_prob, logits = conditionals_of_chain(initial, transition, CANVASES)
  world = oracles.World(
    VOCAB, LENGTH, None, lambda _: log_prob, lambda _: logits, None
  )
  check_conditionals(world, joint, atol=5e-6)


def test_a_long_chain_stays_exact():
  """L = 512 against float64 forward-backward, half of the tokens observed."""
  length, vocab = 512, 4
  initial, transition = potentials(4, length, vocab)
  world = oracles.chain(initial, transition)
  x = np.asarray(world.sample(jax.random.key(0), 1)[0])
  hidden = np.random.default_rng(0).random(length) < 0.5
  tokens = np.where(hidden, vocab, x)
  may = (tokens[:, None] == np.arange(vocab)) | hidden[:, None]
  step = np.exp(transition.astype(np.float64))

  def forward(may):
    state, logs = np.exp(initial.astype(np.float64)) * may[0], []
    for t in range(length):
      if t:
        state = state @ step[t - 1] * may[t]
      logs.append(np.log(state.sum()))
      state = state / state.sum()
    return sum(logs)

  everything = forward(np.ones_like(may))
  expected = forward(may) - everything
  np.testing.assert_allclose(world.log_prob(tokens), expected, rtol=2e-6)
  logits, eye = np.asarray(world.logits(tokens)), np.eye(4, dtype=bool)
  for t in np.flatnonzero(hidden)[[0, 1, 100, -2, -1]]:
    at = [may & ((np.arange(length) != t)[:, None] | row) for row in eye]
    dist = np.exp([forward(one) - forward(may) for one in at])
    np.testing.assert_allclose(np.exp(logits[t]), dist, atol=2e-5)


def test_steps_that_are_next_to_impossible():
  """Log-probabilities far below what float32 probabilities can hold."""
  stay = np.where(np.eye(VOCAB) > 0, 0.0, [[-100.0], [-60.0], [-40.0]])
  transition = np.stack([stay] * (LENGTH - 1)).astype(np.float32)
  joint_nats = np.array([
    sum(stay[x[t], x[t + 1]] for t in range(LENGTH - 1)) for x in COMPLETE
  ])
  log_p = joint_nats - np.logaddexp.reduce(joint_nats)
  log_prob, logits = conditionals_of_chain(
    np.zeros(VOCAB, np.float32), transition, CANVASES
  )
  assert np.isfinite(log_prob).all() and not np.isnan(logits).any()
  for tokens, found in zip(CANVASES, np.asarray(log_prob), strict=True):
    agrees = ((COMPLETE == tokens) | (tokens == M)).all(1)
    truth = np.logaddexp.reduce(log_p[agrees])
    assert abs(found - truth) < (LENGTH - 1) * np.log(VOCAB)
    assert abs(found - truth) < 1e-4 or truth < -60


def test_one_matrix_for_all_positions():
  initial, transition = potentials(6)
  same = oracles.chain(initial, transition[0], length=LENGTH)
  each = oracles.chain(initial, np.stack([transition[0]] * (LENGTH - 1)))
  np.testing.assert_array_equal(same.logits(CANVASES), each.logits(CANVASES))


def test_parity_is_exact_and_ties_are_ties():
  world = oracles.parity(4, [(0, 1), (1, 2, 3)])
  rows = np.array(list(itertools.product(range(3), repeat=4)))
  joint = np.zeros((2,) * 4)
  for x in itertools.product(range(2), repeat=4):
    joint[x] = (x[0] ^ x[1]) == 0 and (x[1] ^ x[2] ^ x[3]) == 0
  joint /= joint.sum()
  half = np.asarray(world.logits(np.array([2, 2, 2, 2])))[0, 0]
  np.testing.assert_allclose(half, np.log(0.5), rtol=1e-7)
  for tokens, logits in zip(rows, np.asarray(world.logits(rows)), strict=True):
    shown = tuple(slice(None) if t == 2 else t for t in tokens)
    if joint[shown].sum() > 0:
      p = reference.conditionals(joint, tokens)
      exact = np.where(p == 1, 0, np.where(p == 0, -np.inf, half))
      np.testing.assert_array_equal(logits, exact)


def test_the_xor_worlds_are_what_they_say():
  bits = lambda n: np.array(list(itertools.product(range(2), repeat=n)))
  three, four = bits(3), bits(4)
  assert (
    np.isfinite(oracles.xor().log_prob(three))
    == (three[:, 2] == three[:, 0] ^ three[:, 1])
  ).all()
  assert (
    np.isfinite(oracles.hidden_xor().log_prob(four))
    == (four[:, 3] == four[:, 1] ^ four[:, 2])
  ).all()
  shown = lambda *ids: np.where(np.isin(range(4), ids), four[5], 2)
  logits = oracles.hidden_xor().logits
  free = logits(shown())[3]
  for pair in ((0, 1), (0, 2)):  # what PUNT's tests show to position 3
    np.testing.assert_array_equal(logits(shown(*pair))[3], free)
  assert np.isneginf(logits(shown(0, 1, 2))[3]).sum() == 1


@pytest.mark.parametrize('name', ('table', 'chain'))
def test_a_row_does_not_see_its_batch(name):
  world, _ = case_of(name)
  logits = np.asarray(world.logits(CANVASES))
  log_prob = np.asarray(world.log_prob(CANVASES))
  for rows in (slice(70, 71), slice(11, 44)):
    np.testing.assert_array_equal(world.logits(CANVASES[rows]), logits[rows])
    np.testing.assert_array_equal(
      world.log_prob(CANVASES[rows]), log_prob[rows]
    )
  square = CANVASES.reshape(16, 16, LENGTH)
  np.testing.assert_array_equal(
    world.logits(square).reshape(logits.shape), logits
  )


def ask(world, tokens, valid):
  """The conditionals that a sampler sees."""
  model = oracles.as_denoiser(world)
  memo = model.init(tokens, valid)
  _, answer = model.ask(memo, tokens, np.ones(len(tokens), bool))
  return np.asarray(model.read(answer.features))


def test_padding_on_either_side_changes_nothing():
  world, joint = case_of('chain')
  valid = np.ones(LENGTH, bool)
  short = np.array([M, 1, M])
  rows = [np.insert(short, at, 0) for at in (0, 2, 3)]  # filler: token 0
  masks = [np.delete(np.arange(LENGTH), at) for at in (0, 2, 3)]
  valid = np.array([np.isin(range(LENGTH), kept) for kept in masks])
  logits = ask(world, np.array(rows), valid)
  seen = [one[kept] for one, kept in zip(logits, masks, strict=True)]
  np.testing.assert_array_equal(seen[0], seen[1])
  np.testing.assert_array_equal(seen[0], seen[2])
  dist = reference.conditionals(joint, [*short, M])[:3]
  np.testing.assert_allclose(np.exp(seen[0]), dist, atol=2e-6)


def test_a_shorter_canvas_is_the_start_of_the_world():
  world, joint = case_of('chain')
  tokens = np.array([[M, 1, M]])
  logits = ask(world, tokens, np.ones(tokens.shape, bool))
  dist = reference.conditionals(joint, [M, 1, M, M])[:3]
  np.testing.assert_allclose(np.exp(logits[0]), dist, atol=2e-6)


@pytest.mark.parametrize('name', ('table', 'product', 'chain', 'permuted'))
def test_traced_worlds_add_no_constants(name):
  initial, transition = potentials(3)
  joint = reference.random_joint(1, LENGTH, VOCAB)

  def logits(joint, initial, transition, order):
    chain = oracles.chain(initial, transition)
    world = {
      'table': lambda: oracles.table(jnp.log(joint)),
      'product': lambda: oracles.product(transition[:, 0]),
      'chain': lambda: chain,
      'permuted': lambda: oracles.permuted(chain, order),
    }[name]()
    tokens = jnp.full((2, world.length), VOCAB)
    return world.logits(tokens)

  traced = jax.make_jaxpr(logits)(joint, initial, transition, ORDER)
  assert sum(np.size(c) for c in traced.consts) <= VOCAB


def test_random_worlds_come_from_their_key():
  table = lambda seed: oracles.random_table(jax.random.key(seed), 3, 3)
  chain = lambda seed: oracles.random_chain(jax.random.key(seed), 3, 3)
  tokens = np.array([3, 1, 3])
  for make in (table, chain):
    one, same, other = (make(s).logits(tokens) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
  'make, said',
  [
    (lambda: oracles.table(np.ones((2, 3))), 'axes of the same size'),
    (lambda: oracles.chain(np.zeros(3), np.zeros((3, 3))), 'and a length'),
    (
      lambda: oracles.chain(np.zeros(3), np.zeros((4, 3, 3)), length=4),
      'length 4',
    ),
    (
      lambda: oracles.permuted(case_of('chain')[0], np.arange(5)),
      'a permutation of 0 .. 3',
    ),
    (lambda: case_of('chain')[0].logits(np.zeros((2, 5), int)), 'canvas 5'),
    (
      lambda: ask(
        case_of('chain')[0], np.zeros((1, 5), int), np.ones((1, 5), bool)
      ),
      'build a longer world',
    ),
  ],
)
def test_bad_input_is_one_sentence(make, said):
  with pytest.raises(ValueError, match=said) as caught:
    make()
  assert '\n' not in str(caught.value)


def test_ints_and_legacy_keys():
  world = oracles.permuted(oracles.random_table(jax.random.key(0), 3, 2), [
    2, 0, 1
  ])
  want = world.sample(jax.random.key(7), 20).tolist()
  for key in (7, jax.random.PRNGKey(7)):
    assert world.sample(key, 20).tolist() == want
