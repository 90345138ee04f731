"""The frontier end to end on a tiny world, and its work folder."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import frontier_chain
from experiments import curves, door, frontier, results

ROOT = pathlib.Path(__file__).resolve().parents[1]


def tiny(**changes):
  """A config of two settings that are exact and two that are not."""
  config = frontier_chain.get_config()
  config.update(rows=16, length=8, vocab=3)
  config.samplers = {
    'uniform': {'k': (8, 1, 4)}, 'one_by_one': {'score': 'entropy'}
  }
  config.update(changes)
  return config


def lines(workdir):
  return (workdir / 'results.jsonl').read_text().splitlines()


def without_time(row):
  return {k: v for k, v in row.items() if k != 'seconds'}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, rows) of a finished run."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  return workdir, frontier.run(tiny(), workdir)


def test_a_row_for_each_sampler_setting_and_world(finished):
  workdir, rows = finished
  assert [json.loads(line) for line in lines(workdir)] == rows
  assert {(r['world'], r['label']) for r in rows} == {
    (world, label)
    for world in ('chain', 'permuted')
    for label in ('k 1', 'k 4', 'k 8', 'score entropy')
  }
  for row in rows:
    passes = {'k 1': 8, 'k 4': 2, 'k 8': 1, 'score entropy': 8}[row['label']]
    assert row['nfe'] == row['nfe_median'] == row['depth'] == passes
    assert row['forwards'] == [passes]
    assert row['steps'] == passes and row['impossible'] == 0
    assert row['seed'] == 0 and len(row['revision'] or 40 * ' ') == 40
    assert 0 < row['unigram_tv_floor'] < 1 and row['unigram_tv_error'] > 0
    if passes == 8:  # one by one is exact
      assert row['gap'] == pytest.approx(0, abs=1e-5)
      assert row['gap_error'] < 1e-5
      assert abs(row['excess_nll']) < 4 * row['excess_nll_error']
    else:
      assert row['gap_error'] > 1e-3
  alone = [r for r in rows if r['label'] == 'k 8']
  assert all(row['gap'] > 2 * row['gap_error'] for row in alone)
  picture = image.imread(workdir / 'frontier.png')
  assert picture.shape[0] > 500 and picture.std() > 0.05


def test_a_stopped_run_goes_on(finished, tmp_path, monkeypatch):
  """Five rows were finished and a sixth was being written."""
  workdir, rows = finished
  (tmp_path / 'config.json').write_text(
    (workdir / 'config.json').read_text()
  )
  kept = '\n'.join(lines(workdir)[:5]) + '\n'
  (tmp_path / 'results.jsonl').write_text(kept + lines(workdir)[5][:50])
  compiled = []
  compile_one = frontier.compile_one
  monkeypatch.setattr(
    frontier, 'compile_one',
    lambda *args: compiled.append(args[1].name) or compile_one(*args),
  )
  again = frontier.run(tiny(), tmp_path)
  assert lines(tmp_path)[:5] == lines(workdir)[:5]
  assert [*map(without_time, again)] == [*map(without_time, rows)]
  frontier.run(tiny(), tmp_path)
  # What was finished was not even compiled.
  assert compiled == ['uniform']


def test_one_compilation_serves_all_knobs_and_worlds():
  config = tiny()
  traced = []
  choice = door.choose('top_k', {'k': 1})

  def make(knobs):
    traced.append(isinstance(knobs['k'], jax.core.Tracer))
    return choice.make(knobs)

  run = frontier.compile_one(config, choice._replace(make=make))
  tokens = np.full((2, config.length), config.vocab)
  worlds = frontier.worlds(config)
  nfe = [
    run(params, {'k': k}, jax.random.key(0), tokens).meter.nfe.tolist()
    for params in worlds.values()
    for k in (1.0, 4.0)
  ]
  assert nfe == [[8, 8], [2, 2]] * 2
  assert sum(traced) == 1


def test_the_permuted_chain_is_the_chain_with_positions_shuffled():
  config = tiny()
  worlds = frontier.worlds(config)
  order = np.asarray(worlds['permuted'][1])
  assert sorted(order) == list(range(8)) and (order != range(8)).any()
  chain, shuffled = (frontier.world_of(config, p) for p in worlds.values())
  tokens = np.asarray(chain.sample(jax.random.key(0), 4))
  np.testing.assert_allclose(
    shuffled.log_prob(tokens[:, order]), chain.log_prob(tokens), rtol=1e-6
  )


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'samplers': {'punkt': {}}}, "unknown sampler 'punkt': use one of punt,"),
    ({'samplers': {'top_k': {'n': (1,)}}}, "'n': use one of k, score"),
    ({'samplers': {'top_k': {'k': (1, 0)}}}, 'k = 0 is out of range'),
    ({'samplers': {'punt': {}}}, 'needs a value for its knob epsilon'),
    ({'worlds': ('ring',)}, "'ring': use one of chain, permuted"),
    ({'rows': 1}, 'rows = 1 is out of range'),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
  changes, said, tmp_path
):
  config = tiny()
  for name, value in changes.items():
    config[name] = value
  with pytest.raises(ValueError, match=said) as caught:
    frontier.run(config, tmp_path / 'new')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()


def test_the_command_ends_with_one_sentence(tmp_path):
  done = subprocess.run(
    [
      sys.executable, '-m', 'experiments.frontier',
      '--config=configs/frontier_chain.py', "--config.worlds=('ring',)",
      f'--workdir={tmp_path / "new"}',
    ],
    cwd=ROOT, capture_output=True, text=True, env=dict(os.environ),
  )
  assert done.returncode != 0
  assert done.stderr.strip().endswith('use one of chain, permuted')
  assert 'Traceback' not in done.stderr
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
    results.resume(tmp_path, tiny())
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.txt']


def test_curves_are_samplers_with_their_words():
  row = lambda sampler, nfe, **settings: dict(
    sampler=sampler, nfe=nfe, settings=settings
  )
  rows = [
    row('uniform', 2, k=4), row('punt', 9, epsilon=0.1, first='msb'),
    row('punt', 5, epsilon=0.2, first='msb'),
    row('punt', 7, epsilon=0.1, first='lsb'),
  ]
  found = curves.split(rows)
  assert list(found) == ['punt msb', 'punt lsb', 'uniform']
  assert [r['nfe'] for r in found['punt msb']] == [5, 9]
