"""Costs of schedules end to end, on a world and on held-out text."""

import math

import pytest
from matplotlib import image

from configs import schedules as config_file
from experiments.common import subjects
from experiments.schedules import __main__ as experiment


def tiny(**changes):
  config = config_file.get_config()
  config.update(
    subject='chain', length=6, rows=24, tested=16, points=4, orders=2,
    steps=(2, 3), draws=20, at_once=8,
  )
  config.settings.update(vocab=3)
  config.update(changes)
  return config


@pytest.mark.slow
def test_the_experiment_end_to_end(tmp_path):
  rows = experiment.run(tiny(), tmp_path / 'run')
  names = [*experiment.LISTS, *experiment.DRAWN]
  assert [(r['sampler'], r['settings'].get('steps')) for r in rows] == [
    ('curve', None), *[(name, k) for k in (2, 3) for name in names]
  ]
  for row in rows[1:]:
    assert row['nfe'] == row['settings']['steps']
    gap = abs(row['measured'] - row['predicted'])
    assert gap < 5 * math.hypot(row['measured_error'], row['predicted_error'])
    drawn = row['sampler'] in experiment.DRAWN
    assert row['distribution'] == ('uniform' if drawn else None)
    if row['sampler'] == 'equal':
      assert row['over_equal'] == 0
  assert rows[1]['predicted'] > rows[9]['predicted'] > 0  # optimal, 2 and 3
  assert image.imread(tmp_path / 'run' / 'schedules.png').std() > 0.02


def test_canvases_of_a_text_come_from_its_end(tmp_path):
  path = tmp_path / 'text.txt'
  path.write_text('A' * 90 + 'abcdefghij')
  subject = subjects.of('shakespeare', 2, {}, seed=0)
  found = experiment.cut(subject, 5, 0, path, 0.1)
  read = map(subject.text.decode, found)
  assert sorted(read) == ['ab', 'cd', 'ef', 'gh', 'ij']
  with pytest.raises(ValueError, match='has 5 canvases of 2 tokens, not 6'):
    experiment.cut(subject, 6, 0, path, 0.1)
  with pytest.raises(ValueError, match='shakespeare is a world and reads no'):
    experiment.cut(subject._replace(world=()), 5, 0, path, 0.1)


@pytest.mark.parametrize(
  'changes, said',
  [
    (
      dict(distribution='poison'),
      "unknown distribution 'poison': use one of uniform, poisson",
    ),
    (dict(by='tokens'), "unknown by 'tokens': use one of token, entropy"),
    (dict(subject='ring'), "unknown subject 'ring': use one of chain"),
  ],
)
def test_the_config_is_checked_first(changes, said, tmp_path):
  config = config_file.get_config()
  config.update(changes)
  with pytest.raises(ValueError, match=said):
    experiment.run(config, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()
