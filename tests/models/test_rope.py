"""Rotary positions: YaRN's rates and partial heads against transformers'."""

import math

import jax
import numpy as np
import pytest

from punt_jax.models.rope import (
  Rope,
  Yarn,
  amplitude,
  rates,
  rotate,
  rotate_query,
)

# rope_parameters of transformers -> (size of a head, rates, amplitude), which
# its ROPE_INIT_FUNCTIONS['yarn'] gave; the first are Nemotron's.
GOLDEN = (
  (
    16, dict(
      rope_theta=1e6, factor=16.0, original_max_position_embeddings=16384,
      beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
    ), 1.0,
    [1.0, 0.1778279, 0.03162278, 0.003866096, 0.000375, 1.111425e-05,
     1.976423e-06, 3.514633e-07],
  ),
  (
    16, dict(
      rope_theta=1e4, factor=4.0, original_max_position_embeddings=4096
    ), 1.138629436111989,
    [1.0, 0.3162278, 0.1, 0.02569351, 0.00625, 0.001383497, 0.00025,
     7.905695e-05],
  ),
  (
    16, dict(
      rope_theta=1e4, factor=4.0, original_max_position_embeddings=4096,
      truncate=False,
    ), 1.138629436111989,
    [1.0, 0.3162278, 0.1, 0.02861361, 0.006556971, 0.001285632, 0.00025,
     7.905695e-05],
  ),
  (
    32, dict(
      rope_theta=6e5, factor=8.0, original_max_position_embeddings=2048,
      beta_fast=16.0, beta_slow=2.0, mscale=1.0, mscale_all_dim=0.5,
      partial_rotary_factor=0.5,
    ), 1.094179988101349,
    [1.0, 0.1895532, 0.02545071, 0.002837801, 0.0001613743, 3.058901e-05,
     5.798245e-06, 1.099076e-06],
  ),
  (  # trained on 4 positions: the ramp has no room
    16, dict(rope_theta=10.0, factor=4.0, original_max_position_embeddings=4),
    1.138629436111989,
    [1.0, 0.7498942, 0.5623413, 0.4216965, 0.3162278, 0.2371374, 0.1778279,
     0.1333521],
  ),
)


def ours(said):
  """A Rope from rope_parameters."""
  factor = said['factor']
  yarn = Yarn(
    factor, said['original_max_position_embeddings'],
    said.get('beta_fast', 32.0), said.get('beta_slow', 1.0),
    amplitude(factor, said.get('mscale'), said.get('mscale_all_dim')),
    said.get('truncate', True),
  )
  fraction = said.get('partial_rotary_factor', 1.0)
  return Rope(said['rope_theta'], fraction, yarn)


def theirs(size, said):
  import transformers
  from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

  settings = transformers.LlamaConfig(
    hidden_size=2 * size, num_attention_heads=2, head_dim=size,
    rope_parameters=dict(rope_type='yarn', **said),
    max_position_embeddings=said['original_max_position_embeddings'],
  )
  found, scale = ROPE_INIT_FUNCTIONS['yarn'](settings, 'cpu')
  return found.numpy(), scale


@pytest.mark.parametrize('size, said, scale, wanted', GOLDEN)
def test_yarn(size, said, scale, wanted):
  rope = ours(said)
  np.testing.assert_allclose(rates(rope, size), wanted, rtol=1e-6)
  assert rope.yarn.amplitude == pytest.approx(scale, rel=1e-9)


@pytest.mark.torch
@pytest.mark.parametrize('size, said, scale, wanted', GOLDEN)
def test_golden_yarn_is_current(size, said, scale, wanted):
  pytest.importorskip('transformers')
  found, amount = theirs(size, said)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)
  assert amount == pytest.approx(scale, rel=1e-9)


@pytest.mark.torch
def test_yarn_against_transformers():
  """Random settings, those of no model among them."""
  pytest.importorskip('transformers')
  draw = np.random.default_rng(0)
  pick = lambda *from_: from_[draw.integers(len(from_))]
  for _ in range(300):
    size = pick(8, 16, 64, 128, 256)
    said = dict(
      rope_theta=pick(1e4, 5e4, 6e5, 1e6, 3e6),
      factor=pick(1.0, 2.0, 4.0, 16.0, 40.0),
      original_max_position_embeddings=pick(4, 256, 4096, 16384, 32768),
      beta_fast=pick(8.0, 32.0, 64.0), beta_slow=pick(0.5, 1.0, 4.0),
      truncate=bool(pick(True, False)),
      partial_rotary_factor=pick(0.25, 0.5, 1.0),
    )
    if pick(True, False):
      said |= dict(mscale=pick(0.7, 1.0), mscale_all_dim=pick(0.5, 1.0))
    wanted, scale = theirs(size, said)
    rope = ours(said)
    np.testing.assert_allclose(rates(rope, size), wanted, rtol=1e-4)
    assert rope.yarn.amplitude == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize('position', [100_000, 131_071])
def test_angles_far_out(position):
  """In float32 they are right to a hundredth; a bfloat16 position is not."""
  x = np.ones((1, 1, 1, 128), np.float32)
  rope = Rope(1e6)
  found = rotate(x, np.array([[position]]), rope)[0, 0, 0]
  angle = position * 1e6 ** (-np.arange(64) / 64)
  wanted = np.concatenate([
    np.cos(angle) - np.sin(angle), np.cos(angle) + np.sin(angle)
  ])
  assert abs(found - wanted).max() < 0.02


def test_part_of_a_head_turns():
  x = jax.random.normal(jax.random.key(0), (2, 3, 2, 8))
  position = np.array([[0, 1, 5], [7, 2, 9]])
  half = rotate(x, position, Rope(100.0, 0.5))
  whole = rotate(x[..., :4], position, Rope(100.0))
  np.testing.assert_allclose(half[..., :4], whole, atol=1e-6)
  np.testing.assert_array_equal(half[..., 4:], x[..., 4:])


def test_queries_far_out_are_longer():
  x = jax.random.normal(jax.random.key(0), (1, 5, 2, 8))
  position = np.array([[0, 9, 10, 35, 1000]])
  rope = Rope(query=(0.1, 10))
  found = rotate_query(x, position, rope) / rotate(x, position, rope)
  wanted = [1 + 0.1 * math.log(1 + n) for n in (0, 0, 1, 3, 100)]
  np.testing.assert_allclose(found[0, :, 0, 0], wanted, rtol=1e-6)
