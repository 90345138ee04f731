"""The block-causal network: who sees whom, and windows given a past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.models import transformer
from punt_jax.types import FAR

VOCAB, LENGTH, BLOCK = 11, 8, 4


@pytest.fixture(scope='module')
def model():
  """(module, params): no parameter is zero, as many are at the start."""
  module = transformer.Transformer(
    VOCAB, width=16, layers=2, heads=2, taps=5, places=LENGTH,
    attention='block_causal', block_length=BLOCK,
  )
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
def call(model):
  """Jitted methods by name."""
  module, params = model
  return lambda name: jax.jit(
    lambda *args: module.apply({'params': params}, *args, method=name)
  )


@pytest.fixture(scope='module')
def features(call):
  run = call('features')
  return lambda tokens, valid=None: np.asarray(
    run(tokens, np.ones_like(tokens, bool) if valid is None else valid)
  )


def canvas(rows=4, high=VOCAB + 1, seed=2):
  tokens = jax.random.randint(jax.random.key(seed), (rows, LENGTH), 0, high)
  return np.array(tokens, np.int32)


def test_a_position_sees_its_block_and_those_before(features):
  tokens = canvas(1)
  before = features(tokens)
  for i in range(LENGTH):
    other = tokens.copy()
    other[0, i] = (other[0, i] + 1) % (VOCAB + 1)
    change = np.abs(features(other) - before).max(-1)[0]
    first = i // BLOCK * BLOCK
    assert (change[:first] == 0).all() and (change[first:] > 1e-4).all()


@pytest.mark.parametrize('left', range(4))
def test_blocks_are_counted_from_the_first_token(features, left):
  tokens = canvas()
  sides = ((0, 0), (left, 3 - left))
  short = tokens[:, : LENGTH - 3]
  padded = np.pad(short, sides, constant_values=5)
  found = features(padded, np.pad(np.ones_like(short, bool), sides))
  expected = features(tokens)[:, : LENGTH - 3]
  alone = features(short)
  found = found[:, left : left + LENGTH - 3]
  np.testing.assert_allclose(found, alone, atol=1e-5)
  np.testing.assert_allclose(found[:, :BLOCK], expected[:, :BLOCK], atol=1e-5)


def positions(rows, start, stop):
  place = np.arange(start, stop, dtype=np.int32)
  return np.broadcast_to(place, (rows, len(place)))


def reach(position):
  return position // BLOCK * BLOCK + BLOCK - 1


def test_a_window_after_a_past_is_the_whole(call, features):
  """Two rows of three probes each, whose past is not the same length."""
  window, tokens = call('window'), canvas(6)
  tokens[:, :BLOCK] = tokens[[0, 0, 0, 3, 3, 3], :BLOCK]
  first = positions(2, 0, BLOCK)
  _, past = window(
    None, None, None, tokens[::3, :BLOCK], first, reach(first)
  )
  assert jax.tree.leaves(past)[0].shape == (2, 2, BLOCK, 2, 8)
  second = positions(6, BLOCK, LENGTH)
  # What lies beyond the reach of a row is not seen, whatever it is.
  more = lambda x: jnp.concatenate([x, 9 + x], 2)
  slots = np.concatenate([first, first + BLOCK], 1)
  slots[1, BLOCK:] = FAR
  found, own = window(
    jax.tree.map(more, past), slots, np.full(6, BLOCK - 1, np.int32),
    tokens[:, BLOCK:], second, reach(second),
  )
  whole = features(tokens)
  np.testing.assert_allclose(found, whole[:, BLOCK:], atol=1e-5)
  everywhere = positions(6, 0, LENGTH)
  at_once, all_ = window(
    None, None, None, tokens, everywhere, reach(everywhere)
  )
  np.testing.assert_allclose(at_once, whole, atol=1e-5)
  for one, other in zip(*map(jax.tree.leaves, (own, all_)), strict=True):
    np.testing.assert_allclose(one, other[:, :, BLOCK:], atol=1e-5)
  hidden, _ = window(  # without reach: all of the window sees all of it
    None, None, None, tokens[:, :BLOCK], positions(6, 0, BLOCK), None
  )
  np.testing.assert_allclose(hidden, whole[:, :BLOCK], atol=1e-5)


def test_padding_in_a_window_is_not_seen(call, features):
  tokens = canvas(2)
  place = np.concatenate(
    [np.full((2, 2), FAR, np.int32), positions(2, 0, LENGTH - 2)], 1
  )
  found, _ = call('window')(None, None, None, tokens, place, reach(place))
  assert np.isfinite(np.asarray(found)).all()
  alone = features(tokens[:, 2:])
  np.testing.assert_allclose(found[:, 2:], alone, atol=1e-5)


def test_two_halves_are_plain_passes_block_by_block(call, features, model):
  noised, clean = canvas(4), canvas(4, VOCAB, seed=3)
  found = call('two_halves')(noised, clean)
  for start in range(0, LENGTH, BLOCK):
    stop = start + BLOCK
    tokens = np.concatenate([clean[:, :start], noised[:, start:]], 1)
    logits = call('head')(features(tokens))[:, start:stop]
    np.testing.assert_allclose(found[:, start:stop], logits, atol=1e-4)
  assert np.ptp(np.asarray(found)) > 1


@pytest.mark.parametrize('size', [BLOCK, LENGTH])
def test_two_halves_leak_nothing(model, size):
  """By gradients: which embedded positions a noised logit depends on.

  Of its own block the noised half alone, of earlier ones the clean half alone.
  """
  module, params = model
  # Every position has a token of its own.
  wide = module.clone(vocab=2 * LENGTH, block_length=size)
  table = jax.random.normal(jax.random.key(4), (2 * LENGTH + 1, 16))
  readout = {'kernel': jax.random.normal(jax.random.key(5), (16, 2 * LENGTH))}

  @jax.jit
  @jax.jacrev
  def slope(table):
    weights = {**params, 'embed': {'embedding': table}, 'readout': readout}
    every = jnp.arange(2 * LENGTH)[None]
    logits = wide.apply(
      {'params': weights}, every[:, :LENGTH], every[:, LENGTH:],
      method='two_halves',
    )
    return logits[0].sum(-1)

  found = np.abs(slope(table)).max(-1)[:, : 2 * LENGTH]  # (L, 2 L)
  expected = np.zeros((LENGTH, 2 * LENGTH), bool)
  for i in range(LENGTH):
    for j in range(LENGTH):
      expected[i, j] = i // size == j // size
      expected[i, LENGTH + j] = j // size < i // size
  assert (found[expected] > 1e-6).all()
  np.testing.assert_array_equal(found[~expected], 0.0)


@pytest.mark.parametrize('cached', [True, False])
def test_a_denoiser_of_blocks(model, call, features, cached):
  tokens = canvas(2)
  valid = np.ones_like(tokens, bool)
  denoiser = transformer.denoiser(*model, cached=cached)
  assert denoiser.windows.length == BLOCK and not denoiser.windows.anchored
  memo = denoiser.init(tokens, valid)
  memo, answer = denoiser.ask(memo, tokens, np.ones(2, bool))
  np.testing.assert_allclose(answer.features, features(tokens), atol=1e-5)
  slots = {x.shape[2] for x in jax.tree.leaves(memo.cache.past) if x.ndim > 2}
  assert slots == ({LENGTH} if cached else set())


def test_more_positions_than_places(model):
  tokens = np.pad(canvas(2), ((0, 0), (0, 1)))
  valid = np.ones_like(tokens, bool)
  for cached in (True, False):
    denoiser = transformer.denoiser(*model, cached=cached)
    with pytest.raises(ValueError, match='of 9 positions.* knows 8: use at'):
      memo = denoiser.init(tokens, valid)
      denoiser.ask(memo, tokens, np.ones(2, bool))


def test_attention_is_that_of_the_mask(model):
  module, params = model
  tokens = canvas(2)
  valid = np.ones_like(tokens, bool)
  denoiser = transformer.denoiser(module, params, attention=True)
  memo = denoiser.init(tokens, valid)
  answer = denoiser.ask(memo, tokens, np.ones(2, bool))[1]
  block = np.arange(LENGTH) // BLOCK
  later = block[:, None] < block
  assert (np.asarray(answer.extra)[:, :, later] == 0).all()
  np.testing.assert_allclose(answer.extra.sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize('settings, said', [
  (dict(attention='causal'), "unknown attention 'causal': use one of full"),
  (dict(block_length=4), "block_length = 4 is for attention = 'block_causal'"),
  (dict(attention='block_causal'), 'say how many positions a block has'),
  (
    dict(attention='block_causal', block_length=3, places=8),
    'places = 8 must be a multiple of block_length = 3',
  ),
])
def test_settings_that_do_not_go_together(settings, said):
  module = transformer.Transformer(VOCAB, width=16, layers=1, **settings)
  with pytest.raises(ValueError, match=said):
    jax.eval_shape(module.init, jax.random.key(0), canvas())


def test_full_attention_has_no_windows():
  module = transformer.Transformer(VOCAB, width=16, layers=1)
  place = positions(4, 0, LENGTH)
  with pytest.raises(ValueError, match='has full attention, and no blocks'):
    module.init(
      jax.random.key(0), None, None, None, canvas(), place, place,
      method='window',
    )
