"""The comparison with PUNT end to end on tiny subjects, and its verdict."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

from configs import beyond as config_file
from experiments.beyond import __main__ as beyond
from experiments.beyond import contenders, plot
from experiments.common import subjects

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tiny(**changes):
  config = config_file.get_config()
  config.update(rows=8, text_rows=2, draws=2)
  config.warm_up = dict(explore=2, punt=2)
  config.settings.update(vocab=3)
  config.grids['punt'] = dict(epsilon=(-1.0, 0.3))
  config.grids['influence'] = dict(kappa=(-1.0, float(2**20)))
  names = ('punt', 'influence', 'one by one')
  config.subjects = (('permuted', 6, names), ('shakespeare', 4, ('influence',)))
  config.update(changes)
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, rows, {name: its Subject}) of a finished run."""
  workdir, of, made = tmp_path_factory.mktemp('runs') / 'tiny', subjects.of, {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      subjects, 'of',
      lambda name, *rest: made.setdefault(name, of(name, *rest)),
    )
    return workdir, beyond.run(tiny(), workdir), made


@pytest.mark.slow
def test_a_row_for_each_setting_with_its_cost(finished):
  workdir, rows, _ = finished
  text = (workdir / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in text] == rows
  world = [row for row in rows if row['subject'] == 'permuted']
  nfe = {(r['sampler'], *r['settings'].values()): r['nfe'] for r in world}
  assert nfe['influence', -1.0] == nfe['one by one',] == 6  # one a step
  assert nfe['influence', 2.0**20] == 1  # all at once
  assert nfe['punt', -1.0] > nfe['punt', 0.3]
  for row in rows:
    warm = row['sampler'] == 'influence'
    # Two rows one by one.
    assert row['warm_up'] == (2 * row['length'] if warm else 0)
    assert row['nfe_amortized'] == row['nfe'] + row['warm_up'] / 1000
  exact = [r for r in world if r['nfe'] == 6]
  assert all(abs(row['gap']) < 1e-4 for row in exact)
  assert image.imread(workdir / 'beyond_short.png').std() > 0.05
  assert 'permuted, 6 tokens' in (workdir / 'verdict.txt').read_text()


@pytest.mark.slow
def test_a_run_that_goes_on_finds_its_tables(finished, monkeypatch):
  workdir, rows, made = finished
  monkeypatch.setattr(beyond, 'learn', None)
  table, passes = beyond.learned(
    made['permuted'], 'explore', 2, 1, workdir / 'tables/permuted_6_explore.npz'
  )
  assert table.shape == (6, 6) and passes == 12
  assert beyond.run(tiny(), workdir) == rows


def test_every_contender_has_a_grid_and_is_used():
  config = config_file.get_config()
  assert set(config.grids) == set(contenders.CONTENDERS)
  used = {name for *_, names in config.subjects for name in names}
  assert used == set(contenders.CONTENDERS)
  tables = dict.fromkeys(('explore', 'punt'), np.ones((6, 6), np.float32))
  for name, make in contenders.CONTENDERS.items():
    first = lambda v: v[0] if isinstance(v, tuple) else v
    settings = {k: first(v) for k, v in config.grids[name].items()}
    assert callable(make(settings, tables).step), name


@pytest.mark.slow
def test_the_text_subject_measures_against_one_by_one(finished):
  subject = finished[2]['shakespeare']
  assert subject.alike[0].tolist() == [0, 1, 2, 3]
  space = np.zeros((2, 4), np.int32)
  found = subject.errors(type('D', (), {'tokens': space}))
  assert found['pair_tv'] > 0.5  # the pair of twice the same character
  assert np.isfinite(found['excess_nll'])


def row(nfe, excess, tv):
  return dict(
    nfe=nfe, excess_nll=excess, excess_nll_error=0.01, unigram_tv=tv,
    unigram_tv_error=0.0, unigram_tv_floor=0.02, impossible=0.0,
  )


def test_who_is_no_worse():
  bar = row(30, 0.05, 0.03)
  cheap, fair, dear = row(5, 0.2, 0.03), row(9, 0.06, 0.03), row(20, 0, 0.03)
  bent = row(4, 0.0, 0.05)
  assert plot.ratio([cheap, dear, bent], bar) == 20 / 30
  assert plot.ratio([cheap, fair, dear, bent], bar) == 9 / 30
  assert plot.ratio([cheap, bent], bar) is None
  assert plot.cheapest([cheap, fair, dear, bent]) == 4
  impossible = row(3, 0.0, 0.03) | dict(impossible=0.5)
  assert plot.ratio([impossible], bar) is None


@pytest.mark.slow
def test_an_unknown_size_is_one_sentence(tmp_path):
  done = subprocess.run(
    [
      sys.executable, '-m', 'experiments.beyond',
      '--config=configs/beyond.py:huge', f'--workdir={tmp_path / "a"}',
    ],
    cwd=ROOT, capture_output=True, text=True,
  )
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  said = "unknown size 'huge': use one of small, short, long, full"
  assert done.stderr.startswith('experiments.beyond: configs/beyond.py, line ')
  assert done.stderr.endswith(f': {said}\n') and done.stderr.count('\n') == 1


def test_bad_input_is_one_sentence(tmp_path):
  with pytest.raises(ValueError, match="unknown contender 'punkt'"):
    beyond.run(tiny(subjects=(('permuted', 6, ('punkt',)),)), tmp_path / 'a')
  assert not (tmp_path / 'a').exists()
