"""The one loop over points, and its rows."""

import io
import json
import sys
import time
from types import SimpleNamespace

import ml_collections
import pytest

from punt_jax.cli import columns, records
from punt_jax.cli import sweep as sweep_lib
from punt_jax.cli.sweep import Point, sweep
from punt_jax.viz import progress

POINTS = [
  Point('chain', 8, 'uniform', {'k': k}, {'temperature': heat, 'world': world})
  for k in (1, 2)
  for heat, world in ((1.0, None), (0.5, None), (0.5, {'vocab': 3}))
]


class Measure:
  """Counts what it is asked, and stops at one of its calls if told so."""

  def __init__(self, stop=None):
    self.asked, self.stop = [], stop

  def __call__(self, point):
    if len(self.asked) == self.stop:
      raise KeyboardInterrupt
    self.asked.append(point)
    nfe = 8 / point.settings['k']
    return {'nfe': nfe, 'nfe_error': 0.25, 'forwards': (nfe, nfe), 'gap': None}


def go(workdir, measure, points=POINTS, **changes):
  """A sweep; `batch` may change from one start to the next."""
  config = ml_collections.ConfigDict({'seed': 3, 'rows': 2, 'batch': 4})
  with config.unlocked():
    config.update(changes)
  return sweep(
    'toy', workdir, config, points, measure, ('gap',), records.FREE
  )


@pytest.fixture(autouse=True)
def clock(monkeypatch):
  """Every row takes a second."""
  ticks = iter(range(10**6))
  time = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
  monkeypatch.setattr(sweep_lib, 'time', time)


def contents(folder):
  return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def finished(tmp_path):
  """(workdir, rows) of a finished run."""
  return tmp_path / 'run', go(tmp_path / 'run', Measure())


def test_a_row_for_each_point_in_their_order(tmp_path, capsys):
  workdir = tmp_path / 'new' / 'folder'
  rows = go(workdir, Measure())
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == rows  # lists for tuples too
  for row, point in zip(rows, POINTS, strict=True):
    assert list(row) == [
      'schema', 'experiment', 'subject', 'length', 'sampler', 'settings',
      'temperature', 'world', 'nfe', 'nfe_error', 'forwards', 'gap', 'took',
      'origin',
    ]
    assert (row['schema'], row['experiment']) == (records.SCHEMA, 'toy')
    assert row['settings'] == point.settings and row['origin']['seed'] == 3
    assert {key: row[key] for key in point.about} == point.about
  said = capsys.readouterr().out.splitlines()
  assert len(said) == 7 and said[0] == (
    'toy: 6 rows, 0 there, 6 to measure; the first one tells how long they take'
  )
  assert said[1] == (
    '   1/6 chain 8 uniform, k 1, temperature 1, world None,'
    ' nfe 8.000 +- 0.250, gap -'
  )


def test_a_run_that_was_stopped_goes_on(finished, tmp_path):
  whole, rows = finished
  workdir, file = tmp_path / 'new', tmp_path / 'new' / 'results.jsonl'
  with pytest.raises(KeyboardInterrupt):
    go(workdir, Measure(stop=2))
  kept = file.read_bytes()
  with open(file, 'ab') as stream:  # the third was being written
    stream.write((whole / 'results.jsonl').read_bytes().split(b'\n')[2][:50])
  measure = Measure()
  assert go(workdir, measure) == rows
  assert measure.asked == POINTS[2:] and kept in file.read_bytes()
  assert file.read_bytes() == (whole / 'results.jsonl').read_bytes()
  assert go(workdir, measure, batch=8) == rows  # which `free` allows
  assert len(measure.asked) == 4


def test_rows_come_back_in_the_order_of_the_points(finished):
  workdir, rows = finished
  lines = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
  (workdir / 'results.jsonl').write_text(''.join(lines[3:] + lines[:1]))
  measure = Measure()
  assert go(workdir, measure) == rows and measure.asked == POINTS[1:3]


def test_columns_of_about_tell_rows_apart(tmp_path):
  measure = Measure()
  go(tmp_path, measure, POINTS[:1])
  go(tmp_path, measure)
  assert measure.asked == POINTS
  # One that a measured column of another value would hide.
  point = POINTS[0]._replace(about={**POINTS[0].about, 'nfe': 9.0})
  with pytest.raises(AssertionError, match='nfe'):
    go(tmp_path, measure, [point])


def test_a_line_says_what_rows_differ_in(tmp_path, capsys):
  points = [
    Point('chain', 8, 'uniform', {'k': 1}, {'stop': True, 'heat': heat})
    for heat in (0.5, 1.0)
  ]
  go(tmp_path / 'run', Measure(), points)
  said = capsys.readouterr().out
  assert 'k 1, heat 0.5, nfe' in said and 'stop' not in said


def change(workdir, edit):
  """Edits results.jsonl as a list of lines."""
  file = workdir / 'results.jsonl'
  lines = file.read_text().splitlines()
  edit(lines)
  file.write_text('\n'.join(lines) + '\n')


def drop_schema(lines):
  row = json.loads(lines[1])
  del row['schema']
  lines[1] = json.dumps(row)


def tear(lines):
  lines[1] = lines[1][:50]


@pytest.mark.parametrize('edit, changes, said', [
  (None, {'rows': 3}, r'another config \(different: rows\)'),
  (None, {'more': 1}, r'another config \(different: more\)'),
  (drop_schema, {}, 'has rows of schema 1, and this version reads and writes'),
  (tear, {}, r'line 2 of .*results.jsonl is not JSON'),
  (lambda lines: lines.append('[]'), {}, 'line 7 of .* is not a JSON object'),
])
def test_a_workdir_of_something_else_is_left_alone(
  edit, changes, said, finished
):
  workdir, _ = finished
  if edit:
    change(workdir, edit)
  before, measure = contents(workdir), Measure()
  with pytest.raises(ValueError, match=said) as caught:
    go(workdir, measure, [*POINTS, Point('new', 1, '', {})], **changes)
  assert '\n' not in str(caught.value)
  assert contents(workdir) == before and not measure.asked


def test_a_folder_that_holds_no_run_is_left_alone(tmp_path):
  (tmp_path / 'thesis.txt').write_text('three years of work')
  before, measure = contents(tmp_path), Measure()
  with pytest.raises(ValueError, match='not empty and holds no run') as caught:
    go(tmp_path, measure)
  assert '\n' not in str(caught.value)
  assert contents(tmp_path) == before and not measure.asked


@pytest.mark.parametrize('measured, said', [
  ({'nfe': 3}, 'nfe is 3, and the column holds float'),
  ({'gap_error': 'small'}, "gap_error is 'small', and the column holds float"),
  ({'own': 'word'}, "own is 'word', and the column holds int"),
])
def test_a_column_has_one_type(measured, said, tmp_path):
  go(tmp_path, lambda point: {'own': 1, 'gap': 0.5}, POINTS[:2])
  before = contents(tmp_path)
  with pytest.raises(TypeError, match=said):
    go(tmp_path, lambda point: measured)  # a run that goes on
  assert contents(tmp_path) == before
  go(tmp_path, lambda point: {'own': None, 'gap': None})


def test_finite_numbers():
  assert columns.finite(float('inf')) is columns.finite('N/A') is None
  assert columns.finite(2) == 2


def test_more_points_go_on_and_rows_that_nobody_asks_for_stay(tmp_path):
  """Of a config whose `values` choose points, and `rows` do not."""
  def run(values, measure, rows=2):
    points = [Point('chain', 8, 'uniform', {'k': k}) for k in values]
    config = ml_collections.ConfigDict(
      {'seed': 3, 'rows': rows, 'values': {'k': values}}
    )
    return sweep('toy', tmp_path, config, points, measure, free=('values',))

  file, measure = tmp_path / 'results.jsonl', Measure()
  first = run((1, 4), measure)
  kept = file.read_bytes()
  more = run((4, 2, 8), measure)
  assert [x.settings['k'] for x in measure.asked] == [1, 4, 2, 8]
  assert [row['settings']['k'] for row in more] == [4, 2, 8]
  assert more[0] == first[1] and file.read_bytes().startswith(kept)
  assert json.loads((tmp_path / 'config.json').read_text())['values'] == {
    'k': [4, 2, 8]
  }
  assert run((1,), measure) == first[:1] and len(measure.asked) == 4
  before = contents(tmp_path)
  with pytest.raises(ValueError, match=r'config .different: rows.: use'):
    run((1,), measure, rows=3)
  assert contents(tmp_path) == before


def test_changed_values_are_named_with_dots():
  one = {'a': {'b': 1, 'c': {'d': 2}}, 'free': 1, 'n': None}
  other = {'a': {'b': 1, 'c': {'d': 3}, 'e': 0}, 'free': 2}
  assert records.different(one, other, ('free',)) == ['a.c.d', 'a.e', 'n']
  assert records.different(one, one) == []


def test_rows_of_another_experiment_are_left_alone(finished):
  workdir, _ = finished
  change(workdir, lambda lines: lines.append(
    lines[0].replace('"toy"', '"game"')
  ))
  before = contents(workdir)
  with pytest.raises(ValueError, match='has rows of game, not of toy'):
    go(workdir, Measure())
  assert contents(workdir) == before


def test_how_long_it_takes_is_said_beforehand(tmp_path, capsys):
  config = ml_collections.ConfigDict({'seed': 3, 'k': 0})
  point = lambda subject, k: Point(subject, 8, 'uniform', {'k': k})

  def run(points, seconds=None):
    sweep('toy', tmp_path, config, points, Measure(), (), ('k',), seconds)
    return capsys.readouterr().out.splitlines()[0]

  assert run([point('a', 1), point('b', 1)], 45.0) == (
    'toy: 2 rows, 0 there, 2 to measure: about 90 s, at 45 s a row, as with the'
    ' default config'
  )
  file = tmp_path / 'results.jsonl'
  file.write_text(file.read_text().replace('"took": 1.0', '"took": 300.0', 1))
  a, b = [point('a', k) for k in (1, 2, 3)], [point('b', k) for k in (1, 2)]
  assert run([*a, *b]) == (  # a takes as long as a did, b as b
    'toy: 5 rows, 2 there, 3 to measure: about 10 min, by those that are there'
  )
  assert run([*a, *b]) == 'toy: all 5 rows are there'
  rows = [dict(point('a', 1).columns(), took=took) for took in (10.0, 20.0)]
  assert sweep_lib.remaining([point('a', 5), point('c', 1)], rows) == 30
  assert sweep_lib.remaining([point('a', 5)], []) is None


def test_a_long_setting_says_that_it_runs(tmp_path, monkeypatch):
  """Off a terminal a line comes though nobody updates the bar."""
  log = io.StringIO()
  monkeypatch.setattr(progress, 'SILENT', 0.02)
  monkeypatch.setattr(sys, 'stderr', log)

  def slow(point):
    many, end = log.getvalue().count('\n') + 2, time.monotonic() + 20
    while log.getvalue().count('\n') < many and time.monotonic() < end:
      time.sleep(0.005)
    return {'nfe': 1.0}

  go(tmp_path, slow, POINTS[:2])
  said = log.getvalue().splitlines()
  assert said[0].startswith('toy: 0/2 rows in 00:0')
  assert said[0].endswith(', now chain 8 uniform, k 1')
  last = [line for line in said if ' 1/2 rows' in line]
  assert last[-1].endswith(', about 1 s to go, now chain 8 uniform, k 1')


def test_what_is_asked_for_twice_or_not_at_all(tmp_path):
  for points, said in (
    (POINTS + POINTS[2:3], 'chain 8 uniform, k 1 is asked for twice'),
    ([], 'nothing is asked for'),
    ([Point('chain', 8, 'uniform', {'k': float('nan')})], 'settings is .*nan'),
  ):
    with pytest.raises(ValueError, match=said):
      go(tmp_path / 'run', Measure(), points)
  assert not (tmp_path / 'run').exists()


def test_a_row_that_is_there_twice_is_named(finished):
  workdir, _ = finished
  change(workdir, lambda lines: lines.insert(4, lines[1]))
  before = contents(workdir)
  with pytest.raises(ValueError, match='lines 2 and 5 of .* same row twice'):
    go(workdir, Measure())
  assert contents(workdir) == before


def test_a_number_that_json_lacks_ends_the_job_and_keeps_the_rows(tmp_path):
  rows = iter([1.0, 2.0, float('inf')])
  with pytest.raises(ValueError, match='nfe is inf, and JSON has no such'):
    go(tmp_path / 'run', lambda point: {'nfe': next(rows)})
  assert len((tmp_path / 'run' / 'results.jsonl').read_text().splitlines()) == 2
