"""Learned orders: as a sampler's word, the comparison, its table."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from configs import learned_orders as config_file
from experiments.common import subjects
from experiments.learned_orders import __main__ as learned
from experiments.learned_orders import plot
from punt_jax import samplers
from punt_jax.checkpoints import order_files, saving
from punt_jax.generation import options
from punt_jax.models import orders
from punt_jax.types import View

SEES = dict(sees='confidence', width=4, heads=1)


def view(width, length=5):
  """A View of one row, features (length, width)."""
  number = jnp.linspace(0.1, 0.9, length)
  numbers = dict.fromkeys(
    ('draft_logp', 'draft_score', 'confidence', 'margin', 'entropy'), number
  )
  place = jnp.arange(length)
  return View(
    tokens=place, masked=place > 0, open=place > 0, position=place,
    drafts=place, total=length, step=0, features=jnp.ones((length, width)),
    **numbers,
  )


def save(path, kind, module, width=48, seed=0, **config):
  """Writes an untrained network for features of this width."""
  row = jax.tree.map(lambda x: jnp.asarray(x)[None], view(width))
  seen = (row, jnp.ones(1)) if kind == 'policy' else (row,)
  net = orders.KINDS[kind][0](**module)
  card = dict(
    kind=kind, module=module, denoiser='sudoku', config={'seed': seed, **config}
  )
  rng = np.random.default_rng(seed)  # init itself would have to be compiled
  params = jax.tree.map(
    lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32),
    jax.eval_shape(net.init, jax.random.key(0), *seen)['params'],
  )
  saving.export_params(path, params, card)
  return str(path)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Two trainings each of a policy that knows its budget and of one by cost."""
  folder = tmp_path_factory.mktemp('orders')
  name = lambda method, seed: folder / f'{method}_{seed}.safetensors'
  return dict(
    variational=tuple(
      save(name('variational', s), 'policy', {**SEES, 'sees': 'features'},
           seed=s) for s in (0, 1)
    ),
    reinforce=tuple(
      save(name('reinforce', s), 'policy', SEES, seed=s, step_cost=0.1 * s)
      for s in (1, 2)
    ),
    pairs=(save(name('pairs', 0), 'pairs', dict(width=4)),),
  )


def tiny(files, **changes):
  config = config_file.get_config()
  config.update(rows=8, batch=4, seeds=(0, 1), orders=files)
  config.contenders = ('one by one', 'variational')
  config.grids['variational'] = dict(budget=(1, 3), temperature=1.0)
  config.update(changes)
  return config


def row(nfe, accuracy, settings, sampler='a', **more):
  return dict(
    sampler=sampler, settings=settings, cost=None, nfe=nfe, nfe_error=0.0,
    accuracy=accuracy, accuracy_error=0.03, rows=100,
  ) | more


def test_the_table_interpolates_between_settings_by_hand():
  rows = [
    row(9, 0.7, dict(k=2)), row(5, 0.3, dict(k=1)), row(11, 0.9, dict(k=2)),
    row(5, 0.3, dict(k=1)), row(4, 0.25, {}, 'b'),
  ]
  line = plot.lines(rows)['a']
  # Seeds at (9, 0.7) and (11, 0.9): a mean whose error is half the distance,
  # sqrt(2) * 0.1 / sqrt(2), beside that of the items.
  wide = math.hypot(0.1, 0.03)
  assert [p.nfe for p in line] == [5, 10]
  np.testing.assert_allclose(line[1].value, 0.8)
  np.testing.assert_allclose(line[1].value_error, wide)
  np.testing.assert_allclose(line[1].nfe_error, 1)
  # 7 is two fifths of the way from 5 to 10.
  found = plot.at(line, 7)
  np.testing.assert_allclose(found, (0.5, 0.6 * 0.03 + 0.4 * wide))
  # Within a tenth of an end counts as the end: 5 * 0.9 = 4.5, 10 * 1.1 = 11.
  assert plot.at(line, 4.6)[0] == 0.3
  np.testing.assert_allclose(plot.at(line, 10.9)[0], 0.8)
  assert plot.at(line, 4.4) is None
  assert plot.at(line, 11.1) is None
  # Between points more than 2.5 times apart nothing is known.
  far = [line[0], line[1]._replace(nfe=16.0)]
  assert plot.at(far, 8) is None
  np.testing.assert_allclose(plot.at(far, 5.4)[0], 0.3, atol=0.03)
  *_, a, b = plot.compare(rows, (4, 7)).splitlines()
  assert a.split() == [
    'a', '-', '0.500', '+-', '0.060', '0.800', '+-', '0.104', '(10.0)',
    '2'
  ]
  assert b.split() == [
    'b', '0.250', '+-', '0.030', '-', '0.250', '+-', '0.030', '(4.0)',
    '1'
  ]


def test_of_excess_the_least_is_best_and_costs_are_settings():
  text = lambda nfe, excess, cost: row(
    nfe, 0, {}, excess_nll=excess, excess_nll_error=0.01, cost=cost
  )
  rows = [text(4, 0.5, 0.1), text(8, 0.1, 0.01), text(6, 0.3, 0.1)]
  for found in rows:
    del found['accuracy'], found['accuracy_error']
  line = plot.lines(rows)['a']
  assert [(p.nfe, p.value) for p in line] == [(5, 0.4), (8, 0.1)]
  assert plot.best(line, 'excess_nll').nfe == 8


@pytest.mark.slow
def test_a_run_and_a_second_one_that_adds_nothing(
  files, tmp_path, monkeypatch, capsys
):
  workdir = tmp_path / 'run'
  rows = learned.run(tiny(files), workdir)
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == rows
  found = {
    (r['sampler'], r['seed'], r['settings'].get('budget')): r for r in rows
  }
  assert set(found) == {('one by one', s, None) for s in (0, 1)} | {
    ('variational', s, b) for s in (0, 1) for b in (1, 3)
  }
  for (name, seed, budget), r in found.items():
    assert r['rows'] == 8 and 0 <= r['accuracy'] <= 1
    file = files[name][seed] if budget else ''
    assert r['order'] == (file and subjects.label(file))
    assert r['order'].startswith(f'{name}_{seed}-' if file else '')
    if budget == 1 or not budget:  # all at once, or 36 - 8 clues one by one
      assert r['nfe'] == r['steps'] == (budget or 28)
  assert 1 < found['variational', 0, 3]['nfe'] <= 3
  assert image.imread(workdir / 'learned_orders.png').std() > 0.05
  table = (workdir / 'table.txt').read_text()
  assert table in capsys.readouterr().out and 'one by one' in table
  monkeypatch.setattr(learned, 'compile_one', None)  # all of it is there
  monkeypatch.setattr(learned, 'prepare', None)
  assert learned.run(tiny(files), workdir) == rows


@pytest.mark.slow
def test_trainings_share_a_program_and_batches_do_not_matter(
  files, tmp_path, monkeypatch
):
  programs = []
  compile_one = learned.compile_one
  monkeypatch.setattr(learned, 'compile_one', lambda *a: (
    programs.append(a[1]) or compile_one(*a)
  ))
  names = ('reinforce', 'pairs', 'pairs, 1 probe', 'pairs, 2 probes')
  run = lambda name, batch: learned.run(
    tiny(files, contenders=names, batch=batch), tmp_path / name
  )
  rows, others = run('a', 8), run('b', 3)
  assert programs == [*names, *names]
  for a, b in zip(rows, others, strict=True):
    assert a['nfe'] == b['nfe'] and a['accuracy'] == b['accuracy']
  assert [r['cost'] for r in rows[:2]] == [0.1, 0.2]
  for a in rows:  # a pass per step, and as many as there are probes
    most = {'pairs, 1 probe': 2, 'pairs, 2 probes': 3}.get(a['sampler'], 1)
    assert a['steps'] <= a['nfe'] <= most * a['steps']
    assert (a['nfe'] > a['steps']) == (most > 1)


@pytest.mark.slow
def test_text_is_measured_by_its_excess(tmp_path):
  config = config_file.get_config('text')
  config.task.length = 8
  config.update(text_rows=3, batch=2, draws=2, seeds=(0,), columns=(4,))
  config.contenders = ('independent',)
  config.grids['independent'] = dict(steps=(2, 8))
  rows = learned.run(config, tmp_path / 'run')
  assert [r['nfe'] for r in rows] == [2, 8]
  assert all(abs(r['excess_nll']) < 3 for r in rows)
  assert 'excess NLL' in (tmp_path / 'run' / 'table.txt').read_text()


@pytest.mark.parametrize('task', ['sudoku', 'text'])
def test_every_contender_has_a_grid_that_it_can_read(task):
  config = config_file.get_config(task)
  left_out = {'reinforce', 'reinforce, biased', 'margin', 'punt by confidence'}
  assert set(learned.CONTENDERS) - set(config.contenders) == (
    left_out if task == 'text' else set()
  )
  first = lambda v: v[0] if isinstance(v, tuple) else v
  for name in config.contenders:
    settings = {k: first(v) for k, v in config.grids[name].items()}
    assert callable(learned.CONTENDERS[name](settings, len).step)
    if name in learned.NETWORKS:
      trained = config.orders[learned.NETWORKS[name][0]]
      assert len(trained) >= (1 if task == 'text' else 3)


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(contenders=('punkt',)), "unknown contender 'punkt': use one of"),
    (dict(orders=dict(variational=('tuesday',))), 'there is no order tuesday'),
    (dict(orders={}), "unknown orders 'variational'"),
    (dict(batch=0), 'batch = 0 must be a whole number'),
    (
      dict(grids={'variational': dict(budget=0.5), 'one by one': {}}),
      'budget = 0.5 is out of range',
    ),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
  changes, said, files, tmp_path
):
  config = tiny(files).copy_and_resolve_references()
  for key, value in changes.items():
    del config[key]
    config[key] = value
  with pytest.raises(ValueError, match=said) as caught:
    learned.run(config, tmp_path / 'new')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()


def test_a_network_is_a_word_of_a_sampler(files):
  settings = dict(policy=files['variational'][0], budget=4.0)
  choice = options.choose('learned', settings)
  assert choice.static == {'policy': settings['policy']}
  assert choice.traced == {'budget': 4.0} and choice.learns is None
  assert choice.settings() == settings
  assert callable(choice.make(choice.traced).step)
  head = dict(kappa=0.1, head=files['pairs'][0])
  assert options.choose('influence', head).learns is None
  assert options.choose('influence', head | dict(head='')).learns == 'table'
  rule = options.networks_of(dict(head=files['pairs'][0]))['table']
  assert rule(view(48)).shape == (5, 5)
  assert samplers.thin(rule, 0.1)(None, view(48)).shape == (5,)


def test_what_is_said_of_networks(files, tmp_path):
  with pytest.raises(ValueError, match='learned needs a policy: use '):
    options.choose('learned', {})
  with pytest.raises(ValueError, match='there is no order nobody: use '):
    options.choose('learned', dict(policy='nobody'))
  with pytest.raises(ValueError, match="'policy', and one of the kind 'pairs'"):
    options.choose('influence', dict(kappa=1, head=files['reinforce'][0]))
  with pytest.raises(ValueError, match="is of the kind 'pairs', and"):
    options.choose('learned', dict(policy=files['pairs'][0]))
  broken = tmp_path / 'broken.safetensors'
  broken.write_text('no')
  with pytest.raises(ValueError, match='is not a readable safetensors file'):
    options.choose('learned', dict(policy=str(broken)))
  for kind, name in (('policy', 'variational'), ('pairs', 'pairs')):
    found = order_files.find(files[name][0], kind)
    seen = (view(3), 2.0) if kind == 'policy' else (view(3),)
    with pytest.raises(ValueError, match='beside sudoku and does not') as said:
      found.apply(found.params)(*seen)
    assert '\n' not in str(said.value)
