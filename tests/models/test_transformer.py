"""The network: what a position may see, and what padding may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.models import transformer

VOCAB, LENGTH, PAD = 11, 7, 3


@pytest.fixture(scope='module')
def model():
  """(module, params): no parameter is zero, as many are at the start."""
  module = transformer.Transformer(VOCAB, width=16, layers=2, heads=2, taps=3)
  tokens = jnp.zeros((1, LENGTH), jnp.int32)
  params = jax.jit(module.init)(jax.random.key(0), tokens)['params']
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [
    x + 0.3 * jax.random.normal(k, x.shape)
    for x, k in zip(leaves, keys, strict=True)
  ]
  return module, jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope='module')
def logits(model):
  module, params = model
  return jax.jit(lambda *args: module.apply({'params': params}, *args))


def canvas(rows=4):
  tokens = jax.random.randint(jax.random.key(2), (rows, LENGTH), 0, VOCAB + 1)
  return np.array(tokens, np.int32)


@pytest.mark.parametrize('left', range(PAD + 1))
def test_padding_changes_nothing(logits, left):
  tokens = canvas()
  sides = ((0, 0), (left, PAD - left))
  padded = np.pad(tokens, sides, constant_values=5)
  valid = np.pad(np.ones_like(tokens, bool), sides)
  found = logits(padded, valid)[:, left : left + LENGTH]
  expected = logits(tokens, np.ones_like(tokens, bool))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.ptp(expected) > 1


def test_no_valid_argument_means_all_valid(logits):
  tokens = canvas()
  expected = logits(tokens, np.ones_like(tokens, bool))
  np.testing.assert_allclose(logits(tokens), expected, atol=1e-5)


def test_every_position_sees_every_other(logits):
  tokens = canvas(1)
  before = logits(tokens)
  for i in range(LENGTH):
    other = tokens.copy()
    other[0, i] = (other[0, i] + 1) % (VOCAB + 1)
    change = np.abs(logits(other) - before).max(-1)[0]
    assert (change > 1e-4).all(), f'position {i} is not seen everywhere'


def test_it_knows_the_order(logits):
  tokens = np.array([[1, 2, 3, VOCAB, 4, 5, 6]], np.int32)
  shuffled = tokens[:, [1, 0, 2, 3, 4, 6, 5]]
  change = np.abs(logits(tokens) - logits(shuffled))[0, 3]
  assert change.max() > 1e-3


def test_the_denoiser_reads_the_same_distribution(model, logits):
  tokens = canvas()
  valid = np.ones_like(tokens, bool)
  denoiser = transformer.denoiser(*model)
  memo, answer = denoiser.ask(
    denoiser.init(tokens, valid), tokens, np.ones(4, bool)
  )
  expected = jax.nn.log_softmax(logits(tokens, valid))
  found = denoiser.read(answer.features)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert answer.features.shape == (4, LENGTH, 16)
  np.testing.assert_array_equal(memo.meter.nfe, 1)


def test_a_fresh_model_is_uniform():
  module = transformer.Transformer(VOCAB, width=16, layers=1, heads=2)
  variables = module.init(jax.random.key(0), canvas())
  np.testing.assert_array_equal(module.apply(variables, canvas()), 0.0)
