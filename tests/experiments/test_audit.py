"""The audit end to end on a tiny world and a tiny transformer."""

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import audit as configs
from experiments.audit import __main__ as audit
from experiments.audit import filming, plot, trained


def test_the_model_tells_places_apart():
  module = trained.placed(3, 5, dict(width=8, layers=1, heads=2, taps=1))
  masks = np.full((1, 5), 3, np.int32)
  variables = jax.jit(module.init)(jax.random.key(0), masks)
  kernel = variables['params']['readout']['kernel']
  noise = jax.random.normal(jax.random.key(1), kernel.shape)
  variables['params']['readout']['kernel'] = noise
  logits = np.asarray(jax.jit(module.apply)(variables, masks))
  assert logits.shape == (1, 5, 3)
  gaps = np.abs(logits[0, :, None] - logits[0]).max(-1)
  assert gaps[~np.eye(5, dtype=bool)].min() > 1e-3


def tiny(**changes):
  config = configs.get_config()
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


@pytest.mark.slow
def test_a_row_for_each_point_and_each_trained_model(finished):
  workdir, rows = finished
  assert [
    (r['kind'], r['model'], r['sampler'], r['settings'].get('epsilon'))
    for r in rows
  ] == [
    ('audit', 'exact', 'punt', 0.005), ('audit', 'exact', 'punt', 0.5),
    ('training', 'trained', 'one_by_one', None),
    ('audit', 'trained', 'punt', 0.005), ('audit', 'trained', 'punt', 0.5),
  ]
  for row in (rows[0], rows[1], rows[3], rows[4]):
    parts = row['gap_sampler'] + row['gap_model']
    assert row['gap'] == pytest.approx(parts, abs=1e-5)
    total = row['delta_sum'] * row['rows']
    assert total == pytest.approx(row['delta_mean'] * row['count'])
    assert (abs(row['gap_model']) > 1e-3) == (row['model'] == 'trained')
  assert rows[2]['nfe'] == 5 and rows[2]['nelbo'] > rows[2]['entropy']
  assert image.imread(workdir / 'audit.png').std() > 0.05


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_model(finished, monkeypatch):
  workdir, rows = finished
  monkeypatch.setattr(trained.step_lib, 'make_update', None)
  config = tiny()
  again = filming.prepare(
    'chain', 5, config.settings.to_dict(), config.seed, config.chunk,
    config.training, workdir / 'chain_5.safetensors',
  )
  assert again.facts.items() <= rows[2].items()


@pytest.mark.slow
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
    (dict(rows=1), 'rows = 1 must be a whole number'),
  ):
    with pytest.raises(ValueError, match=said):
      audit.run(tiny(**changes), tmp_path / 'a')
  assert not (tmp_path / 'a').exists()
  with pytest.raises(ValueError, match='unknown size'):
    configs.get_config('large')
  assert len(audit.points(configs.get_config('full'))) > len(
    audit.points(configs.get_config())
  )
