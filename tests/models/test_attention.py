"""A CPU's attention is the library's, chunked or not; rotation is relative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.models import attention


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
  # What other devices run.
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  other = attention.attention(q, k, v, mask)
  np.testing.assert_allclose(own, other, atol=1e-6)


def test_rotation_depends_on_distance_alone():
  x = jax.random.normal(jax.random.key(3), (1, 2, 1, 8))
  def product(first, second):
    position = jnp.array([[first, second]])
    a, b = attention.rotate(x, position)[0, :, 0]
    return float(a @ b)
  assert product(0, 4) == pytest.approx(product(13, 17), abs=1e-4)
  assert product(0, 4) != pytest.approx(product(0, 5), abs=1e-2)
