"""Every number of every experiment's config is checked before a folder is made.

Each is made wrong in turn. Nothing is measured.
"""

import functools
import importlib
import math

import ml_collections
import pytest

from experiments.bench import torch_forward
from punt_jax.cli import records

CONFIGS = {  # experiment: its config's arguments
  'frontier': (), 'beyond': (), 'ablation': (), 'audit': (), 'schedules': (),
  'writing_order': (), 'learned_orders': (), 'learned_orders:text': ('text',),
  'influence_features': (), 'antibody': ('antiberty',), 'bench': (),
  'bench.model': ('cpu',), 'bench.cache': (), 'bench.torch_forward': (),
  'bench.moe_forward': (),
}
WRONG = -7, math.nan, '3'
# These may be -7.
ANY = {'up', 'down', 'epsilons', 'beta', 'bias', 'epsilon', 'kappa'}


class Done(Exception):
  """Raised where rows would be measured."""


def numbers(config, above=()):
  """The paths of a config's numbers, and of tuples of them."""
  for key in config:
    value = config[key]
    if isinstance(value, ml_collections.ConfigDict):
      yield from numbers(value, (*above, key))
    elif isinstance(value, tuple) and not value:
      continue
    elif all(
      isinstance(x, (int, float)) and not isinstance(x, bool)
      for x in (value if isinstance(value, tuple) else (value,))
    ):
      yield (*above, key)


def set_at(config, path, wrong):
  """Changes a value, whatever its type -> whether a config can hold it."""
  *above, last = path
  node = functools.reduce(lambda node, key: node[key], above, config)
  several = isinstance(node[last], tuple)
  try:
    with config.unlocked(), config.ignore_type():
      node[last] = (wrong,) if several else wrong
  except OverflowError:  # it makes floats of whole numbers
    return False
  return True


@pytest.mark.parametrize('name', CONFIGS)
def test_a_wrong_number_is_named(name, tmp_path, monkeypatch):
  base, arguments = name.partition(':')[0], CONFIGS[name]
  folder, _, file = base.partition('.')
  module = importlib.import_module(f'experiments.{folder}.{file or "__main__"}')
  monkeypatch.setattr(records, 'revision', lambda: None)

  def resume(*_, **__):
    raise Done

  monkeypatch.setattr(records, 'resume', resume)
  if base == 'antibody':
    model = type('Model', (), {'length': 200})
    monkeypatch.setattr(module, 'load', lambda *_: {'both': model})
  if base in ('bench.torch_forward', 'bench.moe_forward'):
    monkeypatch.setattr(torch_forward, 'torch_version', lambda: '0')
    monkeypatch.setattr(module.os, 'sched_setaffinity', lambda *_: None)
  made = importlib.import_module(f'configs.{base.replace(".", "_")}')

  def config_of():
    config = made.get_config(*arguments)
    for key in ('worlds', 'subjects'):  # the first is enough
      if isinstance(config.get(key), tuple):
        config[key] = config[key][:1]
    return config

  run = lambda config: module.run(config, tmp_path / 'run')
  with pytest.raises(Done):
    run(config_of())
  passed = []
  for path in numbers(config_of()):
    for wrong in WRONG:
      config = config_of()
      if not set_at(config, path, wrong):
        continue
      try:
        run(config)
      except ValueError as error:
        assert len(str(error)) < 500 and '\n' not in str(error), (path, wrong)
      except Done:
        passed.append((path[-1], type(wrong)))
  assert {x for x in passed if x[0] not in ANY or x[1] is not int} == set()
  assert not (tmp_path / 'run').exists()
