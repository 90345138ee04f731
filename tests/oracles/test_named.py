"""Larger exact worlds against enumeration, with random parameters.

The joint distributions are built in NumPy from the formulas of the docstrings,
one term after the other. Parameters are traced, so that each world compiles
once.
"""

import functools
import itertools
from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import punt_jax
from punt_jax import metrics, oracles, samplers
from punt_jax.oracles import named
from tests.helpers import reference

ROWS = 32  # partial canvases per example
ALONE = slice(14, 17)
SAMPLES = 40_000


class Case(NamedTuple):
  vocab: int
  length: int
  draw: object  # (rng, share of -inf) -> parameters
  build: object  # (*parameters) -> World
  score: object  # (x (N, L), *parameters) -> (N,) nats, unnormalized


def with_holes(rng, share, *shape):
  """Potentials; the first of each row stays finite."""
  x = rng.normal(size=shape)
  hole = rng.random(shape) < share
  hole[..., 0] = False
  return np.where(hole, -np.inf, 1.5 * x).astype(np.float32)


def draw_tree(rng, holes):
  parent = np.array([rng.integers(i) for i in range(1, 6)])
  edge = with_holes(rng, holes, 5, 3, 3)
  # An edge of mostly forbidden pairs, so that subtrees rule out tokens.
  edge[rng.integers(5), :, 0] = -np.inf if holes else 0
  return with_holes(rng, holes, 3), edge, parent


def score_tree(x, root, edge, parent):
  total = root[x[:, 0]]
  for i, above in enumerate(parent, start=1):
    total = total + edge[i - 1][x[:, above], x[:, i]]
  return total


def draw_hmm(rng, holes):
  shapes = (2,), (4, 2, 2), (5, 2, 3)
  return tuple(with_holes(rng, holes, *shape) for shape in shapes)


def score_hmm(x, *parameters):
  initial, step, emission = (
    np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in parameters
  )
  total = 0
  for path in itertools.product(range(2), repeat=5):
    p = initial[path[0]]
    for t in range(4):
      p = p * step[t, path[t], path[t + 1]]
    for t in range(5):
      p = p * emission[t, path[t]][x[:, t]]
    total = total + p
  with np.errstate(divide='ignore'):
    return np.log(total)


def draw_strip(rng, holes):
  return with_holes(rng, holes, 3, 3, 3), with_holes(rng, holes, 2, 2, 3, 3)


def score_strip(x, down, right):
  grid = x.reshape(-1, 3, 2)  # column, row
  total = 0
  for c in range(3):
    total = total + down[c][grid[:, c, 0], grid[:, c, 1]]
  for c, row in itertools.product(range(2), range(2)):
    total = total + right[c, row][grid[:, c, row], grid[:, c + 1, row]]
  return total


def draw_code(rng, holes):
  del holes
  checks = rng.integers(0, 2, size=(4, 8))
  checks[2] = checks[0] ^ checks[1]  # says nothing new
  return (checks,)


def score_code(x, checks):
  return np.where((x @ checks.T % 2 == 0).all(1), 0, -np.inf)


def draw_documents(rng, holes):
  del holes
  tables = [rng.normal(size=(3,) * n).astype(np.float32) for n in (1, 2, 2, 2)]
  return (*tables, np.float32(rng.choice([0, 1.5, 80])))


def score_documents(x, first, heading, structure, detail, up):
  """Two sections H T X X T X X, of which all but H T of the second is cut."""
  x = np.pad(x, ((0, 0), (0, 5))).reshape(-1, 2, 7)
  h = x[:, :, 0]
  total = first[h[:, 0]] + heading[h[:, 0], h[:, 1]]
  for s, p in itertools.product(range(2), range(2)):
    t, one, two = (x[:, s, 1 + 3 * p + i] for i in range(3))
    total = total + structure[h[:, s], t] + detail[t, one] + detail[t, two]
    total = total + up * (t == (one + two) % 3)
  return total


CASES = {
  'tree': Case(3, 6, draw_tree, oracles.tree, score_tree),
  'hmm': Case(3, 5, draw_hmm, lambda *p: oracles.hmm(*p, 5), score_hmm),
  'strip': Case(3, 6, draw_strip, oracles.strip, score_strip),
  'code': Case(2, 8, draw_code, oracles.code, score_code),
  'documents': Case(
    3, 9, draw_documents, lambda *p: oracles.documents(*p, 2, 2, 9),
    score_documents,
  ),
}


@functools.cache
def every_canvas(vocab, length):
  return np.array(list(itertools.product(range(vocab), repeat=length)))


def joint_of(case, parameters):
  """(V,) * L probabilities, or None if no canvas is possible."""
  score = case.score(every_canvas(case.vocab, case.length), *(
    np.asarray(p, None if p.dtype.kind == 'i' else np.float64)
    for p in parameters
  ))
  if np.isneginf(score).all():
    return None
  joint = np.exp(score - score.max())
  return (joint / joint.sum()).reshape((case.vocab,) * case.length)


def partial_canvases(rng, case):
  """Random tokens with a random share of MASK."""
  tokens = rng.integers(case.vocab, size=(ROWS, case.length))
  masked = rng.random(tokens.shape) < rng.random((ROWS, 1))
  return np.where(masked, case.vocab, tokens)


@functools.cache
def exact(name):
  """(parameters, tokens) -> answers, compiled once: log_prob, logits, entropy.

  The logits of three rows are asked once more by themselves.
  """

  @jax.jit
  def run(parameters, tokens):
    world = CASES[name].build(*parameters)
    assert (world.vocab, world.length) == CASES[name][:2]
    alone = world.logits(tokens[ALONE])
    return world.log_prob(tokens), world.logits(tokens), alone, world.entropy()

  return run


def check(name, joint, tokens, answers):
  """Compares with the joint; returns the number of impossible rows."""
  case = CASES[name]
  log_prob, logits, alone, entropy = map(np.asarray, answers)
  # A row does not see its batch, but for the last bits of exp and log.
  np.testing.assert_allclose(alone, logits[ALONE], rtol=1e-6, atol=1e-6)
  impossible = 0
  for row, log_p, p in zip(tokens, log_prob, np.exp(logits), strict=True):
    shown = row != case.vocab
    mass = joint[tuple(t if t < case.vocab else slice(None) for t in row)].sum()
    if mass == 0:
      impossible += 1
      assert log_p == -np.inf
      np.testing.assert_allclose(p, 1 / case.vocab, rtol=1e-6)
    else:
      np.testing.assert_allclose(log_p, np.log(mass), atol=1e-5, rtol=1e-6)
      dist = reference.conditionals(joint, row)
      np.testing.assert_allclose(p, dist, atol=1e-5)
      assert (p[shown, row[shown]] == 1).all()  # a point mass, exactly
  p = joint[joint > 0]
  error = abs(entropy + (p * np.log(p)).sum())
  assert error < (0.05 if name == 'hmm' else 1e-4)
  return impossible


@pytest.mark.parametrize('name', CASES)
def test_conditionals_equal_enumeration(name):
  case, impossible = CASES[name], []

  @hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
  @hypothesis.given(
    seed=st.integers(0, 2**20), holes=st.sampled_from([0.0, 0.3, 0.6])
  )
  def examples(seed, holes):
    rng = np.random.default_rng(seed)
    parameters = case.draw(rng, holes)
    joint = joint_of(case, parameters)
    hypothesis.assume(joint is not None)
    tokens = partial_canvases(rng, case)
    answers = exact(name)(parameters, tokens)
    impossible.append(check(name, joint, tokens, answers))

  examples()
  # Evidence of probability 0 was among the rows; documents have none.
  assert (sum(impossible) > 10) == (name != 'documents')


@pytest.mark.parametrize('name', CASES)
def test_samples_follow_the_distribution(name):
  case = CASES[name]
  parameters = case.draw(np.random.default_rng(6), 0.3)
  joint = joint_of(case, parameters)
  tokens = jax.jit(lambda p, key: case.build(*p).sample(key, SAMPLES))(
    parameters, jax.random.key(0)
  )
  assert tokens.shape == (SAMPLES, case.length) and tokens.dtype == jnp.int32
  counts = reference.histogram(tokens, case.vocab)
  assert reference.fits(counts, joint)
  # The same test finds a distribution that is a little off.
  bent = joint * np.linspace(0.8, 1.2, case.vocab)
  assert not reference.fits(counts, bent / bent.sum())


def test_a_long_tree_stays_exact():
  """A tree in which everybody has one child is a chain; L = 512."""
  length, vocab = 512, 4
  edge = 1.2 * np.random.default_rng(0).normal(size=(length - 1, vocab, vocab))
  initial, parent = np.zeros(vocab), np.arange(length - 1)
  tokens = np.random.default_rng(1).integers(vocab + 1, size=(2, length))

  @jax.jit
  def ask(initial, edge, parent):
    both = oracles.tree(initial, edge, parent), oracles.chain(initial, edge)
    return [(world.log_prob(tokens), world.logits(tokens)) for world in both]

  one, other = ask(initial, edge, parent)
  np.testing.assert_allclose(one[0], other[0], rtol=2e-6)
  np.testing.assert_allclose(np.exp(one[1]), np.exp(other[1]), atol=1e-5)


def test_a_code_of_more_than_one_word():
  """40 bits; the masked ones are few enough to try all their values."""

  @jax.jit
  def ask(checks, tokens):
    world = oracles.code(checks)
    return world.log_prob(tokens), world.logits(tokens), world.entropy()

  rng = np.random.default_rng(0)
  checks = (rng.random((20, 40)) < 0.2).astype(int)
  words = jax.jit(lambda checks, key: oracles.code(checks).sample(key, ROWS))(
    checks, jax.random.key(0)
  )
  words = np.array(words)
  assert not (words @ checks.T % 2).any()
  assert (abs(words.mean(0) - 0.5) < 4 * 0.5 / ROWS**0.5).all()
  rest, rank = checks.copy(), 0  # elimination by plain loops
  for column in range(40):
    for row in range(rank, 20):
      if rest[row, column]:
        rest[[rank, row]] = rest[[row, rank]]
        rest[rank + 1 :] ^= rest[rank + 1 :, [column]] * rest[rank]
        rank += 1
        break
  masked = np.array([rng.permutation(40) < 9 for _ in words])
  words[::4, 5] ^= 1  # evidence that may be impossible
  tokens = np.where(masked, 2, words)
  log_prob, logits, entropy = jax.tree.map(np.asarray, ask(checks, tokens))
  np.testing.assert_allclose(entropy, (40 - rank) * np.log(2), rtol=1e-6)
  impossible = 0
  for row, hidden, log_p, found in zip(
    tokens, masked, log_prob, logits, strict=True
  ):
    tried = np.repeat(row[None], 2**9, axis=0)
    tried[:, hidden] = every_canvas(2, 9)
    tried = tried[~(tried @ checks.T % 2).any(1)]
    impossible += len(tried) == 0
    if len(tried):
      assert abs(log_p - np.log(len(tried)) + (40 - rank) * np.log(2)) < 1e-4
      p = tried.mean(0)
      np.testing.assert_allclose(np.exp(found).T, [1 - p, p], atol=1e-6)
    else:
      assert log_p == -np.inf and (found == found[0, 0]).all()
  assert 0 < impossible < ROWS / 2


@pytest.mark.slow
@pytest.mark.parametrize('name', ['tree', 'hmm'])
def test_large_worlds_run(name):
  """L = 512, V = 64: no NaN, normalized, own samples at the entropy."""
  settings = dict(vocab=64, beta=1.2, states=16)
  world = named.make(
    name, named.draw(name, jax.random.key(0), 512, settings), 512, settings
  )
  tokens = np.array(world.sample(jax.random.key(1), 64))
  excess = metrics.estimate(metrics.excess_nll(world, tokens))
  assert abs(excess.mean) < 4 * excess.stderr
  tokens[np.random.default_rng(0).random(tokens.shape) < 0.5] = 64
  dist = np.exp(world.logits(tokens))
  np.testing.assert_allclose(dist.sum(-1), 1, atol=1e-5)


LENGTH = 10
SETTINGS = dict(
  vocab=3, beta=2.0, states=3, checks=0.4, weight=3, paragraphs=1, details=3,
  down=1.0, up=2.0,
)


def kind_of(name):
  """Worlds of one kind share a compilation."""
  return {'permuted': 'chain', 'permuted_tree': 'tree'}.get(name, name)


@functools.cache
def one_by_one(kind):
  return punt_jax.compile(
    lambda params, _: (
      oracles.as_denoiser(named.make(kind, params, LENGTH, SETTINGS)),
      samplers.one_by_one('entropy'),
    )
  )


@functools.cache
def facts(kind):
  """(params, tokens (N, L)) -> log_prob (N,), unigrams (L, V), entropy."""

  @jax.jit
  def run(params, tokens):
    world = named.make(kind, params, LENGTH, SETTINGS)
    unigrams = world.logits(jnp.full(LENGTH, world.vocab))
    return world.log_prob(tokens), unigrams, world.entropy()

  return run


@pytest.mark.parametrize('name', [
  pytest.param(n, marks=() if n in ('permuted', 'hmm') else pytest.mark.slow)
  for n in named.NAMES
])
def test_one_by_one_is_exact_in_every_world(name):
  params = named.draw(name, jax.random.key(2), LENGTH, SETTINGS)
  vocab = 2 if name == 'code' else SETTINGS['vocab']
  canvas = np.full((400, LENGTH), vocab, np.int32)
  run = one_by_one(kind_of(name))
  tokens = np.asarray(run(params, {}, jax.random.key(5), canvas).tokens)
  # Every position drawn by itself: the unigrams are right, the rest is not.
  alone = np.random.default_rng(0).permuted(tokens, axis=0)
  log_prob, unigrams, entropy = facts(kind_of(name))(
    params, np.concatenate([tokens, alone])
  )
  nll = metrics.estimate(-log_prob[:400])
  assert abs(nll.mean - entropy) < 4 * nll.stderr + 1e-5
  assert (-log_prob[400:]).mean() > entropy + 8 * nll.stderr
  world = oracles.World(vocab, LENGTH, None, None, lambda _: unigrams, None)
  tv = metrics.unigram_tv(world, tokens)
  assert abs(tv.mean - tv.floor) < 4 * tv.stderr


def test_permuted_worlds_are_the_plain_ones_shuffled():
  tokens = np.random.default_rng(0).integers(3, size=(800, LENGTH))
  for plain, shuffled in (('chain', 'permuted'), ('tree', 'permuted_tree')):
    (key, _), (same, order) = (
      named.draw(name, jax.random.key(0), LENGTH, SETTINGS)
      for name in (plain, shuffled)
    )
    assert (np.sort(order) == np.arange(LENGTH)).all()
    assert (order != np.arange(LENGTH)).any()
    ask = facts(plain)
    log_prob, unigrams, entropy = ask((key, np.arange(LENGTH)), tokens)
    found = ask((same, order), tokens[:, order])
    np.testing.assert_array_equal(found[0], log_prob)
    np.testing.assert_array_equal(found[1], unigrams[order])
    assert found[2] == entropy


def test_roles_of_positions():
  settings = dict(paragraphs=2, details=2)
  roles = named.kinds('documents', 9, settings)
  assert roles.tolist() == [0, 1, 2, 2, 1, 2, 2, 0, 1]
  assert named.kinds('chain', 9, settings) is None


@pytest.mark.parametrize('name', named.NAMES)
def test_traced_worlds_add_no_constants(name):
  params = named.draw(name, jax.random.key(0), LENGTH, SETTINGS)
  traced = jax.make_jaxpr(
    lambda p, x: named.make(name, p, LENGTH, SETTINGS).logits(x)
  )(params, np.zeros((2, LENGTH), int))
  assert sum(np.size(c) for c in traced.consts) <= SETTINGS['vocab']


zeros = np.zeros


@pytest.mark.parametrize(
  'make, said',
  [
    (lambda: oracles.tree(zeros(3), zeros((4, 3, 3)), zeros(5)), '1,. parents'),
    (lambda: oracles.hmm(zeros(2), zeros((3, 3)), zeros((2, 4)), 5), '2 stat'),
    (lambda: oracles.strip(zeros((4, 2, 2)), zeros((4, 2, 2, 2))), '4 columns'),
    (lambda: oracles.random_strip(jax.random.key(0), 5, 2), 'must be even'),
    (lambda: oracles.code(zeros(4)), 'matrix of 0 and 1'),
    (lambda: oracles.random_code(jax.random.key(0), 4, 2, 5), 'lie in .1, 4'),
    (
      lambda: oracles.documents(zeros(3), *[zeros((3, 3))] * 3, 81.0, 2, 2, 9),
      'up = 81.0 is out of range',
    ),
    (
      lambda: oracles.documents(zeros(3), *[zeros((2, 2))] * 3, 1.0, 2, 2, 9),
      'three .3, 3. tables',
    ),
    (
      lambda: oracles.documents(zeros(3), *[zeros((3, 3))] * 3, 1.0, 2, 0, 9),
      'details = 0',
    ),
    (
      lambda: named.draw('ring', jax.random.key(0), 9, SETTINGS),
      'use one of chain, permuted',
    ),
  ],
)
def test_bad_input_is_one_sentence(make, said):
  with pytest.raises(ValueError, match=said) as caught:
    make()
  assert '\n' not in str(caught.value)
