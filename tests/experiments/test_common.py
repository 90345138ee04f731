"""What experiments share beside the sweep (tests/cli/test_sweep.py)."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.common import columns, subjects


def test_costs_of_one_canvas_have_no_error():
  def cost(*nfe):
    nfe = np.array(nfe)
    meter = SimpleNamespace(nfe=nfe, depth=nfe, forwards=nfe[:1])
    return columns.cost(SimpleNamespace(meter=meter, steps=nfe))

  assert cost(3)['nfe_error'] is None and cost(3, 5)['nfe_error'] == 1
  assert cost(3, 5)['nfe'] == 4 and cost(3)['forwards'] == [3]


def test_a_model_of_the_user_is_called_by_name_and_content(tmp_path):
  one, two = tmp_path / 'my.safetensors', tmp_path / 'b' / 'my.safetensors'
  two.parent.mkdir()
  one.write_text('weights')
  two.write_text('weights')
  name = subjects.label(str(one))
  assert name.startswith('my-') and len(name) == 11
  assert subjects.label(str(two)) == name  # wherever it lies
  subjects.label.cache_clear()
  one.write_text('other weights')
  assert subjects.label(str(one)) != name
  folder = subjects.label(str(two.parent))
  assert folder.startswith('b-') and folder[2:] != name[3:]
  assert subjects.label('chain') == 'chain'
  subjects.label.cache_clear()
  with pytest.raises(ValueError, match="'ring': use one of chain.*or the path"):
    subjects.check('ring', 8, {})


def test_pairs_of_tokens_are_compared_at_any_vocabulary():
  tokens, others = np.array([[0, 1, 0]]), np.array([[0, 1, 2**20]])
  assert subjects.pair_tv(tokens, others) == 0.5
  assert subjects.pair_tv(tokens, tokens) == 0
  assert subjects.pair_tv(np.tile(tokens, (3, 1)), tokens) == 0
