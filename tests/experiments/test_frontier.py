"""The frontier end to end on tiny worlds, and its work folder."""

import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import frontier as configs
from experiments.common import columns, subjects
from experiments.frontier import __main__ as frontier
from experiments.frontier import plot
from punt_jax import metrics, oracles, samplers
from punt_jax.checkpoints import saving
from punt_jax.cli import plots, records
from punt_jax.generation import options
from punt_jax.models import transformer
from punt_jax.text import vocabulary

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSES = {'k 1': 8, 'k 4': 2, 'k 8': 1, 'score entropy': 8}


def tiny(**changes):
  """A config of two settings that are exact and two that are not."""
  config = configs.get_config()
  config.update(
    rows=16, scored=4, shown=0.3, lengths=(4, 8), worlds=('chain', 'permuted')
  )
  config.settings.vocab = 3
  config.temperatures = {'permuted': (1.0, 0.0)}
  config.samplers = {
    'uniform': {'k': (8, 1, 4)}, 'one_by_one': {'score': 'entropy'}
  }
  for name, value in changes.items():
    config[name] = value
  return config


def lines(workdir):
  return (workdir / 'results.jsonl').read_text().splitlines()


def without_time(row):
  return {k: v for k, v in row.items() if k not in ('seconds', 'took')}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, rows) of a finished run."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  return workdir, frontier.run(tiny(), workdir)


def test_a_row_for_each_world_length_temperature_and_setting(finished):
  workdir, rows = finished
  assert [json.loads(line) for line in lines(workdir)] == rows
  found = [
    (r['subject'], r['length'], r['temperature'], r['label']) for r in rows
  ]
  assert len(set(found)) == len(found) and set(found) == {
    (world, length, heat, label)
    for world, heat in (('chain', 1), ('permuted', 1), ('permuted', 0))
    for length in (4, 8)
    for label in PASSES
  }
  for row in rows:
    assert row['impossible'] == row['impossible_error'] == 0
    assert row['schema'] == 2 and row['experiment'] == 'frontier'
    origin = row['origin']
    assert origin['seed'] == 0 and len(origin['revision'] or 40 * ' ') == 40
    assert row['world']['vocab'] == 3 and row['seconds'] > 0
  for world in ('chain', 'permuted'):
    picture = image.imread(workdir / f'frontier_{world}.png')
    assert picture.shape[0] > 500 and picture.std() > 0.05


def test_errors_and_cost_at_temperature_1(finished):
  rows = [r for r in finished[1] if r['temperature'] == 1 and r['length'] == 8]
  for row in rows:
    passes = PASSES[row['label']]
    assert row['nfe'] == row['nfe_median'] == row['depth'] == passes
    assert row['nfe_low'] == row['nfe_high'] == row['steps'] == passes
    assert row['forwards'] == [passes] and row['nfe_error'] == 0
    assert 0 < row['unigram_tv_floor'] < 1 and row['unigram_tv_error'] > 0
    # About the same noise as in exact samples.
    ratio = row['excess_nll_floor'] / row['excess_nll_error']
    assert 0.4 < ratio < 2.5
    if passes == 8:  # one by one is exact
      assert row['gap'] == pytest.approx(0, abs=1e-5)
      assert row['gap_error'] < 1e-5
      assert abs(row['excess_nll']) < 4 * row['excess_nll_error']
    else:
      assert row['gap_error'] > 1e-3
    assert 'agreement' not in row
  alone = [r for r in rows if r['label'] == 'k 8']
  assert all(row['gap'] > 2 * row['gap_error'] for row in alone)


def test_fit_at_temperature_0(finished):
  rows = {
    row['label']: row for row in finished[1]
    if row['temperature'] == 0 and row['length'] == 8
  }
  shown = frontier.prepare(tiny(), 'permuted', 8).shown
  left = (shown == 3).sum(1).mean()
  assert 4 < left < 8  # the canvases show a part of the tokens
  for label, row in rows.items():
    assert 'gap' not in row and 'unigram_tv' not in row
    assert 0 <= row['agreement'] <= 1 and row['log_p'] < 0
    assert row['agreement_error'] >= 0 and row['log_p_error'] > 0
    assert row['nfe'] == pytest.approx(left) or PASSES[label] < 8
  # Likelier tokens than in exact samples, and more so one by one.
  world = frontier.prepare(tiny(), 'permuted', 8).subject.world
  assert rows['k 8']['log_p'] > -float(world.entropy()) / 8
  assert rows['score entropy']['log_p'] > rows['k 8']['log_p']
  assert rows['score entropy']['agreement'] > rows['k 8']['agreement']


def test_the_same_seed_gives_the_same_distributions_at_one_length():
  config = tiny()
  chain, shuffled = (
    frontier.prepare(config, name, 8) for name in config.worlds
  )
  chain, shuffled = chain.subject, shuffled.subject
  order = np.asarray(shuffled.params[1])
  assert sorted(order) == list(range(8)) and (order != range(8)).any()
  tokens = np.asarray(chain.world.sample(jax.random.key(0), 4))
  np.testing.assert_allclose(
    shuffled.world.log_prob(tokens[:, order]), chain.world.log_prob(tokens),
    rtol=1e-6,
  )


def test_impossible_rows_are_left_out_and_counted():
  tokens = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1]])
  given = np.full((4, 3), 2)
  log_q = -np.log(2) * np.array([2, 3, 3, 4])
  run = SimpleNamespace(tokens=tokens, log_q=log_q)
  row = columns.errors(oracles.xor(), run, given)
  assert (row['impossible'], row['impossible_error']) == (0.25, 0.25)
  assert row['gap'] == pytest.approx(-np.log(2))
  assert row['gap_error'] == pytest.approx(np.log(2) / 3**0.5)
  assert row['excess_nll'] == pytest.approx(0, abs=1e-6)
  row = columns.fit(oracles.xor(), run, given, 3)
  assert row['log_p'] == pytest.approx(-2 * np.log(2) / 3)
  assert row['agreement'] == 1 and row['impossible'] == 0.25
  alone = SimpleNamespace(tokens=tokens[2:], log_q=log_q[2:])
  row = columns.errors(oracles.xor(), alone, given[2:])
  assert row['gap'] is None and row['excess_nll_error'] is None
  alone = SimpleNamespace(tokens=tokens[2:3], log_q=log_q[2:3])
  row = columns.fit(oracles.xor(), alone, given[:1], 3)
  assert row['agreement'] is None and row['impossible'] == 1


def test_one_compilation_serves_all_settings_temperatures_and_worlds():
  traced = []
  choice = options.choose('top_k', {'k': 1})

  def make(hyperparams):
    traced.append(isinstance(hyperparams['k'], jax.core.Tracer))
    return choice.make(hyperparams)

  places = [
    frontier.prepare(tiny(seed=seed), 'chain', 4) for seed in range(2)
  ]
  run = frontier.compile_one(
    places[0].subject, choice._replace(make=make), 4
  )
  decoded = [
    run(
      place.subject.params, {'sampler': {'k': k}, 'temperature': heat},
      place.key, place.empty,
    )
    for place in places for k in (1.0, 2.0) for heat in (1.0, 0.0)
  ]
  assert [d.meter.nfe[0] for d in decoded] == [4, 4, 2, 2] * 2
  assert sum(traced) == 1
  # Each distribution was the one asked for, and temperature 0 wrote one canvas.
  for place, (exact, greedy, *_) in zip(
    places, (decoded[:4], decoded[4:]), strict=True
  ):
    gap = metrics.factorization_gap(
      place.subject.world, exact.log_q, exact.tokens, place.empty
    )
    np.testing.assert_allclose(gap, 0, atol=1e-5)
    assert (greedy.tokens == greedy.tokens[0]).all()


def test_shares_follow_the_length():
  choices = options.grid(
    {'halton': {'steps': (0.5, 0.25, 0.01, 0.02)}, 'uniform': {'k': 0.5 + 1}},
    16, ('steps',),
  )
  assert [str(c) for c in choices] == [
    'k 1.5', 'steps 8', 'steps 4', 'steps 1'
  ]


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'samplers': {'punkt': {}}}, "unknown sampler 'punkt': use one of punt,"),
    ({'samplers': {'top_k': {'n': (1,)}}}, "'n': use one of k, score"),
    ({'samplers': {'top_k': {'k': (1, 0)}}}, 'k = 0 is out of range'),
    ({'samplers': {'punt': {}}}, 'a value for its hyperparameter epsilon'),
    ({'worlds': ('ring',)}, "unknown subject 'ring': use one of chain,"),
    ({'rows': 1}, 'rows = 1 must be a whole number'),
    ({'scored': 1}, 'scored = 1 must be a whole number'),
    ({'shown': 1.5}, 'shown = 1.5 is out of range'),
    ({'lengths': (8, 1)}, 'length = 1 must be a whole number'),
    ({'temperatures': {'chain': (-1.0,)}}, 'temperature = -1.0 is out of'),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
  changes, said, tmp_path
):
  with pytest.raises(ValueError, match=said) as caught:
    frontier.run(tiny(**changes), tmp_path / 'new')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()


def test_every_sampler_is_in_the_family():
  config = configs.get_config('family')
  trained = {'learned'}  # beside one model: experiments/learned_orders/
  assert set(config.samplers) == set(samplers.NAMES) - trained
  here = lambda world: {
    case.choice.name for case in frontier.cases(config)
    if case.subject == world
  }
  everyone = set(config.samplers)
  assert everyone - here('documents') == {'dapd', 'adas'}
  assert everyone - here('shakespeare') == {'adaptive_parallel', 'speculative'}


@pytest.mark.slow
def test_text_and_what_a_sampler_is_told(tmp_path):
  config = tiny(
    worlds=('shakespeare',), lengths=(8,), text_rows=3, draws=2, warm_up=2,
    samplers={
      'uniform': {'k': 4, 'particles': (1, 2)},
      'random_order': {'steps': (2, 8)},
      'dapd': {'tau': -1.0, 'late': 0.0},
    },
  )
  config.shares = ()
  rows = frontier.run(config, tmp_path)
  # Canvases of 8: two blocks, alone and twice; the sizes that were asked for
  # from one compilation; one by one. Told: written one by one, then 6 counts.
  assert [r['nfe'] for r in rows] == [2, 4, 2, 8, 8]
  assert [r['warm_up'] for r in rows] == [0, 0, 2 * 14, 2 * 14, 0]
  for row in rows:
    assert row['rows'] == 3 and row.get('gap') is None
    assert 0 <= row['pair_tv'] <= 1 and abs(row['excess_nll']) < 3
  assert list(plots.split(rows)) == [
    'uniform', 'uniform 2 particles', 'random_order', 'dapd'
  ]
  assert (tmp_path / 'frontier_shakespeare.png').stat().st_size > 10000
  with pytest.raises(ValueError, match='compared at temperature 1 alone'):
    config.temperatures = {'shakespeare': (0.0,)}
    frontier.cases(config)


def test_two_sizes_of_the_config():
  small, full = configs.get_config(), configs.get_config('full')
  assert set(small.lengths) < set(full.lengths)
  small.worlds = full.worlds = ('chain',)
  assert len(frontier.cases(small)) * 4 < len(frontier.cases(full))
  with pytest.raises(ValueError, match='use one of small, family, full'):
    configs.get_config('huge')


@pytest.mark.slow
def test_the_command_ends_with_one_sentence(tmp_path):
  done = subprocess.run(
    [
      sys.executable, '-m', 'experiments.frontier',
      '--config=configs/frontier.py:full', "--config.worlds=('ring',)",
      f'--workdir={tmp_path / "new"}',
    ],
    cwd=ROOT, capture_output=True, text=True, env=dict(os.environ),
  )
  assert done.returncode != 0
  assert "unknown subject 'ring': use one of chain, permuted" in done.stderr
  assert done.stderr.strip().count('\n') == 0
  assert not (tmp_path / 'new').exists()


def test_more_values_go_on_and_the_rest_stays(finished, tmp_path):
  """A value of k is new, others are left out, as is a world and a length."""
  workdir, rows = finished
  for name in ('config.json', 'results.jsonl'):
    (tmp_path / name).write_bytes((workdir / name).read_bytes())
  before = (tmp_path / 'results.jsonl').read_bytes()
  found = frontier.run(
    tiny(worlds=('chain',), lengths=(4,), samplers={'uniform': {'k': (2, 4)}}),
    tmp_path,
  )
  assert [row['label'] for row in found] == ['k 2', 'k 4']
  assert found[1] == next(
    r for r in rows if (r['subject'], r['length']) == ('chain', 4)
    and r['label'] == 'k 4'
  )
  assert found[0]['nfe'] == 2
  after = (tmp_path / 'results.jsonl').read_bytes()
  assert after.startswith(before) and len(lines(tmp_path)) == len(rows) + 1
  assert not (tmp_path / 'frontier_permuted.png').exists()
  with pytest.raises(ValueError, match='different: settings.beta'):
    changed = tiny()
    changed.settings.beta = 0.5
    frontier.run(changed, tmp_path)
  assert (tmp_path / 'results.jsonl').read_bytes() == after


@pytest.fixture(scope='module')
def own_model(tmp_path_factory):
  """A file as train.export writes it."""
  file = tmp_path_factory.mktemp('models') / 'my model.safetensors'
  sizes = dict(width=8, layers=1, heads=2)
  module = transformer.Transformer(vocab=3, **sizes)
  params = module.init(jax.random.key(0), np.zeros((1, 6), np.int32))['params']
  text = vocabulary.characters('abc').spec
  saving.export_params(file, params, dict(model=sizes, text=text, length=6))
  return file


def test_a_model_and_samplers_by_flag(own_model, tmp_path):
  """Programs stand together, what is asked for twice is measured once."""
  config = tiny(lengths=(4,), text_rows=4, draws=2)
  asked = 'top_k(k=2) one_by_one(score=entropy) top_k(k=4), top_k(k=2)'
  rows = frontier.run(config, tmp_path, f'{own_model}', asked)
  name = f'{subjects.label(str(own_model))}'
  assert name.startswith('my model-') and str(own_model.parent) not in name
  assert [(r['subject'], r['label'], r['nfe']) for r in rows] == [
    (name, 'k 2', 2), (name, 'k 4', 1), (name, 'score entropy', 4)
  ]
  for row in rows:
    assert row['rows'] == 4 and 0 <= row['pair_tv'] <= 1
  assert (tmp_path / f'frontier_{name}.png').exists()
  # The same file elsewhere is the same model: nothing is measured.
  copy = tmp_path / 'my model.safetensors'
  copy.write_bytes(own_model.read_bytes())
  again = frontier.run(tiny(lengths=(4,), text_rows=4, draws=2), tmp_path,
                       f' {copy} ', 'top_k(k=4)')
  assert again == rows[1:2]


@pytest.mark.parametrize('models, asked, said', [
  ('chain', 'top_k(k=2) dapd(tau=0.1)', 'dapd needs attention, which chain'),
  ('OWN', 'speculative(k=2)', 'speculative needs in_order, which .*my model'),
  ('OWN', 'punt(epsilon=0.1', 'is not a sampler: write a name'),
  ('OWN', 'punt', 'punt needs a value for its hyperparameter epsilon'),
  ('none.safetensors', 'top_k(k=2)', "subject 'none.safetensors': use one of"),
])
def test_what_cannot_be_served_is_a_sentence(
  models, asked, said, own_model, tmp_path
):
  models = models.replace('OWN', str(own_model))
  with pytest.raises(ValueError, match=said) as caught:
    frontier.run(tiny(), tmp_path / 'new', models, asked)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()


def test_a_workdir_of_another_config_is_left_alone(finished):
  workdir, _ = finished
  before = {p.name: p.read_bytes() for p in workdir.iterdir()}
  with pytest.raises(ValueError, match='another config .different: rows'):
    frontier.run(tiny(rows=17), workdir)
  assert {p.name: p.read_bytes() for p in workdir.iterdir()} == before


def test_a_folder_that_holds_no_run_is_left_alone(tmp_path):
  (tmp_path / 'thesis.txt').write_text('three years of work')
  with pytest.raises(ValueError, match='holds no run'):
    records.resume(tmp_path, tiny())
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.txt']


def test_curves_are_samplers_with_the_words_that_vary():
  row = lambda sampler, nfe, **settings: dict(
    sampler=sampler, nfe=nfe, settings=settings
  )
  rows = [
    row('uniform', 2, k=4), row('top_k', 2, k=4, score='entropy'),
    row('punt', 9, epsilon=0.1, first='msb', score='entropy'),
    row('punt', 5, epsilon=0.2, first='msb', score='entropy'),
    row('punt', 7, epsilon=0.1, first='lsb', score='entropy'),
  ]
  found = plots.split(rows)
  assert list(found) == ['punt msb', 'punt lsb', 'top_k', 'uniform']
  assert [r['nfe'] for r in found['punt msb']] == [5, 9]


def test_what_is_infinite_or_missing_is_not_drawn(tmp_path):
  numbers = {
    f'{key}{end}': 0.1 for end in ('', '_error', '_floor')
    for key in ('nfe', 'impossible', *plot.ERRORS)
  }
  row = dict(
    numbers, subject='code', length=8, temperature=1.0, sampler='uniform',
    settings={'k': 1}, rows=4, shown=0.0,
  )
  possible = dict(row, impossible=0.0)
  nothing = dict(possible, gap=None, gap_error=None)
  drawn = [[plot.drawn(r, 'gap') for r in (row, possible, nothing)]]
  drawn += [[plot.drawn(r, 'unigram_tv') for r in (row, possible, nothing)]]
  assert drawn == [[False, True, False], [True, True, True]]
  assert list(plot.keys([row], 1)) == ['impossible', *plot.ERRORS]
  assert list(plot.keys([possible], 1)) == list(plot.ERRORS)
  plot.write(tmp_path / 'all.png', [row, possible, nothing])
  plot.write(tmp_path / 'none.png', [row])  # panels without any point
  assert image.imread(tmp_path / 'none.png').std() > 0.05
