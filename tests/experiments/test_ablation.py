"""The ablation end to end on a tiny world, and its reading of curves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from configs import ablation as default
from experiments.ablation import __main__ as ablate_punt
from experiments.ablation import plot
from punt_jax import samplers

FACTORS = {
  'sampler': {'a slow one': {'sampler': 'one_by_one'}, 'punt': {}},
  'epsilon': {'constant': {}, 'loose first': {'early': 2.0, 'late': 0.0}},
  'law': {
    'raw': {'temperature': 0.7},
    'one by one': {'temperature': 0.7, 'sampler': 'one_by_one'},
  },
}


def tiny(**changes):
  config = default.get_config()
  config.update(worlds=('permuted',), rows=16, length=8, scored=8, gaps=(0.5,))
  config.settings.vocab = 3
  config.base.epsilon = (-1.0, 50.0)
  for name, value in {'factors': FACTORS, **changes}.items():
    del config[name]  # not merged with what is there
    config[name] = value
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, rows) of a finished run."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  return workdir, ablate_punt.run(tiny(), workdir)


def lines(workdir):
  return (workdir / 'results.jsonl').read_text().splitlines()


def test_a_row_for_each_setting_and_the_base_only_once(finished):
  workdir, rows = finished
  assert [json.loads(line) for line in lines(workdir)] == rows
  told = [
    (s['sampler'], s['temperature'], s.get('epsilon'), s.get('early'))
    for s in (row['settings'] for row in rows)
  ]
  assert sorted(told, key=str) == sorted([
    ('punt', 1.0, -1.0, 1.0), ('punt', 1.0, 50.0, 1.0),
    ('punt', 1.0, -1.0, 2.0), ('punt', 1.0, 50.0, 2.0),
    ('punt', 0.7, -1.0, 1.0), ('punt', 0.7, 50.0, 1.0),
    ('one_by_one', 1.0, None, None), ('one_by_one', 0.7, None, None),
  ], key=str)
  # Whoever shares a compilation stands together: two programs.
  assert [row['compiled'] for row in rows].count(True) == 2
  for row in rows:
    settings = row['settings']
    exact = settings.get('epsilon') != 50.0
    assert ('gap' in row) == (settings['temperature'] == 1)
    assert ('log_p' in row) == (settings['temperature'] == 0.7)
    assert row['steps'] == (8 if exact else 1)
    assert abs(row.get('gap', 0)) < 1e-5 or not exact
    if settings['sampler'] == 'one_by_one':
      assert row['nfe'] == 8
    else:  # all tests fail, with m = 8 .. 1 masked, or all pass
      assert row['nfe'] == (8 + 3 * 4 + 2 * 2 + 1 if exact else 1 + 3)
    assert row['law']['vocab'] == 3 and row['rows'] == 16
  assert image.imread(workdir / 'ablate_permuted.png').std() > 0.05


def test_the_table_compares_values_at_equal_error(finished):
  """Two points a curve, 25 and 4 passes: the crossing lies between."""
  workdir, rows = finished
  said = (workdir / 'table.txt').read_text().splitlines()
  assert 'shuffled' in said[0] and 'gap 0.5' in said[1]
  found = {line[:36].strip(): line[36:].split() for line in said[2:]}
  for value in ('punt', 'constant', 'loose first'):
    assert 4 < float(found[value][0]) < 25
    assert found[value][1] == '+-' and found[value][4].startswith('(')
  assert found['punt'] == found['constant']
  assert found['a slow one'] == ['-', '-', '-']
  assert found['one by one'] == []
  law = next(line for line in said if line.startswith('law'))
  assert '0.02 nats per token below one_by_one, 8 passes' in law


def test_a_stopped_run_goes_on(finished, tmp_path, monkeypatch):
  workdir, rows = finished
  config = (workdir / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(config)
  kept = '\n'.join(lines(workdir)[:-1]) + '\n'
  (tmp_path / 'results.jsonl').write_text(kept + lines(workdir)[-1][:40])
  compiled = []
  compile_one = ablate_punt.compile_one
  monkeypatch.setattr(
    ablate_punt, 'compile_one',
    lambda *args: compiled.append(args) or compile_one(*args),
  )
  again = ablate_punt.run(tiny(), tmp_path)
  timeless = lambda row: {
    k: v for k, v in row.items() if k not in ('seconds', 'compiled')
  }
  assert [*map(timeless, again)] == [*map(timeless, rows)]
  ablate_punt.run(tiny(), tmp_path)
  assert len(compiled) == 1  # what was finished was not compiled again
  with pytest.raises(ValueError, match='another config .different: rows'):
    ablate_punt.run(tiny(rows=17), tmp_path)


def test_epsilon_goes_from_early_to_late(monkeypatch):
  schedules = []
  monkeypatch.setattr(
    samplers, 'punt', lambda epsilon, *args, **kw: schedules.append(epsilon)
  )
  ablate_punt.punt(0.1, 0.2, 1.8, 'entropy', 'kl', 'msb', 'plain')
  ablate_punt.punt(0.1, 1.0, 1.0, 'entropy', 'kl', 'msb', 'plain')
  masked = jnp.array([1.0, 0.5, 0.0])
  np.testing.assert_allclose(schedules[0](masked), [0.02, 0.1, 0.18], rtol=1e-5)
  np.testing.assert_array_equal(schedules[1](masked), jnp.full(3, 0.1))


def test_settings_reach_the_sampler_and_the_model(monkeypatch):
  """Numbers with a point are traced, all others are fixed."""
  got = {}

  def batched(epsilon, width, gap=1):
    traced = lambda x: isinstance(x, jax.core.Tracer)
    got.update(epsilon=traced(epsilon), width=traced(width), gap=traced(gap))
    return samplers.punt(epsilon)

  monkeypatch.setitem(ablate_punt.SAMPLERS, 'batched', batched)
  config = tiny()
  base = config.base.to_dict()
  changes = dict(
    sampler='batched', width=2, gap=4.0, epsilon=0.1, judged=True,
    temperature=0.5,
  )
  settings = ablate_punt.curve(base, changes)
  assert set(settings) == {*changes}  # no score, no first: it has none
  judged = []
  monkeypatch.setattr(
    ablate_punt.punt_jax, 'judge_drafts', lambda m: judged.append(m) or m
  )
  run = ablate_punt.compile_one(config, 'chain', settings)
  law = config.settings.to_dict()
  params = ablate_punt.worlds.draw('chain', jax.random.key(0), 8, law)
  knobs = ablate_punt.knobs_of(settings)
  run.lower(
    params, knobs, jax.random.key(0), np.arange(2, dtype=np.int32),
    np.full((2, 8), 3), np.zeros((2, 8), bool), np.ones((2, 8), bool),
  )
  assert got == dict(epsilon=True, width=False, gap=True)
  assert isinstance(judged[0].law.temperature, jax.core.Tracer)


def curve_of(*points):
  """Rows by NFE, and (gap, its standard error) of each."""
  rows = [dict(nfe=nfe) for nfe, _, _ in points]
  return rows, [(gap, error) for _, gap, error in points]


def test_a_crossing_is_linear_in_the_logarithm_of_the_error():
  rows, error = curve_of((10, 0.8, 0.0), (20, 0.2, 0.02), (30, 0.0125, 0.01))
  assert plot.crossing(rows, error, 0.4) == pytest.approx(
    (15, 10 / np.log(4) * 0.5 * 0.1)
  )
  nfe, spread = plot.crossing(rows, error, 0.05)
  assert nfe == pytest.approx(25)
  assert spread == pytest.approx(10 / np.log(16) * np.hypot(0.05, 0.4))
  assert plot.crossing(rows, error, 0.8)[0] == 10
  assert plot.crossing(rows, error, 1.0) is None
  assert plot.crossing(rows, error, 0.01) is None
  assert plot.crossing(rows[:1], error[:1], 0.8) is None


def test_noise_does_not_make_a_crossing():
  """A negative gap counts as its standard error, a rising one not at all."""
  rows, error = curve_of(
    (10, 0.64, 0.0), (20, -0.02, 0.04), (30, 0.2, 0.04), (40, 0.01, 0.04)
  )
  assert plot.crossing(rows, error, 0.16)[0] == pytest.approx(15)
  assert plot.crossing(rows, error, 0.03) is None


def test_the_default_config_is_sound():
  config = default.get_config()
  found = ablate_punt.curves(config)
  names = {s[0]['sampler'] for v in found.values() for s in v.values()}
  assert names == set(ablate_punt.SAMPLERS)  # every one of them is tried
  for values in found.values():  # the base stands first, where it is shown
    same = [
      s[0] == next(iter(found['rounds'].values()))[0] for s in values.values()
    ]
    assert not any(same[1:])


def one(**changes):
  """A config that holds one value of one factor."""
  return {'factors': {'a factor': {'a value': changes}}}


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'worlds': ('ring',)}, "'ring': use one of chain, permuted"),
    ({'rows': 1}, 'rows = 1 is out of range'),
    (one(sampler='punkt'), "unknown sampler 'punkt': use one of punt,"),
    (one(kappa=1.0), "knob of punt: 'kappa': use one of"),
    (one(sampler='budgeted'), 'budgeted needs a value for its knob kappa'),
    (one(first='mid'), "unknown bit order 'mid': use one of msb, lsb"),
    (one(temperature=-1.0), 'temperature = -1.0 is out of range'),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
  changes, said, tmp_path
):
  with pytest.raises(ValueError, match=said) as caught:
    ablate_punt.run(tiny(**changes), tmp_path / 'new')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()
