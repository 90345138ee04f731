"""Masking and the masked-diffusion loss against worlds that are exact.

With exact conditionals the bound is tight for every canvas: each order of
unmasking multiplies up to the same joint. So NELBO(x) = -log p(x).
"""

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
