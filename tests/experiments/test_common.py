"""What experiments share beside the sweep (tests/cli/test_sweep.py)."""

from types import SimpleNamespace

import numpy as np

from experiments.common import columns


def test_costs_of_one_canvas_have_no_error():
  def cost(*nfe):
    nfe = np.array(nfe)
    meter = SimpleNamespace(nfe=nfe, depth=nfe, forwards=nfe[:1])
    return columns.cost(SimpleNamespace(meter=meter, steps=nfe))

  assert cost(3)['nfe_error'] is None and cost(3, 5)['nfe_error'] == 1
  assert cost(3, 5)['nfe'] == 4 and cost(3)['forwards'] == [3]
