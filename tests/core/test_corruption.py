"""Masking and the masked-diffusion loss against worlds that are exact.

With exact conditionals the bound is tight for every canvas: each order of
unmasking multiplies up to the same joint. So NELBO(x) = -log p(x).
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax import corruption, oracles

LENGTH, VOCAB, ROWS = 5, 3, 4096


def world_draws(draw):
  """nats per token of many rows of one canvas, and what they should be."""
  world = oracles.random_table(jax.random.key(3), LENGTH, VOCAB)
  tokens = world.sample(jax.random.key(4), 1)
  many = jnp.broadcast_to(tokens, (ROWS, LENGTH))
  rows = jnp.arange(ROWS)
  nats = draw(jax.random.key(5), rows, ROWS, many, world.logits, VOCAB)
  return np.asarray(nats), float(-world.log_prob(tokens[0])) / LENGTH


def test_the_evaluation_bound_is_tight_on_an_exact_world():
  nats, exact = world_draws(corruption.nelbo_draw)
  error = nats.std() / np.sqrt(ROWS)
  assert abs(nats.mean() - exact) < 4 * error
  assert error < 0.01  # else the line above says little


def test_the_training_bound_agrees():
  draw = lambda *args: corruption.diffusion_loss(*args, 'nelbo').nelbo
  nats, exact = world_draws(draw)
  error = nats.std() / np.sqrt(ROWS)
  assert abs(nats.mean() - exact) < 4 * error + corruption.T_MIN * 2
  assert error < 0.05


def test_weights():
  args = (jax.random.key(0), jnp.arange(64), 64, jnp.zeros((64, 8), int))
  model = lambda hidden: jnp.zeros((64, 8, 4))
  nelbo = corruption.diffusion_loss(*args, model, 4, 'nelbo')
  plain = corruption.diffusion_loss(*args, model, 4, 'unweighted')
  np.testing.assert_array_equal(nelbo.loss, nelbo.nelbo)
  np.testing.assert_array_equal(nelbo.nelbo, plain.nelbo)
  rate = corruption.times(jax.random.split(args[0])[0], args[1], 64)
  np.testing.assert_allclose(plain.loss, 2 * rate * nelbo.nelbo, rtol=1e-4)
  # log 4 nats for each masked token, half of them on average.
  assert abs(float(plain.loss.mean()) - np.log(4)) < 0.2


def test_times_are_stratified():
  rate = np.sort(corruption.times(jax.random.key(1), jnp.arange(100), 100))
  assert rate[0] >= corruption.T_MIN and rate[-1] < 1.0
  np.testing.assert_allclose(np.diff(rate), 0.01 * 0.999, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch():
  tokens = jnp.arange(48).reshape(6, 8) % 7
  model = lambda hidden: jax.nn.one_hot(hidden, 8)
  loss = lambda rows: corruption.diffusion_loss(
    jax.random.key(2), rows, 6, tokens[rows], model, 7, 'nelbo'
  )
  whole, half = loss(jnp.arange(6)), loss(jnp.arange(3, 6))
  np.testing.assert_array_equal(whole.loss[3:], half.loss)


@pytest.mark.parametrize('count', [1, 3, 8])
def test_hide_count_hides_exactly_that_many(count):
  keys = jax.random.split(jax.random.key(0), 2000)
  tokens = jnp.zeros((2000, 8), jnp.int32)
  hidden, masked = corruption.hide_count(
    keys, tokens, jnp.full(2000, count), 9
  )
  assert (masked.sum(1) == count).all()
  np.testing.assert_array_equal(hidden, np.where(masked, 9, 0))
  np.testing.assert_allclose(masked.mean(0), count / 8, atol=0.05)


def test_nelbo_mean_by_hand():
  # Row means 2 and 5; row variances 2 and 8 over two draws each.
  mean, error = corruption.nelbo_mean([[1.0, 3.0], [3.0, 7.0]])
  assert mean == 3.5
  assert error == pytest.approx(np.sqrt((2 + 8) / 2) / 2)


# A block model that is wrong, but known: logits at i are sums of a table over
# the positions that i sees, noised ones of its block and clean ones before.
SIZE = 2 * 3
TABLE = np.random.default_rng(0).normal(size=(SIZE, SIZE, VOCAB + 1, VOCAB))
CLEAN = np.array([2, 0, 1, 1, 2, 0], np.int32)


def block_logits(block_length, clean, hidden):
  block = np.arange(SIZE) // block_length
  own, before = block[:, None] == block, block[:, None] > block
  shown = lambda tokens, seen: jnp.einsum(
    'ij,njv,ijvw->niw', seen.astype(float), jax.nn.one_hot(tokens, VOCAB + 1),
    TABLE,
  )
  return shown(hidden, own) + shown(clean, before)


def enumerated(block_length):
  """The NELBO of CLEAN, nats per token, over all subsets of every block."""
  total = 0.0
  for start in range(0, SIZE, block_length):
    inside = range(start, start + block_length)
    for k in range(1, block_length + 1):
      for hide in itertools.combinations(inside, k):
        canvas = [VOCAB if i in hide else CLEAN[i] for i in range(SIZE)]
        for i in hide:
          logits = sum(
            TABLE[i, j, canvas[j]] for j in range(start + block_length)
          )
          nats = np.log(np.exp(logits).sum()) - logits[CLEAN[i]]
          total += nats / (k * math.comb(block_length, k))
  return total / SIZE


def block_draws(draw, block_length):
  many = jnp.broadcast_to(CLEAN, (ROWS, SIZE))
  logits = functools.partial(block_logits, block_length, many)
  nats = jax.jit(lambda key: draw(
    key, jnp.arange(ROWS), ROWS, many, logits, VOCAB, block_length=block_length
  ))
  return np.asarray(nats(jax.random.key(6)))


@pytest.mark.parametrize('block_length', [1, 2, 3, SIZE])
def test_the_bound_of_a_block_model_is_the_enumerated_one(block_length):
  exact = enumerated(block_length)
  nats = block_draws(corruption.nelbo_draw, block_length)
  error = nats.std() / np.sqrt(ROWS)
  assert abs(nats.mean() - exact) < 4 * error + 1e-5
  assert error < 0.03
  if block_length == 1:  # the exact likelihood, whatever is drawn
    np.testing.assert_allclose(nats, exact, rtol=1e-5)
  trained = lambda *args, **how: (
    corruption.diffusion_loss(*args, 'nelbo', **how).nelbo
  )
  nats = block_draws(trained, block_length)
  error = nats.std() / np.sqrt(ROWS)
  assert abs(nats.mean() - exact) < 4 * error + corruption.T_MIN * 4
  assert error < 0.1


def test_blocks_have_different_bounds():
  found = [enumerated(n) for n in (1, 2, SIZE)]
  assert min(np.abs(np.diff(found))) > 0.2  # many errors of the test above


def test_the_bound_of_an_exact_block_model_is_tight():
  """An exact block model: the world's conditionals, later blocks unknown."""

  def draw(key, rows, count, tokens, logits, vocab):

    def given(hidden):
      """Block by block, the world's logits of clean, noised, MASK."""
      found = []
      for start in range(0, 4, 2):
        canvas = jnp.where(jnp.arange(4) < start, tokens, hidden)
        canvas = jnp.where(jnp.arange(4) < start + 2, canvas, vocab)
        found.append(logits(canvas)[:, start : start + 2])
      return jnp.concatenate(found, 1)

    return corruption.nelbo_draw(key, rows, count, tokens, given, vocab, 2)

  world = oracles.random_table(jax.random.key(3), 4, VOCAB)
  tokens = world.sample(jax.random.key(4), 1)
  many = jnp.broadcast_to(tokens, (ROWS, 4))
  nats = draw(
    jax.random.key(5), jnp.arange(ROWS), ROWS, many, world.logits, VOCAB
  )
  error = float(nats.std()) / np.sqrt(ROWS)
  exact = float(-world.log_prob(tokens[0])) / 4
  assert abs(float(nats.mean()) - exact) < 4 * error
  assert 0 < error < 0.01


def test_one_block_is_no_block():
  tokens = jnp.broadcast_to(CLEAN, (64, SIZE))
  logits = functools.partial(block_logits, SIZE, tokens)
  args = jax.random.key(7), jnp.arange(64), 64, tokens, logits, VOCAB
  plain, one = (
    corruption.diffusion_loss(*args, 'nelbo', n) for n in (0, SIZE)
  )
  np.testing.assert_allclose(plain.nelbo, one.nelbo, rtol=1e-6)
  plain, one = (corruption.nelbo_draw(*args, n) for n in (0, SIZE))
  np.testing.assert_allclose(plain, one, rtol=1e-6)


@pytest.mark.parametrize('count, blocks', [(32, 8), (16, 3)])
def test_times_of_blocks_are_stratified(count, blocks):
  rows = corruption.spread(jnp.arange(count), count, blocks)
  rate = np.asarray(corruption.times(jax.random.key(1), rows, count))
  assert rate.shape == (count, blocks)
  gap = lambda x: np.diff(np.sort(x, -1), axis=-1)
  assert gap(rate.ravel()).max() < 2 / (count * blocks)
  assert gap(rate.T).max() < 1.01 / count
  assert gap(rate).max() < (1 + 1 / blocks) / blocks


def test_each_block_has_its_own_number_of_masks():
  keys = jax.random.split(jax.random.key(0), 500)
  tokens = jnp.zeros((500, 6), jnp.int32)
  number = jnp.broadcast_to(jnp.array([1, 3]), (500, 2))
  hidden, masked = corruption.hide_count(keys, tokens, number, 9)
  np.testing.assert_array_equal(masked.reshape(-1, 2, 3).sum(-1), number)
  np.testing.assert_array_equal(hidden, np.where(masked, 9, 0))
  np.testing.assert_allclose(masked.mean(0)[:3], 1 / 3, atol=0.1)
  rate = jnp.broadcast_to(jnp.array([0.2, 1.0]), (500, 2))
  _, masked = corruption.hide(keys, tokens, rate, 9)
  assert masked[:, 3:].all()
  np.testing.assert_allclose(masked.mean(0)[:3], 0.2, atol=0.1)
