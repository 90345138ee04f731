"""train.orders from a config to a file that samplers use, with exact resume."""

import json

import jax
import numpy as np
import pytest

import punt_jax
from configs import orders as configs
from punt_jax import checkpoints, samplers
from punt_jax.checkpoints import order_files
from punt_jax.checkpoints.pretrained import ASSETS
from train.orders import __main__ as orders
from train.orders import method, tasks


def tiny(name):
  config = configs.get_config(name)
  config.update(steps=6, log_every=1, eval_every=3, save_every=3, batch=2)
  config.update(tests=4, samples=2, warmup=2)
  config.module.update(width=8, heads=2)
  if name == 'variational':
    config.budgets = (2,)
  return config


def interrupted(make, last):
  """A method that is killed when it has done `last` updates."""

  def other(config, task):
    way = make(config, task)

    def advance(state, step):
      if step == last:
        raise KeyboardInterrupt
      return way.advance(state, step)

    return way._replace(advance=advance)

  return other


@pytest.mark.slow
@pytest.mark.parametrize('name', ['reinforce'])  # the other: test_kills.py
def test_kill_and_resume_is_exact(name, tmp_path, monkeypatch):
  config = tiny(name)
  card = orders.train(config, tmp_path / 'whole')
  with monkeypatch.context() as patch:
    patch.setitem(
      orders.METHODS, name, interrupted(orders.METHODS[name], last=4)
    )
    with pytest.raises(KeyboardInterrupt):
      orders.train(config, tmp_path / 'cut')
  assert not (tmp_path / 'cut' / 'order.safetensors').exists()
  again = orders.train(config, tmp_path / 'cut')
  runs = tmp_path / 'whole', tmp_path / 'cut'
  whole, cut = ((run / 'metrics.jsonl').read_text() for run in runs)
  assert whole == cut
  whole, cut = (order_files.load(run / 'order.safetensors') for run in runs)
  jax.tree.map(np.testing.assert_array_equal, whole.params, cut.params)
  assert again == card and card['step'] == 6
  with pytest.raises(ValueError, match='holds a run with another denoiser'):
    monkeypatch.setattr(checkpoints, 'digest', lambda _: 'of others')
    orders.train(config, tmp_path / 'cut')
  rows = (runs[0] / 'metrics.jsonl').read_text().splitlines()
  assert len(rows) == 8  # six updates, two tests
  assert all(np.isfinite(v) for row in rows for v in json.loads(row).values())

  task = tasks.load(config, 0)
  build = lambda params, hyperparams: (
    task.loaded.denoiser(params['model']),
    samplers.learned(whole.apply(params['order']), **hyperparams),
  )
  params = {'model': task.loaded.params, 'order': whole.params}
  tokens, given = task.test(8)
  canvas = np.where(given, tokens, 6)
  run = punt_jax.compile(build)
  out = run(params, dict(budget=3.0), jax.random.key(0), canvas)
  assert out.done.all() and out.steps.max() <= 3
  assert (np.asarray(out.tokens)[given] == tokens[given]).all()


def advanced(config, steps):
  """The method's metrics of each update."""
  task = tasks.load(config, 0)
  way = orders.METHODS[config.method](config, task)
  state, found = method.start(config, way.init), []
  for step in range(steps):
    state, values = way.advance(state, step)
    found.append({k: float(v) for k, v in values.items()})
  return found


@pytest.mark.slow
def test_the_bound_rises():
  config = tiny('variational')  # at first it writes nearly all at once
  config.module.update(start=2.0, slope=0.0, temperature=1.0)
  config.update(batch=8, samples=4, steps=40, budgets=(8,), rate=0.05)
  bound = [values['bound'] for values in advanced(config, 40)]
  assert np.mean(bound[-5:]) > np.mean(bound[:5]) + 5


@pytest.mark.slow
def test_the_reward_rises():
  config = tiny('reinforce')  # never right at first, so fewer steps are better
  config.module.update(start=-1.0, slope=0.0, temperature=1.0)
  config.update(batch=8, samples=4, steps=20, rate=0.05, step_cost=0.1)
  found = advanced(config, 20)
  steps = [values['steps'] for values in found]
  reward = [values['reward'] for values in found]
  assert np.mean(steps[-3:]) < 0.5 * np.mean(steps[:3])
  assert np.mean(reward[-3:]) > np.mean(reward[:3]) + 0.2


@pytest.mark.parametrize('values, said', [
  (dict(method='guess'), "unknown method 'guess'"),
  (dict(samples=1), 'samples = 1 must be a whole number'),
  (dict(budgets=(0,)), 'budget = 0 must be a whole number'),
  (dict(budgets=()), 'budgets is empty'),
  (dict(tests=0), 'tests = 0 must be a whole number'),
  (dict(task=dict(model='shakespeare', clues=8)), 'is no model of Sudoku'),
  (dict(save_every=5, log_every=2), 'save_every .5. must be a multiple'),
  (dict(task=dict(model='sudoko', clues=8)), 'no file or folder sudoko'),
])
def test_bad_settings_write_nothing(values, said, tmp_path):
  config = tiny('variational')
  config.update(values)
  with pytest.raises(ValueError, match=said):
    orders.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_reinforcement_needs_a_judge_and_confidences():
  config = tiny('reinforce')
  task = tasks.load(config, 0)
  with pytest.raises(ValueError, match='does not know what is right'):
    orders.METHODS['reinforce'](config, task._replace(right=None))
  config.module.sees = 'features'
  with pytest.raises(ValueError, match="unknown sees 'features'"):
    orders.METHODS['reinforce'](config, task)


def test_a_file_of_something_else_is_named(tmp_path):
  file = ASSETS / 'sudoku.safetensors'
  with pytest.raises(ValueError, match='holds no order'):
    order_files.load(file)
  with pytest.raises(ValueError, match='there is no file or folder'):
    order_files.load(tmp_path / 'none.safetensors')
