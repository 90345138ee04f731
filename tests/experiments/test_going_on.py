"""Every experiment goes on when it is asked for more, and for nothing else.

Nothing is measured here: what is checked is which rows are asked for.
"""

import importlib

import pytest

from experiments.bench import torch_forward
from punt_jax import jsonl
from punt_jax.cli import records
from punt_jax.cli.sweep import sweep


class Done(Exception):
  """Carries the rows out before anything is drawn."""


def experiment(name):
  """Its module."""
  folder, _, file = name.partition('.')
  return importlib.import_module(f'experiments.{folder}.{file or "__main__"}')


def small(name, size=()):
  """Its default config."""
  return importlib.import_module(f'configs.{name}').get_config(*size)


def world(config, **changes):
  """A config of one small exact world."""
  config.update(changes)
  return config


def ablation(config):
  config.worlds = ('chain',)
  config.factors = {'rounds': {'plain': {}}}
  return config


def audit(config):
  config.subjects, config.first = (('exact', 'chain', 8),), ('msb',)
  return config


def learned_orders(config):
  config.contenders, config.orders.pairs = ('threshold', 'pairs'), ('pairs_0',)
  return config


# Name: (its config, {free key: another value of it}, {key: another value},
# what the sentence calls the latter).
CASES = {
  'frontier': (
    lambda: world(small('frontier'), worlds=('chain',), lengths=(8,)),
    {
      'worlds': ('chain', 'hmm'), 'lengths': (8, 4), 'shares': ('steps', 'k'),
      'samplers': {'punt': {'epsilon': (0.05, 0.7)}},
      'temperatures': {'chain': (1.0, 0.5)},
    },
    {'rows': 7, 'warm_up': 3, 'settings.beta': 0.5, 'seed': 1},
  ),
  'beyond': (
    lambda: world(small('beyond'), subjects=(('chain', 8, ('punt',)),)),
    {
      'subjects': (('chain', 8, ('punt', 'halton')), ('chain', 9, ('punt',))),
      'grids': {'punt': {'epsilon': (0.005, 0.7)}},
    },
    {'rows': 7, 'warm_up.punt': 3, 'amortize': 10},
  ),
  'ablation': (
    lambda: ablation(small('ablation')),
    {
      'worlds': ('chain', 'tree'), 'length': 16, 'base': {'score': 'margin'},
      'factors': {'rounds': {'loose': {'early': 1.8, 'late': 0.2}}},
      'gaps': (0.1,), 'loss': 0.5,
    },
    {'rows': 7, 'scored': 3, 'settings.vocab': 3},
  ),
  'audit': (
    lambda: audit(small('audit')),
    {
      'subjects': (('exact', 'chain', 8), ('trained', 'chain', 8)),
      'epsilons': (0.02, 0.9), 'first': ('lsb', 'msb'),
    },
    {'rows': 7, 'training.steps': 3, 'cuts': 1},
  ),
  'block_models': (
    lambda: world(small('block_models'), subjects=(('chain', 8, 4),)),
    {
      'subjects': (('chain', 8, 4), ('chain', 8, 2)), 'seeds': (0, 2, 1),
      'samplers': {'top_k': {'k': 3}},
    },
    {'rows': 7, 'training.steps': 300, 'settings.vocab': 3},
  ),
  'schedules': (
    lambda: world(small('schedules'), subject='chain', length=8, steps=(2, 4)),
    {'subject': 'hmm', 'length': 12, 'steps': (2, 8)},
    {'rows': 7, 'distribution': 'poisson', 'draws': 9},
  ),
  'writing_order': (
    lambda: world(small('writing_order'), texts=(), down=(0.0,), up=(4.0,)),
    {
      'texts': ('shakespeare',), 'down': (0.0, 1.0), 'up': (0.5, 4.0),
      'samplers': {'halton': {'steps': 4}}, 'length': 64,
    },
    {'rows': 7, 'settings.vocab': 3},
  ),
  'learned_orders': (
    lambda: learned_orders(small('learned_orders')),
    {
      'contenders': ('threshold', 'margin'), 'seeds': (0, 7), 'columns': (2,),
      'grids': {'threshold': {'tau': (0.5, 0.55)}}, 'batch': 3,
      'orders': {'pairs': ('pairs_0', 'pairs_1')},
    },
    {'rows': 7, 'temperature': 0.5, 'task.clues': 9},
  ),
  'influence_features': (
    lambda: world(small('influence_features'), features=(('distance',),)),
    {
      'features': (('hidden',), ('distance',)), 'length': 16,
      'model': 'sudoku',
    },
    {'rows': 7, 'bins': 3},
  ),
  'antibody': (
    lambda: small('antibody'),
    {'subjects': {'loops': {'threshold': {'tau': 0.9}}}},
    {'rows': 7, 'judged': 30, 'temperature': 1.0},
  ),
  'bench': (
    lambda: small('bench'),
    {
      'samplers': {'credit': {'tau': 0.9}}, 'vocab': (8192, 16),
      'batch': (2,), 'temperature': (0.5,), 'length': 32,
    },
    {'given': 7, 'repeats': 1, 'steps': 2},
  ),
  'bench.model': (
    lambda: small('bench_model', ('cpu',)),
    {
      'samplers': {'credit': {'tau': 0.9}}, 'model_shape': 'llada_tiny',
      'dtype': 'bfloat16', 'batch': (2,), 'length': (32,), 'temperature': 0.5,
    },
    {'given': 7, 'repeats': 1, 'steps': 2},
  ),
  'bench.cache': (
    lambda: small('bench_cache'),
    {
      'samplers': {'top_k': {'k': 4}}, 'refresh': {'punt': (1.0, 2.0)},
      'model_shape': 'llada_tiny', 'dtype': 'bfloat16', 'prompt': (0, 8),
      'length': 256, 'block_length': 32, 'temperature': 0.5,
    },
    {'rows': 7, 'repeats': 2},
  ),
  'bench.torch_forward': (
    lambda: small('bench_torch_forward'),
    {'model': 'dream', 'width': 64, 'threads': 1, 'sizes': ((1, 8), (1, 256))},
    {'rounds': 1},
  ),
  'bench.moe_forward': (
    lambda: world(small('bench_moe_forward'), dtypes=('float32',)),
    {
      'shapes': ('tiny', 'small'), 'dtypes': ('float32', 'bfloat16'),
      'lengths': (1,), 'threads': 1,
    },
    {'rounds': 1},
  ),
}
POINTLESS = {'columns', 'gaps', 'loss', 'batch'}  # choose no row


def change(config, name, value):
  """The config with another value of `a.b`; dicts are merged."""
  *path, last = name.split('.')
  node = config
  for part in path:
    node = node[part]
  if isinstance(value, dict):
    node[last].update(value)
  else:
    node[last] = value
  return config


@pytest.mark.parametrize('name', CASES)
def test_more_goes_on_and_other_rows_are_refused(name, tmp_path, monkeypatch):
  base, more, other = CASES[name]
  module, asked, free = experiment(name), [], []

  def stub(experiment, workdir, config, points, measure, shown=(), free_=(),
           seconds=None, digests=()):
    free[:] = free_
    measure = lambda point: asked.append(point) or {}
    raise Done(sweep(
      experiment, workdir, config, points, measure, (), free_, seconds, digests
    ))

  monkeypatch.setattr(module, 'sweep', stub)
  monkeypatch.setattr(records, 'revision', lambda: None)
  if name == 'antibody':
    model = type('Model', (), {'length': 200})
    monkeypatch.setattr(module, 'load', lambda *_: {'both': model})
  if name in ('bench.torch_forward', 'bench.moe_forward'):
    monkeypatch.setattr(torch_forward, 'torch_version', lambda: '0')
    monkeypatch.setattr(module.os, 'sched_setaffinity', lambda *_: None)

  def run(config):
    asked.clear()
    with pytest.raises(Done) as done:
      module.run(config, tmp_path / 'run')
    return done.value.args[0]

  file = tmp_path / 'run' / 'results.jsonl'
  first = run(base())
  assert first and len(asked) == len(first)
  assert set(more) <= set(free) <= {*more, *records.FREE}
  for key, value in more.items():
    before, there = file.read_bytes(), jsonl.read(file)
    found = run(change(base(), key, value))
    assert len(asked) == sum(row not in there for row in found), key
    assert asked or key in POINTLESS, key
    assert file.read_bytes().startswith(before), key
  assert run(base()) == first and not asked
  before = {f.name: f.read_bytes() for f in (tmp_path / 'run').iterdir()}
  for key, value in other.items():
    with pytest.raises(ValueError, match=rf'different: {key}\)'):
      module.run(change(base(), key, value), tmp_path / 'run')
    assert not asked
  assert before == {
    f.name: f.read_bytes() for f in (tmp_path / 'run').iterdir()
  }
