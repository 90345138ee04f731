"""Full and block-causal attention, end to end on models that learn nothing."""

import numpy as np
import pytest

from configs import block_models as config_file
from experiments.block_models import __main__ as block_models
from experiments.block_models import models


def tiny(**changes):
  config = config_file.get_config()
  config.update(rows=4, draws=2, seeds=(0,), subjects=(('chain', 8, 4),))
  config.training.update(
    heldout=8, batch=4, steps=3, warmup=1, optimizer='adamw'
  )
  config.training.model.update(width=8, layers=1)
  config.samplers = dict(one_by_one=dict(score='confidence'))
  config.update(changes)
  return config


def test_each_model_is_trained_and_sampled_in_each_way():
  asked = block_models.points(tiny(seeds=(0, 7)))
  ways = [
    (p.about['kind'], p.about['block_length'], p.about['within'])
    for p in asked if p.about['training_seed'] == 7
  ]
  assert len(asked) == 2 * len(ways) and ways == [
    ('training', 0, 0), ('training', 4, 0),
    ('samples', 0, 0), ('samples', 0, 4), ('samples', 4, 4),
  ]


@pytest.mark.parametrize('changes, said', [
  (dict(subjects=(('shakespeare', 8, 4),)), "unknown subject 'shakespeare'"),
  (dict(subjects=(('chain', 8, 3),)), 'block_length = 3 does not divide the 8'),
  (dict(subjects=(('chain', 8, 0),)), 'block_length is missing'),
  (dict(samplers={'pnut': {}}), "unknown sampler 'pnut'"),
  (dict(rows=1), 'rows = 1 must be a whole number'),
  ({'training.warmup': 9}, 'warmup = 9 must be less than the 3 steps'),
  ({'text.steps': 0}, 'text.steps = 0 must be a whole number'),
])
def test_bad_input_is_one_sentence(changes, said, tmp_path):
  config = tiny()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=said):
    block_models.run(config, tmp_path / 'a')
  assert not (tmp_path / 'a').exists()


def test_sources_of_two_seeds_differ_in_their_batches_alone():
  config = tiny()
  make = lambda seed: models.of_world(
    'chain', 8, config.settings.to_dict(), 0,
    models.put(config.training, seed=seed),
  )
  one, other = make(0), make(1)
  np.testing.assert_array_equal(one.data.heldout, other.data.heldout)
  np.testing.assert_array_equal(one.data.batch(3), make(0).data.batch(3))
  assert (one.data.batch(3) != other.data.batch(3)).any()
  assert (one.data.heldout != one.exact).any()
  assert (one.others != one.exact).any()


@pytest.mark.slow
def test_end_to_end(tmp_path, monkeypatch):
  config = tiny(subjects=(('chain', 8, 4), ('text', 16, 4)))
  config.text.update(batch=4, steps=2, warmup=1)
  config.text.model.update(width=16, layers=1)
  rows = block_models.run(config, tmp_path / 'run')
  assert [(r['subject'], r['kind']) for r in rows] == [
    (name, kind) for name in ('chain', 'text')
    for kind in 2 * ['training'] + 3 * ['samples']
  ]
  for world in (rows[:5], rows[5:]):
    full, block, *written = world
    assert full['parameters'] == block['parameters']
    assert 0 < full['nelbo'] < 6 and 0 < block['nelbo'] < 6
    length = full['length']
    whole, parts, cached = written
    assert whole['nfe'] == parts['nfe'] == length == whole['positions']
    commits = length // 4 - 1
    assert cached['nfe'] == length + commits
    assert cached['positions'] == 4 * (length + commits) / length
    assert cached['same'] == 1 and cached['recomputed'] == length
    assert whole['same'] is None and whole['pair_tv'] > 0
  assert rows[2]['gap'] > 0 and 'gap' not in rows[7]
  monkeypatch.setattr(models.step_lib, 'make_update', None)
  (tmp_path / 'run' / 'results.jsonl').unlink()
  config.samplers = {}
  again = block_models.run(config, tmp_path / 'run')
  assert [r['nelbo'] for r in again] == [
    r['nelbo'] for r in rows if r['kind'] == 'training'
  ]
