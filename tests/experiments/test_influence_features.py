"""What predicts influence: binning and alignment."""

import numpy as np
import pytest

from configs import influence_features as config_file
from experiments.influence_features import __main__ as features
from punt_jax import checkpoints, scores


def test_explained_finds_what_determines_and_ignores_noise():
  rng = np.random.default_rng(0)
  distance = rng.integers(1, 9, 4000)
  pairs = dict(
    distance=distance, noise=rng.normal(size=4000),
    moved=1.0 / distance, row=np.arange(4000),
  )
  assert features.explained(pairs, ('distance',), 5) > 0.99
  assert abs(features.explained(pairs, ('noise',), 5)) < 0.02
  # Two features that only tell it together.
  pairs['a'] = rng.integers(2, size=4000)
  pairs['b'] = rng.integers(2, size=4000)
  pairs['moved'] = (pairs['a'] ^ pairs['b']) * 1.0
  assert features.explained(pairs, ('a',), 5) < 0.02
  assert features.explained(pairs, ('a', 'b'), 5) > 0.99


@pytest.fixture(scope='module')
def loaded():
  return checkpoints.load('shakespeare')


@pytest.mark.slow
def test_what_is_looked_at_belongs_to_the_canvas_before(loaded):
  before, shown, moved, row = features.probes_of(loaded, 2, 6, seed=0)
  mask = loaded.text.vocab
  assert before.shape == (10, 6) and (shown.sum(1) == 1).all()
  assert (before[shown] == mask).all()  # revealed next
  # Compared is what is masked, but for the revealed.
  np.testing.assert_array_equal(~np.isnan(moved), (before == mask) & ~shown)
  assert (before[row == 1][0] == mask).all()
  entropy, attention, cosine = map(
    np.asarray, features.looker(loaded)(before)
  )
  logp = loaded.module.apply({'params': loaded.params}, before)
  expected = scores.entropy(logp - np.logaddexp.reduce(logp, -1)[..., None])
  np.testing.assert_allclose(entropy, expected, rtol=1e-4)
  np.testing.assert_allclose(attention.sum((1, 2)), 2 * 6, rtol=1e-4)
  np.testing.assert_array_equal(attention, attention.swapaxes(1, 2))
  np.testing.assert_allclose(cosine[:, range(6), range(6)], 1, rtol=1e-4)


@pytest.mark.slow
def test_end_to_end(tmp_path):
  config = config_file.get_config()
  config.update(rows=4, length=8)
  rows = features.run(config, tmp_path)
  assert [tuple(row['settings']['features']) for row in rows] == [
    *config.features
  ]
  assert all(row['pairs'] == 4 * (7 * 6 // 2 + 7) for row in rows)
  nats, *others = [row['nats_by_distance'] for row in rows]
  assert len(nats) == 3 and min(nats) > 0 and set(others) == {None}
  assert (tmp_path / 'influence_features.png').exists()
