"""What constructors of worlds take: the same kind of numbers, all looked at."""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax import oracles

WORLDS = (
  'chain', 'code', 'documents', 'hmm', 'parity', 'permuted', 'product',
  'strip', 'table', 'tree',
)
EVEN = np.full((3, 3), 1 / 3)
zeros = np.zeros
nan, inf = np.nan, np.inf


def with_one(value, *shape):
  """Zeros, and `value` at the end."""
  found = zeros(shape)
  found[..., -1] = value
  return found


# World: builds it of log-weights x of this shape, in each argument in turn.
TAKES = {
  'table': [(oracles.table, (3, 3), 'log_joint')],
  'product': [(oracles.product, (4, 3), 'log_p')],
  'chain': [
    (lambda x: oracles.chain(x, zeros((2, 3, 3))), (3,), 'log_initial'),
    (lambda x: oracles.chain(zeros(3), x), (2, 3, 3), 'log_transition'),
  ],
  'hmm': [
    (lambda x: oracles.hmm(x, zeros((2, 2)), zeros((2, 3)), 4), (2,),
     'log_initial'),
    (lambda x: oracles.hmm(zeros(2), x, zeros((2, 3)), 4), (2, 2),
     'log_transition'),
    (lambda x: oracles.hmm(zeros(2), zeros((2, 2)), x, 4), (2, 3),
     'log_emission'),
  ],
  'tree': [
    (lambda x: oracles.tree(x, zeros((2, 3, 3)), [0, 1]), (3,), 'log_root'),
    (lambda x: oracles.tree(zeros(3), x, [0, 1]), (2, 3, 3), 'log_edge'),
  ],
  'strip': [
    (lambda x: oracles.strip(x, zeros((1, 2, 3, 3))), (2, 3, 3), 'log_down'),
    (lambda x: oracles.strip(zeros((2, 3, 3)), x), (1, 2, 3, 3), 'log_right'),
  ],
  'documents': [
    (lambda x: oracles.documents(x, *3 * [zeros((3, 3))], 1.0, 1, 1, 4), (3,),
     'log_first'),
    (lambda x: oracles.documents(
      zeros(3), zeros((3, 3)), zeros((3, 3)), x, 1.0, 1, 1, 4
    ), (3, 3), 'log_detail'),
  ],
}
EACH = [case for cases in TAKES.values() for case in cases]


def test_all_worlds_take_logs_and_say_so():
  for name in WORLDS:
    for argument in inspect.signature(getattr(oracles, name)).parameters:
      assert argument.startswith('log_') or argument in (
        'length', 'checks', 'world', 'order', 'parent', 'up', 'paragraphs',
        'details',
      ), (name, argument)
  documented = {name for name in WORLDS if name not in ('code', 'parity',
                                                       'permuted')}
  assert set(TAKES) == documented


@pytest.mark.parametrize('make, shape, argument', EACH)
def test_what_cannot_be_a_log_weight_is_named(make, shape, argument):
  even = np.full(shape, 1 / shape[-1])
  if argument == 'log_joint':
    even = np.full(shape, 1 / 9)
  for bad, said in (
    (with_one(nan, *shape), f'{argument} has NaN'),
    (with_one(inf, *shape), rf'{argument} has \+inf'),
    (np.full(shape, -inf), f'{argument} leaves nothing possible'),
    (zeros(shape, bool), f'{argument} holds bool: pass logarithms'),
    (zeros(shape) * 1j, f'{argument} holds complex'),
    (even, rf'{argument} holds probabilities .*: pass their logarithms'),
    (zeros((*shape[:-1], 0)), 'shape|takes|take'),
    (np.float32(0), 'shape|takes|take'),
  ):
    with pytest.raises(ValueError, match=said) as caught:
      make(bad)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('make, said', [
  (lambda: oracles.product([[0, 0], [-inf, -inf]]), 'possible in row 1: all'),
  (
    lambda: oracles.hmm(zeros(2), [[0, 0], [-inf, -inf]], zeros((2, 3)), 4),
    'log_transition leaves nothing possible in row 1',
  ),
  (  # 0 leads to 1 alone, and 1 to nothing
    lambda: oracles.chain([0, -inf], [[-inf, 0], [-inf, -inf]], length=3),
    'the chain leaves nothing possible',
  ),
  (
    lambda: oracles.tree([0, -inf], [[[-inf, -inf], [0, 0]]], [0]),
    'the tree leaves nothing possible',
  ),
  (
    lambda: oracles.strip(
      [2 * [[0, -inf]], 2 * [[-inf, 0]]], [2 * [[[0, 0], [0, 0]], ]]
    ), None,
  ),
  (
    lambda: oracles.strip(
      np.stack(2 * [np.where(np.eye(2), 0, -inf)]),
      np.stack([[np.where(np.eye(2), 0, -inf), np.where(np.eye(2), -inf, 0)]]),
    ), 'the strip leaves nothing possible',
  ),
  (
    lambda: oracles.documents(
      [0, 0, -inf], *3 * [zeros((3, 3))], 1.0, 1, 1, 4
    ), 'log_first has -inf: here log-weights must be finite',
  ),
  (
    lambda: oracles.documents(zeros(3), *3 * [zeros((3, 3))], 1.0, 1.5, 1, 4),
    'paragraphs = 1.5 must be a whole number',
  ),
  (lambda: oracles.tree(zeros(2), zeros((2, 2, 2)), [0, 2]), 'of node 2 is 2'),
  (lambda: oracles.tree(zeros(2), zeros((2, 2, 2)), [-1, 0]), 'node 1 is -1'),
  (lambda: oracles.code([[0, 1, 2]]), 'checks has 2'),
  (lambda: oracles.parity(3, [(0, 3)]), 'has the position 3: there are 0 .. 2'),
  (lambda: oracles.parity(3, [(-1, 0)]), 'has the position -1'),
  (lambda: oracles.chain(zeros(2), zeros((2, 2)), length=2.0), 'length = 2.0'),
  (
    lambda: oracles.permuted(oracles.xor(), [0, 0, 2]),
    r'\[0, 0, 2\] is no permutation of 0 .. 2',
  ),
])
def test_what_leaves_nothing_or_cannot_be_is_a_sentence(make, said):
  if said is None:
    make()
    return
  with pytest.raises(ValueError, match=said) as caught:
    make()
  assert '\n' not in str(caught.value)


def test_lists_whole_numbers_and_identities_are_log_weights():
  """An identity has rows of sum 1 and is a coupling all the same."""
  world = oracles.chain([0, 0, 0], np.eye(3, dtype=int), length=2)
  twice = np.exp(world.log_prob(np.array([[0, 0], [0, 1]])))
  assert twice[0] / twice[1] == pytest.approx(np.e)
  assert oracles.table([[0, 1], [2, 3]]).vocab == 2
  assert oracles.product([[0, -inf]]).vocab == 2


def test_a_table_is_the_same_at_any_scale():
  log_joint = np.random.default_rng(0).normal(size=(3, 3))
  tokens = np.array([[0, 3], [1, 2]])
  one, other = (
    oracles.table(log_joint + c).log_prob(tokens) for c in (0.0, 300.0)
  )
  np.testing.assert_allclose(one, other, atol=1e-4)


def test_traced_numbers_pass_unlooked_at():
  world = jax.jit(lambda x: oracles.table(x).log_prob(jnp.array([0, 2])))
  assert np.isnan(world(jnp.full((2, 2), nan)))
  np.testing.assert_allclose(world(zeros((2, 2))), np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize('name', WORLDS)
def test_the_example_of_each_docstring(name):
  make = getattr(oracles, name)
  module = importlib.import_module(make.__module__)
  scope = {**vars(oracles), **vars(module)}
  (example,) = doctest.DocTestFinder(recurse=False).find(
    make, name, globs=scope
  )
  assert example.examples
  found = doctest.DocTestRunner().run(example)
  assert found.failed == 0
