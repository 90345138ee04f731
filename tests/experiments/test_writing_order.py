"""The writing order: moments and tau by hand, and the experiment end to end."""

import itertools

import numpy as np
import pytest
from matplotlib import image

from configs import writing_order as config_file
from experiments.writing_order import __main__ as order


def tiny(**changes):
  config = config_file.get_config()
  config.update(length=8, rows=4, text_rows=2, down=(1.0,), up=(3.0,))
  config.settings.update(vocab=3, paragraphs=1, details=2)
  config.samplers = dict(
    one_by_one=dict(score='left_to_right'), uniform=dict(k=8)
  )
  config.update(changes)
  return config


def test_both_couplings_are_swept_and_then_text_comes():
  found = order.worlds(tiny(down=(1.0, 2.0), up=(0.0, 3.0)))
  assert [world and (world['down'], world['up']) for _, world in found] == [
    (1, 0), (1, 3), (2, 0), (2, 3), None
  ]
  assert found[0][1]['vocab'] == 3 and found[-1][0] == 'shakespeare'


def test_moments_by_hand():
  when = np.array([[0, 0, 1, 2, 2], [3, 1, 2, 0, 4]])
  np.testing.assert_allclose(
    order.moments(when) * 4, [[0.5, 0.5, 2, 3.5, 3.5], [3, 1, 2, 0, 4]]
  )


def test_tau_by_plain_loops():
  when = np.random.default_rng(0).integers(4, size=(5, 7))
  when[0] = range(7)
  when[1] = range(7)[::-1]
  when[2] = 0
  for row, found in zip(when, order.tau(when), strict=True):
    score, untied = 0, 0
    for i, j in itertools.combinations(range(7), 2):
      score += int(row[j] > row[i]) - int(row[j] < row[i])
      untied += row[i] != row[j]
    expected = score / np.sqrt(untied * 21) if untied else 0
    assert found == pytest.approx(expected)


def test_kinds_of_characters():
  assert [order.TEXT[order.kind_of(c)] for c in '\n ,aB3'] == [
    'line break', 'space', 'punctuation', 'letter', 'capital', 'punctuation'
  ]


def test_means_by_kind_and_heat_by_hand():
  moment = np.array([[0.0, 0.5, 1.0], [0.5, 0.0, 1.0]])
  kinds = np.array([[0, 0, 1], [0, 1, 1]])
  found = order.by_kind(moment, kinds, ('a', 'b', 'c'))
  assert found['a'][0] == pytest.approx((0.25 + 0.5) / 2)
  assert found['b'] == [pytest.approx(0.75), pytest.approx(0.25), 0.5]
  assert 'c' not in found
  heat = order.heat(moment)
  assert heat[0, 0] == heat[0, 8] == 0.5 and heat[2, 15] == 1


@pytest.mark.slow
def test_end_to_end(tmp_path):
  rows = order.run(tiny(), tmp_path / 'run')
  assert [(r['subject'], r['sampler']) for r in rows] == [
    (name, sampler) for name in ('documents', 'shakespeare')
    for sampler in ('one_by_one', 'uniform')
  ]
  assert [r['world'] and r['world']['up'] for r in rows[::2]] == [3, None]
  for row in rows:
    left_to_right = row['sampler'] == 'one_by_one'
    assert row['tau'] == left_to_right
    assert row['nfe'] == (8 if left_to_right else 1)
  # H T X X H T X X, one after the other: of 7 tokens before the last.
  kinds = rows[0]['kinds']
  assert kinds['heading'] == [pytest.approx(2 / 7), 0, 0.25]
  assert kinds['structure'][0] == pytest.approx(3 / 7)
  assert kinds['detail'][0] == pytest.approx(4.5 / 7)
  assert rows[1]['kinds']['detail'][0] == 0.5
  for name in ('kinds.png', 'order.png'):
    assert image.imread(tmp_path / 'run' / name).std() > 0.02
