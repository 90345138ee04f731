"""The numbers of the audit against plain loops over tiny tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.audit import filming, numbers, stability
from punt_jax import oracles
from tests.helpers import reference

JUDGE = filming.exact(lambda joint: oracles.table(jnp.log(joint)))


@functools.cache
def shoot(first):
  """PUNT on tables, compiled once per shape."""
  model = lambda joint: oracles.as_denoiser(oracles.table(jnp.log(joint)))
  return filming.camera(model, first)


def audited(joint, first, limit, epsilon=None, rows=8, sets=4):
  """Film, Effects and every number of a run with this limit on a table."""
  epsilon = limit if epsilon is None else epsilon
  joint = np.asarray(joint, np.float32)
  conditionals = filming.in_chunks(JUDGE, joint, 64)
  vocab = joint.shape[0]
  empty = np.full((rows, joint.ndim), vocab, np.int32)
  film, _ = shoot(first)(joint, limit, jax.random.key(0), empty)
  found = numbers.effects(film, conditionals, vocab)
  said = numbers.accepts(found, epsilon)
  said |= numbers.deltas(found, epsilon, 2)
  said |= stability.stability(
    film, conditionals, vocab, epsilon, np.random.default_rng(0), sets, 1
  )
  return film, found, said


def table_of(world):
  """(V,) * L probabilities of a World."""
  cells = np.indices((world.vocab,) * world.length).reshape(world.length, -1).T
  shape = (world.vocab,) * world.length
  return np.exp(np.asarray(world.log_prob(cells))).reshape(shape)


def replay(joint, film, epsilon):
  """The definitions of numbers, a row and a candidate at a time."""
  dist = reference.distribution_of(joint)
  kl = lambda p, q: reference.divergence('kl', p, q)
  delta, hidden, pairs, rejected, still, idle, begun = ([] for _ in range(7))
  log_p = np.zeros(len(film.tokens))
  for b, (tokens, when) in enumerate(zip(film.tokens, film.when, strict=True)):
    for t in range(when.max() + 1):
      canvas = np.where(when < t, tokens, joint.shape[0])
      before = dist(canvas)
      phi = reference.score('entropy', before, tokens)
      order = sorted(np.flatnonzero(when >= t), key=lambda i: (-phi[i], i))
      after = lambda shown, canvas=canvas, tokens=tokens: dist(
        [tokens[i] if i in shown else x for i, x in enumerate(canvas)]
      )
      step = [i for i in order if when[i] == t]
      surer = []
      for j in order:
        moved = lambda shown, j=j, p=before, f=after: kl(p, f(shown))[j]
        if when[j] == t:
          log_p[b] += np.log(after(surer)[j, tokens[j]])
          pairs += [moved([i]) > epsilon for i in surer]
          if surer:
            begun.append((when < t).mean())
            delta.append(moved(surer))
            hidden.append(
              delta[-1] > epsilon
              and all(moved([i]) <= epsilon for i in surer)
            )
          surer.append(j)
        else:
          rejected.append(j)
          quiet = lambda shown, f=moved: f(shown) <= epsilon and all(
            f([i]) <= epsilon for i in shown
          )
          still.append(quiet(surer))
          idle.append(still[-1] and quiet(step))
  return map(np.array, (delta, hidden, pairs, still, idle, begun, log_p))


@pytest.mark.parametrize('first', ('msb', 'lsb'))
def test_every_number_is_that_of_plain_loops(first):
  joint = reference.random_joint(2, 5, 3, sharpness=0.4)
  epsilon = 0.012  # of the audit: a stricter one, so that there is enough wrong
  film, found, said = audited(joint, first, 0.02, epsilon, rows=16)
  delta, hidden, pairs, still, idle, begun, log_p = replay(
    joint, film, epsilon
  )
  wrong = delta > epsilon
  shares = {
    'joint_accept': wrong, 'delta_above': wrong, 'hidden_accept': hidden,
    'pair_accept': pairs, 'false_reject': still, 'idle_reject': idle,
  }
  for name, chosen in shares.items():
    assert said[name] == pytest.approx(chosen.mean()), name
  # All of them happen here, so that none of the counts is a mere zero.
  assert wrong.sum() > hidden.sum() > 0 and pairs.any()
  assert still.sum() > idle.sum() > 0
  assert said['rejected'] == len(still) / (len(still) + len(delta))
  assert said['count'] == len(delta)
  np.testing.assert_allclose(found.log_p, log_p, atol=1e-5)
  for name, q in (('q05', 0.05), ('median', 0.5), ('q95', 0.95)):
    want = np.quantile(delta, q, method='inverted_cdf')
    assert said[name] == pytest.approx(want, abs=1e-5)
  late = begun >= 0.5
  for name, chosen in (('early', ~late), ('late', late)):
    want = delta[chosen].mean()
    assert said[f'delta_{name}'] == pytest.approx(want, abs=1e-5)
  assert [part['count'] for part in said['bins']] == [
    (~late).sum(), late.sum()
  ]


def test_the_film_shows_what_punt_did():
  joint = reference.coupled_joint(3, 5, 2)
  film, _, _ = audited(joint, 'lsb', 0.05, rows=16)
  dist = reference.distribution_of(joint)
  compared = 0
  for b, (tokens, when) in enumerate(zip(film.tokens, film.when, strict=True)):
    for t in range(when.max() + 1):
      canvas = np.where(when < t, tokens, 2)
      step = reference.punt_step(
        dist, canvas, when >= t, film.drafts[t, b], 0.05, first='lsb'
      )
      if step.slack < 1e-4:  # float32 may decide the other way
        continue
      compared += 1
      assert film.rank[t, b][step.order].tolist() == [*range(len(step.order))]
      np.testing.assert_array_equal(step.kept, when == t)
      np.testing.assert_array_equal(film.drafts[t, b][step.kept],
                                    tokens[step.kept])
      for r, round_ in enumerate(step.rounds):
        asked = round_.asked
        np.testing.assert_array_equal(film.tests[t, b, r], round_.tests * asked)
        np.testing.assert_array_equal(
          film.shown[t, b, r], round_.anchors * asked
        )
  assert compared > 15


def test_a_hidden_xor_is_accepted_and_a_plain_one_is_not():
  _, found, said = audited(
    table_of(oracles.hidden_xor()), 'msb', 0.1, rows=16
  )
  # Three tokens are written after the first; the last is known by then, and
  # in half of the rows what was written is impossible.
  assert said['joint_accept'] == said['hidden_accept'] == 1 / 3
  assert said['delta_infinite'] == 1 / 3 and said['q95'] is None
  assert 0 < np.isneginf(found.log_p).sum() < 16
  assert said['delta_mean'] == said['pair_accept'] == 0
  assert said['rejected'] == 0 and said['false_reject'] is None
  # What is known stays known: it is unions that go wrong.
  assert said['unstable_own'] == said['unstable_random'] == 0
  assert said['union_own'] == 0 < said['union_random']
  _, found, said = audited(table_of(oracles.xor()), 'msb', 0.1)
  assert said['joint_accept'] == said['false_reject'] == 0
  assert said['rejected'] == 1 / 2 and np.isfinite(found.log_p).all()
  assert said['union_own'] == 1  # the test shows both, a part one of them


def test_independent_positions_raise_no_alarm():
  dist = np.array([[0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
  joint = np.einsum('a,b,c,d->abcd', *dist)
  film, _, said = audited(joint, 'msb', 1e-4, rows=16)
  assert film.when.max() == 0
  shares = ('joint_accept', 'hidden_accept', 'pair_accept', 'rejected',
            'unstable_own', 'unstable_random', 'union_own', 'union_random')
  assert [said[name] for name in shares] == [0] * len(shares)
  assert said['q95'] < 1e-6 and said['count'] == 16 * 3


def test_what_a_part_moves_and_the_whole_does_not():
  # p(x2 = 1 | x0, x1); given x0 = 1 it is 0.7, given x1 = 1 it is 0.4, given
  # both 0.5, and without either 0.5.
  given = np.array([[0.3, 0.3], [0.9, 0.5]])
  joint = np.stack([1 - given, given], axis=-1) / 4
  shown = np.array([True, True, False])
  film = numbers.Film(
    tokens=np.ones((1, 3), int), when=np.array([[0, 0, 1]]),
    log_q=np.zeros(1), rank=np.arange(3)[None, None],
    drafts=np.ones((1, 1, 3), int), shown=shown[None, None, None],
    tests=~shown[None, None, None],
  )
  conditionals = filming.in_chunks(JUDGE, joint, 64)
  # KL is 0.087 nats for 0.7 and 0.020 nats for 0.4.
  for epsilon, share in ((0.01, 1.0), (0.05, 0.5), (0.2, 0.0)):
    found = stability.stability(
      film, conditionals, 2, epsilon, np.random.default_rng(0), 2, 3
    )
    assert found['unstable_own'] == share
    assert found['unstable_own_count'] == 2 * 3 * 2
    # If neither part moves it, nor does the whole.
    assert found['union_own'] == (None if share else 0)


def test_random_parts():
  rng = np.random.default_rng(0)
  sets = np.arange(9) < np.array([[2], [5], [9]])
  parts = np.stack([stability.random_part(rng, sets) for _ in range(900)])
  assert not (parts & ~sets).any()
  for n, size in enumerate((2, 5, 9)):
    counts = np.bincount(parts[:, n].sum(-1), minlength=size + 1)
    assert counts[0] == 0 and counts[size:].sum() == 0
    assert size == 2 or reference.fits(counts[1:size], np.ones(size - 1))
    assert reference.fits(parts[:, n].sum(0)[:size], np.ones(size))
  pairs = stability.random_part(rng, np.ones((500, 4), bool), 2)
  assert set(pairs.sum(-1)) == {2, 3}
  when = np.array([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 1, 1]])
  film = numbers.Film(when, when, *[None] * 5)
  step, shown, tests = stability.random_sets(film, rng, 200)
  assert [set(x) for x in step.tolist()] == [{0, 1}, {0}]  # 3 masked or more
  assert (shown.sum(-1) > 1).all() and tests.any(-1).all()
  np.testing.assert_array_equal(shown ^ tests, when[:, None] >= step[..., None])


def test_a_ratio_and_its_error():
  rng = np.random.default_rng(1)
  trials = rng.integers(1, 20, size=(2000, 50))
  hits = rng.binomial(trials, 0.3)
  found = [numbers.ratio('x', *row) for row in zip(
    hits, trials, strict=True
  )]
  spread = np.std([x['x'] for x in found])
  said = np.mean([x['x_error'] for x in found])
  assert said == pytest.approx(spread, rel=0.1)
  assert numbers.ratio('x', [0, 0], [0, 0]) == dict(x=None, x_error=None)
