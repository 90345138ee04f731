"""The audit of PUNT against plain loops over tiny tables, and end to end."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from configs import audit as config_file
from experiments.audit import __main__ as audit
from experiments.audit import model, plot, stability
from experiments.audit import numbers as audit_numbers
from experiments.audit import subject as audit_subject
from punt_jax import oracles
from tests.helpers import reference


def subject(joint, rows, seed=0):
  """A table as audit_subject.Subject."""
  make = lambda joint: oracles.table(joint)

  def judge(joint, tokens):
    law = make(joint)
    return law.logits(tokens), law.log_prob(tokens) > -jnp.inf

  world = make(jnp.asarray(joint))
  return audit_subject.Subject(
    params=jnp.asarray(joint),
    model=lambda joint: oracles.as_denoiser(make(joint)),
    law=audit_subject.in_chunks(judge, jnp.asarray(joint), 64),
    world=world,
    empty=np.full((rows, world.length), world.vocab, np.int32),
    key=jax.random.key(seed),
  )


def audited(joint, first, limit, epsilon=None, rows=8, sets=4):
  """Film, Effects and every number of a run with this limit on a table."""
  epsilon = limit if epsilon is None else epsilon
  about = subject(joint, rows)
  film, _ = audit_subject.camera(about, first)(limit)
  found = audit_numbers.effects(film, about.law, about.world.vocab)
  numbers = audit_numbers.accepts(found, epsilon)
  numbers |= audit_numbers.deltas(found, epsilon, 2)
  numbers |= stability.stability(
    film, about.law, about.world.vocab, epsilon, np.random.default_rng(0),
    sets, 1,
  )
  return film, found, numbers


def table_of(world):
  """(V,) * L probabilities of a World."""
  cells = np.indices((world.vocab,) * world.length).reshape(world.length, -1).T
  shape = (world.vocab,) * world.length
  return np.exp(np.asarray(world.log_prob(cells))).reshape(shape)


def replay(joint, film, epsilon):
  """The definitions of audit_numbers, a row and a candidate at a time."""
  law = reference.law_of(joint)
  kl = lambda p, q: reference.divergence('kl', p, q)
  delta, hidden, pairs, rejected, still, idle, begun = ([] for _ in range(7))
  log_p = np.zeros(len(film.tokens))
  for b, (tokens, when) in enumerate(zip(film.tokens, film.when, strict=True)):
    for t in range(when.max() + 1):
      canvas = np.where(when < t, tokens, joint.shape[0])
      before = law(canvas)
      phi = reference.score('entropy', before, tokens)
      order = sorted(np.flatnonzero(when >= t), key=lambda i: (-phi[i], i))
      after = lambda shown, canvas=canvas, tokens=tokens: law(
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
  film, found, numbers = audited(joint, first, 0.02, epsilon, rows=16)
  delta, hidden, pairs, still, idle, begun, log_p = replay(
    joint, film, epsilon
  )
  wrong = delta > epsilon
  shares = {
    'joint_accept': wrong, 'delta_above': wrong, 'hidden_accept': hidden,
    'pair_accept': pairs, 'false_reject': still, 'idle_reject': idle,
  }
  for name, chosen in shares.items():
    assert numbers[name] == pytest.approx(chosen.mean()), name
  # All of them happen here, so that none of the counts is a mere zero.
  assert wrong.sum() > hidden.sum() > 0 and pairs.any()
  assert still.sum() > idle.sum() > 0
  assert numbers['rejected'] == len(still) / (len(still) + len(delta))
  assert numbers['count'] == len(delta)
  np.testing.assert_allclose(found.log_p, log_p, atol=1e-5)
  for name, q in (('q05', 0.05), ('median', 0.5), ('q95', 0.95)):
    want = np.quantile(delta, q, method='inverted_cdf')
    assert numbers[name] == pytest.approx(want, abs=1e-5)
  late = begun >= 0.5
  for name, chosen in (('early', ~late), ('late', late)):
    want = delta[chosen].mean()
    assert numbers[f'delta_{name}'] == pytest.approx(want, abs=1e-5)
  assert [part['count'] for part in numbers['bins']] == [
    (~late).sum(), late.sum()
  ]


def test_the_film_shows_what_punt_did():
  joint = reference.coupled_joint(3, 6, 3)
  film, _, _ = audited(joint, 'lsb', 0.05)
  law = reference.law_of(joint)
  compared = 0
  for b, (tokens, when) in enumerate(zip(film.tokens, film.when, strict=True)):
    for t in range(when.max() + 1):
      canvas = np.where(when < t, tokens, 3)
      step = reference.punt_step(
        law, canvas, when >= t, film.drafts[t, b], 0.05, first='lsb'
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
  _, found, numbers = audited(
    table_of(oracles.hidden_xor()), 'msb', 0.1, rows=16
  )
  # Three tokens are written after the first; the last is known by then, and
  # in half of the rows what was written is impossible.
  assert numbers['joint_accept'] == numbers['hidden_accept'] == 1 / 3
  assert numbers['delta_infinite'] == 1 / 3 and numbers['q95'] is None
  assert 0 < np.isneginf(found.log_p).sum() < 16
  assert numbers['delta_mean'] == numbers['pair_accept'] == 0
  assert numbers['rejected'] == 0 and numbers['false_reject'] is None
  # What is known stays known: it is unions that go wrong.
  assert numbers['unstable_own'] == numbers['unstable_random'] == 0
  assert numbers['union_own'] == 0 < numbers['union_random']
  _, found, numbers = audited(table_of(oracles.xor()), 'msb', 0.1)
  assert numbers['joint_accept'] == numbers['false_reject'] == 0
  assert numbers['rejected'] == 1 / 2 and np.isfinite(found.log_p).all()
  assert numbers['union_own'] == 1  # the test shows both, a part one of them


def test_independent_positions_raise_no_alarm():
  law = np.array([[0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
  joint = np.einsum('a,b,c,d->abcd', *law)
  film, _, numbers = audited(joint, 'msb', 1e-4)
  assert film.when.max() == 0
  shares = ('joint_accept', 'hidden_accept', 'pair_accept', 'rejected',
            'unstable_own', 'unstable_random', 'union_own', 'union_random')
  assert [numbers[name] for name in shares] == [0] * len(shares)
  assert numbers['q95'] < 1e-6 and numbers['count'] == 8 * 3


def test_what_a_part_moves_and_the_whole_does_not():
  # p(x2 = 1 | x0, x1); given x0 = 1 it is 0.7, given x1 = 1 it is 0.4, given
  # both 0.5, and without either 0.5.
  given = np.array([[0.3, 0.3], [0.9, 0.5]])
  joint = np.stack([1 - given, given], axis=-1) / 4
  shown = np.array([True, True, False])
  film = audit_numbers.Film(
    tokens=np.ones((1, 3), int), when=np.array([[0, 0, 1]]),
    log_q=np.zeros(1), rank=np.arange(3)[None, None],
    drafts=np.ones((1, 1, 3), int), shown=shown[None, None, None],
    tests=~shown[None, None, None],
  )
  law = subject(joint, 1).law
  # KL is 0.087 nats for 0.7 and 0.020 nats for 0.4.
  for epsilon, share in ((0.01, 1.0), (0.05, 0.5), (0.2, 0.0)):
    found = stability.stability(
      film, law, 2, epsilon, np.random.default_rng(0), 2, 3
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
  film = audit_numbers.Film(when, when, *[None] * 5)
  step, shown, tests = stability.random_sets(film, rng, 200)
  assert [set(x) for x in step.tolist()] == [{0, 1}, {0}]  # 3 masked or more
  assert (shown.sum(-1) > 1).all() and tests.any(-1).all()
  np.testing.assert_array_equal(shown ^ tests, when[:, None] >= step[..., None])


def test_a_ratio_and_its_error():
  rng = np.random.default_rng(1)
  trials = rng.integers(1, 20, size=(2000, 50))
  hits = rng.binomial(trials, 0.3)
  found = [audit_numbers.ratio('x', *row) for row in zip(
    hits, trials, strict=True
  )]
  spread = np.std([x['x'] for x in found])
  said = np.mean([x['x_error'] for x in found])
  assert said == pytest.approx(spread, rel=0.1)
  assert audit_numbers.ratio('x', [0, 0], [0, 0]) == dict(x=None, x_error=None)


def test_the_model_tells_places_apart():
  module = model.placed(3, 5, dict(width=8, layers=1, heads=2, taps=1))
  masks = np.full((1, 5), 3, np.int32)
  variables = module.init(jax.random.key(0), masks)
  kernel = variables['params']['readout']['kernel']
  noise = jax.random.normal(jax.random.key(1), kernel.shape)
  variables['params']['readout']['kernel'] = noise
  logits = np.asarray(module.apply(variables, masks))
  assert logits.shape == (1, 5, 3)
  gaps = np.abs(logits[0, :, None] - logits[0]).max(-1)
  assert gaps[~np.eye(5, dtype=bool)].min() > 1e-3


def tiny(**changes):
  config = config_file.get_config()
  config.update(rows=4, sets=2, cuts=1, chunk=64, epsilons=(0.005, 0.5))
  config.first = ('lsb',)
  config.settings.update(vocab=3)
  config.subjects = (('exact', 'chain', 5), ('trained', 'chain', 5))
  config.training.update(
    steps=12, warmup=2, batch=8, heldout=16, optimizer='adamw'
  )
  config.training.model.update(width=8, layers=1, heads=2)
  config.update(changes)
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  return workdir, audit.run(tiny(), workdir)


def test_a_row_for_each_point_and_each_trained_model(finished):
  workdir, rows = finished
  text = (workdir / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in text] == rows
  assert [(r['kind'], r['model'], r.get('epsilon')) for r in rows] == [
    ('audit', 'exact', 0.005), ('audit', 'exact', 0.5),
    ('training', 'trained', None),
    ('audit', 'trained', 0.005), ('audit', 'trained', 0.5),
  ]
  for row in (rows[0], rows[1], rows[3], rows[4]):
    parts = row['gap_sampler'] + row['gap_model']
    assert row['gap'] == pytest.approx(parts, abs=1e-5)
    total = row['delta_sum'] * row['rows']
    assert total == pytest.approx(row['delta_mean'] * row['count'])
    assert (abs(row['gap_model']) > 1e-3) == (row['model'] == 'trained')
  assert rows[2]['nfe'] == 5 and rows[2]['nelbo'] > rows[2]['entropy']
  assert image.imread(workdir / 'audit.png').std() > 0.05


def test_a_stopped_run_goes_on_with_its_model(finished, tmp_path, monkeypatch):
  workdir, rows = finished
  lines = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
  (tmp_path / 'config.json').write_text((workdir / 'config.json').read_text())
  (tmp_path / 'results.jsonl').write_text(''.join(lines[:2]) + lines[2][:30])
  weights = 'chain_5.safetensors'
  (tmp_path / weights).write_bytes((workdir / weights).read_bytes())
  monkeypatch.setattr(model.step_lib, 'make_update', None)
  again = audit.run(tiny(), tmp_path)
  without = lambda row: {k: v for k, v in row.items() if k != 'seconds'}
  assert [*map(without, again)] == [*map(without, rows)]


def test_the_picture_takes_what_is_infinite_or_missing(finished, tmp_path):
  _, rows = finished
  part = {**rows[0]['bins'][0], 'q95': None, 'median': None}
  odd = {**rows[0], 'false_reject': None, 'bins': [part]}
  plot.write(tmp_path / 'a.png', [odd, rows[2]])
  assert image.imread(tmp_path / 'a.png').std() > 0.05


def test_bad_input_is_one_sentence(tmp_path):
  for changes, said in (
    (dict(subjects=(('exakt', 'permuted', 6),)), "unknown model 'exakt'"),
    (dict(subjects=(('exact', 'pond', 6),)), "unknown world 'pond'"),
    (dict(first=('middle',)), "unknown bit order 'middle'"),
    (dict(rows=1), 'rows = 1 is out of range'),
  ):
    with pytest.raises(ValueError, match=said):
      audit.run(tiny(**changes), tmp_path / 'a')
  assert not (tmp_path / 'a').exists()
  with pytest.raises(ValueError, match='unknown size'):
    config_file.get_config('large')
  assert len(audit.points(config_file.get_config('full'))) > len(
    audit.points(config_file.get_config())
  )
