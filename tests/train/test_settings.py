"""Every number of a training config is checked, and named."""

import runpy

import pytest

from configs import orders, table_world
from train import data, loop, settings
from train.orders import __main__ as orders_command
from train.orders import tasks

NAN, INF = float('nan'), float('inf')


def changed(config, name, value):
  """`config` with another value, of any type, at a dotted name."""
  plain = config.to_dict()
  *path, last = name.split('.')
  inside = plain
  for part in path:
    inside = inside[part]
  inside[last] = value
  return type(config)(plain)


def words(limit):
  """Values outside (low, high) or of another type."""
  low, *high = limit
  found = [low - 1, NAN, INF, -INF, 'three', True, None, (1, 2)]
  found += [high[0] + 1] if high else []
  found += [1.5, 2**31 if not high else low - 2] if isinstance(low, int) else []
  return found


@pytest.mark.parametrize(
  'name', ['table_world', 'pydoc', 'shakespeare', 'sudoku']
)
def test_configs_of_denoisers_pass_and_no_others(name):
  config = runpy.run_path(f'configs/{name}.py')['get_config']()
  settings.denoiser(config, 1)
  kind = {'table_world': settings.WORLD, 'sudoku': settings.PUZZLE}
  for key, limit in (settings.DENOISER | kind.get(name, settings.TEXT)).items():
    for value in words(limit):
      other = changed(config, key, value)
      with pytest.raises(ValueError, match=rf'^{key} ?(=|is)') as caught:
        settings.denoiser(other, 1)
      assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', orders.NAMES)
def test_configs_of_orders_pass_and_no_others(name):
  config = orders.get_config(name)
  settings.order(config)
  task = settings.SUDOKU if 'clues' in config.task else settings.WRITTEN
  limits = settings.ORDER | settings.METHODS[config.method] | task
  for key, limit in limits.items():
    for value in words(limit):
      with pytest.raises(ValueError, match=rf'^{key} ?(=|is)'):
        settings.order(changed(config, key, value))


@pytest.mark.parametrize('key, value, said', [
  ('model.width', 30, 'width = 30 must be an even multiple of model.heads'),
  ('model.heads', 32, 'width = 32 must be an even multiple of model.heads'),
  ('model.taps', 4, 'model.taps = 4 must be odd'),
  ('model.places', 3, 'model.places = 3 must be 0, or at least the 4'),
  ('model.width', 2**30, 'model.width .* at most 65536'),  # XLA aborts
  ('model.layers', 10**6, 'model.layers .* at most 1024'),
  ('model.hedas', 2, "unknown value of model 'hedas': use one of width"),
  ('warmup', 600, 'warmup = 600 must be less than the 600 steps'),
  ('steps', 2, 'warmup = 20 must be less than the 2 steps .*--config.warmup=0'),
  ('decay', 20, 'warmup = 20 must be less than the 20 steps'),
  ('model.attention', 'causal', "unknown model.attention 'causal': use one of"),
  ('model.attention', 'block_causal', 'block_length is missing: it must div'),
  ('model.block_length', 2, 'block_length = 2 is for block_causal attention'),
  ('save_every', 30, 'must be a multiple of log_every'),
  ('data.length', 40, 'is too big to be exact'),
  ('data.vocab', 2**20, 'is too big to be exact'),
  ('data.heldout', 2**30, 'is too big to be exact'),
])
def test_what_two_numbers_are_to_each_other(key, value, said, tmp_path):
  config = changed(table_world.get_config(), key, value)
  with pytest.raises(ValueError, match=said):
    loop.prepare(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('values, said', [
  (dict(block_length=3), 'block_length = 3 does not divide the 4 positions'),
  (dict(block_length=2, places=5), 'places = 5 must be a multiple of model.'),
  (dict(block_length=2, places=4), None),
])
def test_blocks_divide_the_canvas(values, said):
  config = table_world.get_config()
  config.model.update(attention='block_causal', **values)
  if said is None:
    settings.denoiser(config, 1)
    return
  with pytest.raises(ValueError, match=said):
    settings.denoiser(config, 1)


def test_parity_needs_checks_of_its_own():
  config = changed(table_world.get_config(), 'data.world', 'parity')
  for checks in ((), ((0, 4),), ((0, -1),), ((0.5, 1),), (0, 1), 3, 'ab'):
    with pytest.raises(ValueError, match='data.checks'):
      settings.denoiser(changed(config, 'data.checks', checks), 1)
  data.load(config)


def test_what_is_missing_is_named():
  for key in ('clip', 'ema', 'final_share'):
    plain = table_world.get_config().to_dict()
    del plain[key]
    with pytest.raises(ValueError, match=f'{key} is missing'):
      settings.denoiser(type(table_world.get_config())(plain), 1)


@pytest.mark.parametrize('name, key, value, said', [
  ('variational', 'module.heads', 5, 'module.width = 32 must be an even mult'),
  ('reinforce', 'warmup', 80, 'warmup = 80 must be less than the 80 steps'),
  ('variational', 'budgets', (4, 0), 'budget = 0 must be a whole number'),
  ('variational', 'module.sees', 'all', "unknown sees 'all'"),
  ('pairs', 'probes', 'none', "unknown probes 'none'"),
  ('reinforce', 'normalize', 'no', 'normalize'),
])
def test_orders_are_checked_before_a_model_is_loaded(
  name, key, value, said, tmp_path, monkeypatch
):
  monkeypatch.setattr(tasks, 'load', lambda *_: pytest.fail('it was loaded'))
  config = changed(orders.get_config(name), key, value)
  with pytest.raises(ValueError, match=said):
    orders_command.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_rows_that_are_lost_are_missed(tmp_path):
  config = table_world.get_config()
  (tmp_path / 'config.json').write_text(config.to_json())
  (tmp_path / 'checkpoints/110').mkdir(parents=True)
  rows = tmp_path / 'metrics.jsonl'
  for text in ('', '{"step": 80}\n'):
    rows.write_text(text)
    with pytest.raises(ValueError, match='has no row of step 100'):
      loop.go_on(config, tmp_path)
  rows.write_text('{"step": 100}\n')
  loop.go_on(config, tmp_path)
