"""Our networks against torch's, on the same random weights.

The golden logits need no torch; `pytest -m torch` compares with torch itself,
at more lengths and in bfloat16. tests/helpers/twins.py writes the golden files.
What no class of torch computes is compared with NumPy, see TWINS.
"""

import numpy as np
import pytest

from tests.helpers import parity, twins

NAMES = sorted(parity.SMALL)
TORCH = [name for name in NAMES if twins.TWINS[name] is not twins.plain]
EXACT = 1e-4  # of the largest logit, float32


@pytest.fixture(scope='module')
def torch():
  pytest.importorskip('transformers')
  return pytest.importorskip('torch')


@pytest.mark.parametrize('name', NAMES)
def test_golden_logits(name):
  tokens, valid, wanted = parity.read(name)
  _, run = parity.small(name)
  assert not valid.all() and np.ptp(wanted) > 1
  assert parity.error(run(tokens, valid), wanted, valid) < EXACT


def test_the_comparison_can_fail():
  wanted = np.array([[[1.0, 3.0, 2.0], [0.0, 4.0, 3.98]]])
  valid = np.array([[True, True]])
  found = wanted + np.array([0.0, 0.0, 0.03])
  assert parity.error(found, wanted, valid) == pytest.approx(0.03 / 4)
  assert parity.agreement(found, wanted, valid) == 1  # 4 and 3.98 tie
  assert parity.agreement(found, wanted - [0, 0, 0.02], valid) == 0.5
  assert parity.agreement(-wanted, wanted, valid) == 0


@pytest.mark.torch
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('length, pad', [(1, 0), (6, 0), (9, 4), (20, 13)])
def test_float32(torch, name, length, pad):
  config = parity.SMALL[name]
  plan, run = parity.small(name)
  tokens, valid = parity.canvas(plan, 5, length, pad)
  wanted = twins.TWINS[name](config, parity.arrays(plan))(tokens, valid)
  assert parity.error(run(tokens, valid), wanted, valid) < EXACT
  if valid.all():
    assert parity.error(run(tokens, None), wanted, valid) < EXACT


@pytest.mark.torch
@pytest.mark.parametrize('name', TORCH)
def test_bfloat16(torch, name):
  config = parity.wide(parity.SMALL[name], 6)
  plan, run = parity.ours(config, 'bfloat16')
  tokens, valid = parity.canvas(plan, 64, 64, 20)
  twin, arrays = twins.TWINS[name], parity.arrays(plan)
  wanted = twin(config, arrays)(tokens, valid)
  ours = parity.agreement(run(tokens, valid), wanted, valid)
  theirs = twin(config, arrays, 'bfloat16')(tokens, valid)
  assert valid.sum() > 3000
  assert len(np.unique(wanted[valid].argmax(-1))) > 5  # not one favorite
  assert ours >= 0.99
  assert ours >= parity.agreement(theirs, wanted, valid)  # as good as torch's


@pytest.mark.torch
@pytest.mark.parametrize('name', NAMES)
def test_golden_files_are_current(torch, name):
  tokens, valid, wanted = parity.read(name)
  config = parity.SMALL[name]
  plan, _ = parity.small(name)
  found = twins.TWINS[name](config, parity.arrays(plan))(tokens, valid)
  assert parity.error(found, wanted, valid) < 1e-5
