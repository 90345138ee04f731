"""The ablation end to end on a tiny world, and its reading of curves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from configs import ablation as default
from experiments.ablation import __main__ as ablation
from experiments.ablation import plot
from punt_jax import oracles, samplers
from punt_jax.cli.sweep import Point

FACTORS = {
  'sampler': {'a slow one': {'sampler': 'one_by_one'}, 'punt': {}},
  'epsilon': {'constant': {}, 'loose first': {'early': 2.0, 'late': 0.0}},
  'distribution': {
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
  return workdir, ablation.run(tiny(), workdir)


@pytest.mark.slow
def test_a_row_for_each_setting_and_the_base_only_once(finished):
  workdir, rows = finished
  told = [
    (r['sampler'], *map(r['settings'].get, ('temperature', 'epsilon', 'early')))
    for r in rows
  ]
  assert sorted(told, key=str) == sorted([
    ('punt', 1.0, -1.0, 1.0), ('punt', 1.0, 50.0, 1.0),
    ('punt', 1.0, -1.0, 2.0), ('punt', 1.0, 50.0, 2.0),
    ('punt', 0.7, -1.0, 1.0), ('punt', 0.7, 50.0, 1.0),
    ('one_by_one', 1.0, None, None), ('one_by_one', 0.7, None, None),
  ], key=str)
  # Whoever shares a compilation stands together.
  assert [row['sampler'] for row in rows] == 6 * ['punt'] + 2 * ['one_by_one']
  for row in rows:
    settings = row['settings']
    exact = settings.get('epsilon') != 50.0
    assert ('gap' in row) == (settings['temperature'] == 1)
    assert ('log_p' in row) == (settings['temperature'] == 0.7)
    assert row['steps'] == (8 if exact else 1)
    assert abs(row.get('gap', 0)) < 1e-5 or not exact
    if row['sampler'] == 'one_by_one':
      assert row['nfe'] == 8
    else:  # all tests fail, with m = 8 .. 1 masked, or all pass
      assert row['nfe'] == (8 + 3 * 4 + 2 * 2 + 1 if exact else 1 + 3)
    assert row['world']['vocab'] == 3 and row['rows'] == 16
  assert image.imread(workdir / 'ablation_permuted.png').std() > 0.05


@pytest.mark.slow
def test_the_table_compares_values_at_equal_error(finished):
  """Two points a curve, 25 and 4 passes: the crossing lies between."""
  said = (finished[0] / 'table.txt').read_text().splitlines()
  assert 'shuffled' in said[0] and 'gap 0.5' in said[1]
  found = {}
  for line in said[2:]:
    cells = re.split(r'\s{2,}', line.strip())
    found |= {cell: cells[n + 1 :] for n, cell in enumerate(cells)}
  for value in ('punt', 'constant', 'loose first'):
    passes, tv, _ = found[value]
    assert 4 < float(passes.split(' +- ')[0]) < 25 and tv.endswith(')')
  assert found['punt'] == found['constant']
  assert found['a slow one'] == ['-', '-', '-']
  assert found['raw'] == ['-'] and found['one by one'] == ['8.0']
  assert '0.02 nats per token below one_by_one' in found['distribution'][0]


def test_epsilon_goes_from_early_to_late(monkeypatch):
  schedules = []
  monkeypatch.setattr(
    samplers, 'punt', lambda epsilon, *args, **kw: schedules.append(epsilon)
  )
  ablation.punt(0.1, 0.2, 1.8, 'entropy', 'kl', 'msb', 'plain')
  ablation.punt(0.1, 1.0, 1.0, 'entropy', 'kl', 'msb', 'plain')
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

  monkeypatch.setitem(ablation.SAMPLERS, 'batched', batched)
  changes = dict(
    sampler='batched', width=2, gap=4.0, epsilon=0.1, judged=True,
    temperature=0.5,
  )
  one, = ablation.curve(tiny().base.to_dict(), changes)
  assert {'sampler': one[0], **one[1]} == changes  # no score: it has none
  judged = []
  monkeypatch.setattr(
    ablation.punt_jax, 'judge_drafts', lambda m: judged.append(m) or m
  )
  *_, name, words = ablation.program(Point('product', 8, *one))
  table = np.zeros((8, 3))
  run = ablation.compile_one(
    lambda table: oracles.as_denoiser(oracles.product(table)), name,
    dict(words),
  )
  run.lower(
    table, ablation.traced(one[1]), jax.random.key(0),
    np.arange(2, dtype=np.int32), np.full((2, 8), 3), np.zeros((2, 8), bool),
    np.ones((2, 8), bool),
  )
  assert got == dict(epsilon=True, width=False, gap=True)
  assert isinstance(judged[0].drafts.temperature, jax.core.Tracer)


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
  found = ablation.curves(default.get_config())
  firsts = {f: [line[0] for line in v.values()] for f, v in found.items()}
  # Every sampler is tried, and the base stands first where it is shown.
  assert {name for v in firsts.values() for name, _ in v} == {
    *ablation.SAMPLERS
  }
  assert not any(firsts['rounds'][0] in v[1:] for v in firsts.values())


def one(**changes):
  """A config that holds one value of one factor."""
  return {'factors': {'a factor': {'a value': changes}}}


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'worlds': ('ring',)}, "'ring': use one of chain, permuted"),
    ({'rows': 1}, 'rows = 1 must be a whole number'),
    ({'length': 1}, 'length = 1'),
    (one(sampler='punkt'), "unknown sampler 'punkt': use one of punt,"),
    (one(kappa=1.0), "setting of punt: 'kappa': use one of"),
    (one(sampler='budgeted'), 'budgeted needs a value for its setting kappa'),
    (one(first='mid'), "unknown bit order 'mid': use one of msb, lsb"),
    (one(temperature=-1.0), 'temperature = -1.0 is out of range'),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
  changes, said, tmp_path
):
  with pytest.raises(ValueError, match=said) as caught:
    ablation.run(tiny(**changes), tmp_path / 'new')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()
