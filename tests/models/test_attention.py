"""A CPU's attention is the library's, chunked or not; rotation is relative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.models import attention, rope
from punt_jax.types import FAR


@pytest.mark.parametrize('scores', [2**18, 37])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('heads', [2, 6])
def test_it_is_dot_product_attention(scores, masked, heads, monkeypatch):
  monkeypatch.setattr(attention, 'SCORES', scores)
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (2, 5, heads, 4), (2, 7, 2, 4), (2, 7, 2, 4)
  q, k, v = (jax.random.normal(*x) for x in zip(keys, shapes, strict=True))
  mask = np.arange(7) > np.array([[1], [4]]) if masked else None
  own = attention.attention(q, k, v, mask)
  wide = None if mask is None else jnp.asarray(mask)[:, None, None]
  library = jax.nn.dot_product_attention(q, k, v, mask=wide)
  assert own.shape == (2, 5, heads * 4)
  np.testing.assert_allclose(own, library.reshape(own.shape), atol=1e-6)
  other = attention._elsewhere(q, k, v, mask, None)
  np.testing.assert_allclose(own, other, atol=1e-6)


@pytest.mark.parametrize('scores', [2**18, 37])
@pytest.mark.parametrize('probes', [1, 3])
def test_reach_and_past(scores, probes, monkeypatch):
  """Key by key in NumPy; what is remembered is shared by a row's probes."""
  monkeypatch.setattr(attention, 'SCORES', scores)
  batch, n, window, slots, groups, each, size = 2, 2 * probes, 5, 7, 2, 3, 4
  draw = np.random.default_rng(probes)
  normal = lambda *shape: draw.standard_normal(shape, np.float32)
  q = normal(n, window, groups * each, size)
  k, v = normal(2, n, window, groups, size)
  past = attention.Past(
    *normal(2, batch, slots, groups, size),
    position=np.where(draw.random((batch, slots)) < 0.7, range(slots), FAR),
    reach=draw.integers(-1, slots, n),  # -1: nothing
  )
  mask = attention.Reach(
    position=np.tile([0, 1, 2, 3, FAR], (n, 1)),
    reach=draw.integers(0, window, (n, window)),
  )
  wanted = np.zeros((n, window, groups * each, size))
  for i, w, h in np.ndindex(wanted.shape[:3]):
    b, g = i // probes, h // each
    own = mask.position[i] <= mask.reach[i, w]
    old = past.position[b] <= past.reach[i]
    keys = np.concatenate([past.key[b, old, g], k[i, own, g]])
    values = np.concatenate([past.value[b, old, g], v[i, own, g]])
    weights = np.exp(keys @ q[i, w, h] / size**0.5)
    wanted[i, w, h] = weights @ values / weights.sum()
  wanted = wanted.reshape(n, window, -1)
  found = attention.attention(q, k, v, mask, past)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  other = attention._in_two_parts(q, k, v, mask, past)
  np.testing.assert_allclose(other, wanted, atol=1e-5)


def test_rotation_depends_on_distance_alone():
  x = jax.random.normal(jax.random.key(3), (1, 2, 1, 8))
  def product(first, second):
    position = jnp.array([[first, second]])
    a, b = rope.rotate(x, position)[0, :, 0]
    return float(a @ b)
  assert product(0, 4) == pytest.approx(product(13, 17), abs=1e-4)
  assert product(0, 4) != pytest.approx(product(0, 5), abs=1e-2)
