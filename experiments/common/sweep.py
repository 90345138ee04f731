"""One loop for all experiments: measure what is not there yet, row by row.

results.jsonl holds a row per Point, all of one schema: `schema` (its version),
`experiment`, the columns of the Point, what was measured (columns.py has what
experiments share) and `origin`. A run that was stopped goes on; rows of another
version are refused.
"""

import itertools
import json
import pathlib
from typing import Any, NamedTuple

from experiments.common import columns
from punt_jax import jsonl
from punt_jax.cli import records


class Point(NamedTuple):
  """What a row is about, and what tells it from all others."""

  subject: str  # the world, model or task
  length: int  # L
  sampler: str
  settings: dict  # its hyperparameters, JSON
  about: Any = ()  # {column: value}: what else rows differ in

  def columns(self):
    """Its part of a row, as it comes back from a file."""
    row = {**self._asdict(), **dict(self.about)}
    del row['about']
    return as_read(row)


def as_read(row):
  """A row as it comes back from a file: lists for tuples."""
  return json.loads(json.dumps(row))


def grid(settings):
  """Every combination of {name: a value or several}, as dicts."""
  several = lambda v: v if isinstance(v, (tuple, list)) else (v,)
  many = map(several, settings.values())
  return [
    dict(zip(settings, one, strict=True)) for one in itertools.product(*many)
  ]


def sweep(experiment, workdir, config, points, measure, shown=(), free=()):
  """Measures every Point that has no row in workdir yet.

  Points that share a subject or a compiled program should stand together, and
  `measure` keep the last of each (functools.lru_cache): nothing is built for
  points that are done.

  Args:
    experiment: its name.
    workdir: folder of this run.
    config: of this run; the folder belongs to it.
    points: of all rows.
    measure: Point -> {column: value}.
    shown: columns that are printed as a row is finished.
    free: see records.resume.

  Returns:
    the rows, in the order of points.

  Raises:
    ValueError: workdir holds something else, or rows of another schema.
    TypeError: a column has another type than elsewhere.
  """
  import tqdm  # here, after an experiment may have set TQDM_DISABLE for others

  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config, free)
  origin = records.origin(config.seed)
  found = []
  bar = tqdm.tqdm(points, unit='row', disable=None)
  for n, point in enumerate(bar, 1):
    about = point.columns()
    row = next((row for row in rows if about.items() <= row.items()), None)
    if row is None:
      row = as_read({
        'schema': records.SCHEMA, 'experiment': experiment, **about,
        **measure(point), 'origin': origin,
      })
      hidden = {key for key in about if about[key] != row[key]}
      assert not hidden, f'measured columns hide {hidden} of a point'
      columns.check(row, found)
      jsonl.append(workdir / 'results.jsonl', row)
      said = columns.line(row, ('nfe', *shown), point.about)
      tqdm.tqdm.write(f'{n:4d}/{len(points)} {said}')
    found.append(row)
  return found
