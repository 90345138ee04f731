"""--check of models that write in blocks: which setting is the true one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from punt_jax import corruption
from punt_jax.cli import block_check, mask_check
from punt_jax.models import transformer
from punt_jax.models.layout import Layout
from punt_jax.text import vocabulary

V, TRUE, MASK = 40, 8, 37


class Counter(NamedTuple):
  """A network that counts, if it is asked as in its training.

  With blocks of TRUE positions and its own MASK, output i names token i, which
  is one more than the token before it.
  """

  vocab: int = V
  block_length: int = TRUE

  def clone(self, block_length):
    return self._replace(block_length=block_length)

  def apply(self, params, *arrays, method):
    del params
    if method == 'head':
      return arrays[0]
    tokens = arrays[0] if method == 'features' else arrays[3]
    if method == 'features':
      return jnp.zeros((*tokens.shape, V))
    _, _, _, _, place, reach = arrays
    right = (reach == (place // TRUE + 1) * TRUE - 1) & (tokens == MASK)
    before = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    return 5.0 * jax.nn.one_hot(before + 1, V) * right[..., None], ()


def check(mask=MASK, blocks=TRUE, shifted=False):
  """(best Trial, the verdict, the table) of what a config.json says."""
  plan = Layout(Counter(block_length=blocks), {}, V, mask, 64, shifted)
  ids = np.arange(30, dtype=np.int32)
  found = block_check.trials(plan, {}, ids, {'<m>': MASK, '<x>': 38}, 64)
  return found[0], mask_check.verdict(found, V), mask_check.shown(found)


def test_the_truth_wins():
  best, said, table = check()
  assert best.own and best.blocks == TRUE
  assert said == "the model's own mask, shift and blocks are the best"
  assert "the model's own" in table and 'none' in table


@pytest.mark.parametrize('lie, said', [
  (dict(mask=38), 'mask id 37 <m> would fit'),
  (dict(blocks=4), 'blocks of 8 positions would fit'),
  (dict(blocks=16), 'blocks of 8 positions would fit'),
  (dict(blocks=2), 'blocks of 8 positions would fit'),
])
def test_a_lie_is_found(lie, said):
  best, told, _ = check(**lie)
  assert not best.own and best.blocks == TRUE and best.mask == MASK
  assert f'WARNING: {said} better' in told
  assert 'look at mask_token_id, block_length and model_type' in told


def test_a_wrong_shift_is_found():
  best, told, _ = check(shifted=True)
  assert not best.shifted and 'outputs that are not shifted' in told


def train(text, length, steps):
  """(module, params) of a Transformer in blocks of TRUE, trained on a text."""
  module = transformer.Transformer(
    256, 64, 2, 4, attention='block_causal', block_length=TRUE
  )
  rate = optax.adam(3e-3)
  rows = jnp.arange(16)

  def loss(params, key, tokens):
    logits = lambda hidden: module.apply(
      {'params': params}, hidden, tokens, method='two_halves'
    )
    return corruption.diffusion_loss(
      key, rows, 16, tokens, logits, 256, 'unweighted', TRUE
    ).loss.mean()

  def step(carry, key):
    params, state = carry
    first = jax.random.randint(key, (16,), 0, len(text) - length)
    tokens = jnp.asarray(text)[first[:, None] + jnp.arange(length)]
    change, state = rate.update(jax.grad(loss)(params, key, tokens), state)
    return (optax.apply_updates(params, change), state), ()

  @jax.jit
  def run(key):
    params: Any = module.init(key, jnp.zeros((1, length), int))['params']
    carry = params, rate.init(params)
    return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][0]

  return module, run(jax.random.key(0))


@pytest.mark.slow
def test_a_trained_model():
  """It knows the passage; blocks are 8. 4 fit it less, by 0.05 nats."""
  ids = vocabulary.utf8_bytes().encode(block_check.PASSAGE, '')
  module, params = train(ids, 64, 400)
  for blocks in (TRUE, 4):
    plan = Layout(module.clone(block_length=blocks), {}, 256, 256, 64)
    found = block_check.trials(plan, params, ids, {}, 2048)
    assert found[0].blocks == TRUE
    said = mask_check.verdict(found, 256)
    assert ('WARNING: blocks of 8' in said) == (blocks != TRUE)
