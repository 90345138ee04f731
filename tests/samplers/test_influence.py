"""Influence: the fit, the rule, and that the table pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import metrics, oracles, samplers
from punt_jax.decode import film
from punt_jax.samplers import Probes, explore, fit_influence, thin
from tests.helpers import reference


def view_of(entropy, masked=None):
  """What `thin` reads of a View."""
  length = len(entropy)
  masked = np.ones(length, bool) if masked is None else np.array(masked)
  blank = jnp.zeros(length)
  return punt_jax.View(
    tokens=blank, masked=jnp.array(masked), open=jnp.array(masked),
    position=jnp.arange(length), drafts=blank, draft_logp=blank,
    draft_score=blank, confidence=blank, margin=blank,
    entropy=jnp.array(entropy), total=length, step=0,
  )


def test_the_fit_of_single_reveals_is_their_mean():
  shown = np.eye(3, dtype=bool)[[0, 0, 1]]
  nan = np.nan
  moved = np.array([[nan, 1.0, 0.5], [nan, 3.0, nan], [0.25, nan, 0.0]])
  # Position 2 was never shown: it gets the mean of the pairs that were.
  mean = (2.0 + 0.5 + 0.25 + 0.0) / 4
  np.testing.assert_allclose(
    fit_influence(Probes(shown, moved)),
    [[0, 2.0, 0.5], [0.25, 0, 0], [mean, mean, 0]],
  )
  # By distance, all reveals of neighbors share a weight.
  alike = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
  by_distance = fit_influence(Probes(shown, moved), alike)
  near, far = (1.0 + 3.0 + 0.25 + 0.0) / 4, 0.5
  np.testing.assert_allclose(
    by_distance, [[0, near, far], [near, 0, near], [far, near, 0]]
  )


def test_the_fit_takes_groups_apart():
  """Group tests of a sparse table, as PUNT makes them, with leading axes."""
  rng = np.random.default_rng(0)
  truth = rng.random((8, 8)) * (rng.random((8, 8)) < 0.2)
  np.fill_diagonal(truth, 0)
  shown = rng.random((20, 30, 8)) < 0.4
  moved = np.where(shown, np.nan, shown @ truth)
  found = fit_influence(Probes(shown, moved))
  np.testing.assert_allclose(found, truth, atol=0.02)


def test_a_support_that_shrank_is_much_and_not_nan():
  shown = np.eye(3, dtype=bool)[[0, 0, 1]]
  moved = np.array([[np.nan, np.inf, 0], [np.nan, 0, 0], [0, np.nan, 0]])
  table = fit_influence(Probes(shown, moved))
  assert table[0, 1] == 50 and table[0, 2] == table[1, 0] == 0
  assert np.isfinite(table).all()


def test_nothing_recorded_is_a_sentence():
  with pytest.raises(ValueError, match='no probe was recorded'):
    fit_influence(Probes(np.zeros((4, 3), bool), np.full((4, 3), np.nan)))


def test_the_rule_by_hand():
  table = np.zeros((4, 4), np.float32)
  table[0, 1] = table[1, 0] = 0.5
  table[0, 2] = table[3, 2] = 0.2
  admitted = lambda kappa, entropy, **more: np.flatnonzero(
    thin(table, kappa)(jax.random.key(0), view_of(entropy, **more))
  ).tolist()
  rising = [1.0, 1.1, 1.2, 1.3]
  assert admitted(0.1, rising) == [0, 3]  # 0 moves 1 and 2
  assert admitted(0.2, rising) == [0, 2, 3]
  assert admitted(0.3, [1.0, 1.3, 1.2, 1.1]) == [0, 3]  # 0 and 3 add up at 2
  assert admitted(0.4, [1.0, 1.3, 1.2, 1.1]) == [0, 2, 3]
  assert admitted(0.1, rising, masked=[0, 1, 1, 1]) == [1, 2, 3]
  assert admitted(-1.0, rising) == [0]
  assert admitted(0.1, [0.05, 1.1, 0.05, 1.3]) == [0, 1, 2, 3]  # 0 is sure
  table[:] = 0
  table[0, 1] = table[1, 2] = 0.5
  assert admitted(0.1, rising) == [0, 2, 3]  # 1 is not taken: 2 owes it nothing


def test_explore_records_what_each_reveal_moved():
  joint = reference.random_joint(0, 4, 3)
  world = lambda p: oracles.as_denoiser(oracles.table(jnp.log(p)))
  build = lambda p, k: (world(p), explore())
  tokens = np.array([[3, 3, 3, 3], [3, 1, 3, 3]])
  run = punt_jax.compile(build, driver=film)
  out, moves = jax.device_get(run(joint, (), jax.random.key(0), tokens))
  assert out.meter.nfe.tolist() == [4, 3] == out.steps.tolist()
  compared = 0
  for row in range(2):
    canvases = [tokens[row], *moves.tokens[:, row]]
    for t in range(1, out.steps[row]):
      before, after = canvases[t - 1], canvases[t]
      shown = before != after
      np.testing.assert_array_equal(moves.info.shown[t, row], shown)
      p, q = (reference.conditionals(joint, c) for c in (before, after))
      hidden = after == 3
      kl = (p * np.log(np.maximum(p, 1e-30) / np.maximum(q, 1e-30))).sum(1)
      np.testing.assert_allclose(
        moves.info.moved[t, row], np.where(hidden, kl, np.nan), atol=1e-5
      )
      compared += hidden.sum()
    assert np.isnan(moves.info.moved[0, row]).all()
  assert compared == 3 + 2 + 1 + 2 + 1


@pytest.mark.slow
def test_a_learned_table_pays():
  """A shuffled chain: fewer passes than PUNT at no more error."""
  length, vocab, rows = 16, 4, 256
  order = jax.random.permutation(jax.random.key(3), length)
  chain = oracles.random_chain(jax.random.key(2), length, vocab, 1.5)
  world = oracles.permuted(chain, order)
  model = oracles.as_denoiser(world)
  given = np.full((rows, length), vocab)
  record = punt_jax.compile(lambda p, k: (model, explore()), driver=film)
  _, moves = record((), (), jax.random.key(0), given[:32])
  table = fit_influence(moves.info)
  # The largest entry of each row is a neighbor on the chain.
  place = np.asarray(order)
  assert (np.abs(place[table.argmax(1)] - place) == 1).all()
  run = punt_jax.compile(
    lambda p, k: (model, samplers.influence(k['table'], k['kappa']))
  )
  ours = run((), dict(table=table, kappa=0.01), jax.random.key(1), given)
  punt = punt_jax.compile(lambda p, k: (model, samplers.punt(k)))
  theirs = punt((), 0.02, jax.random.key(1), given)
  gap = lambda out: metrics.estimate(
    metrics.factorization_gap(world, out.log_q, out.tokens, given)
  )
  assert ours.meter.nfe.mean() < 0.5 * theirs.meter.nfe.mean()
  assert gap(ours).mean < gap(theirs).mean + 3 * gap(ours).stderr
