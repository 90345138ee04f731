"""One loop for all experiments: measure what is not there yet, row by row.

results.jsonl holds a row per Point, all of one schema: `schema` (its version),
`experiment`, the columns of the Point, what was measured (columns.py has what
experiments share), `took` and `origin`. A run that was stopped goes on, and so
does one that is asked for more; rows of another version are refused.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from punt_jax import files, jsonl
from punt_jax.cli import columns, records
from punt_jax.types import FilePath


class Point(NamedTuple):
  """What a row is about, and what tells it from all others."""

  subject: str  # the world, model or task
  length: int  # L
  sampler: str
  settings: dict[str, Any]  # its hyperparameters, JSON
  about: Mapping[str, Any] | tuple[()] = ()  # {column: value}: what else rows
  # differ in

  def columns(self) -> dict[str, Any]:
    """Its part of a row, as it comes back from a file."""
    row = {**self._asdict(), **dict(self.about)}
    del row['about']
    return as_read(row)


def as_read(row: dict[str, Any]) -> dict[str, Any]:
  """A row as it comes back from a file: lists for tuples."""
  return json.loads(json.dumps(row))


def grid(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Every combination of {name: a value or several}, as dicts."""
  several = lambda v: v if isinstance(v, (tuple, list)) else (v,)
  many = map(several, settings.values())
  return [
    dict(zip(settings, one, strict=True)) for one in itertools.product(*many)
  ]


def sweep(
  experiment: str, workdir: FilePath, config: Any, points: Sequence[Point],
  measure: Callable[[Point], dict[str, Any]], shown: Sequence[str] = (),
  free: Iterable[str] = (), seconds: float | None = None,
  digests: Mapping[str, str] | tuple[()] = (),
) -> list[dict[str, Any]]:
  """Measures every Point that has no row in workdir yet.

  Points that share a subject or a compiled program should stand together, and
  `measure` keep the last of each (functools.lru_cache): nothing is built for
  points that are done. Rows that no Point asks for stay in results.jsonl.

  Args:
    experiment: its name.
    workdir: folder of this run.
    config: of this run; the folder belongs to all of it that is not free.
    points: of all rows.
    measure: Point -> {column: value}.
    shown: columns that are printed as a row is finished.
    free: keys of the config that no row depends on beside its Point: they may
      change from one start to the next.
    seconds: that a row took with the default config; None: nobody measured.
    digests: of what all rows read, see records.claim.

  Returns:
    the rows, in the order of points.

  Raises:
    ValueError: no points, or one twice; workdir is in use or holds something
      else, rows of another schema, or one twice.
    TypeError: a column has another type than elsewhere.
  """
  keys = check(points)
  rows, lock = records.resume(workdir, config, free, experiment, digests)
  with lock:
    file = pathlib.Path(workdir) / 'results.jsonl'
    records.once(rows, keys, file)
    return fill(
      experiment, file, rows, points, measure, shown, seconds,
      records.origin(config.seed),
    )


def check(points: Sequence[Point]) -> set[str]:
  """The columns that tell points apart; a ValueError if one is there twice."""
  if not points:
    raise ValueError(
      'nothing is asked for: a list of the config is empty that must name at'
      ' least one thing'
    )
  seen = set()
  for point in points:
    said = jsonl.dumps(point.columns())
    if said in seen:
      raise ValueError(f'{name(point)} is asked for twice: name it once')
    seen.add(said)
  return {key for point in points for key in point.columns()}


def fill(
  experiment: str, file: pathlib.Path, rows: list[dict[str, Any]],
  points: Sequence[Point], measure: Callable[[Point], dict[str, Any]],
  shown: Sequence[str], seconds: float | None, origin: dict[str, Any],
) -> list[dict[str, Any]]:
  """Measures what `rows`, those of a file, lack -> the rows of all points."""
  # Here, after an experiment may have set TQDM_DISABLE for others.
  from punt_jax.viz import progress

  found: list[Any] = [find(rows, point) for point in points]
  left = [n for n, row in enumerate(found) if row is None]
  vary = varying([dict(point.about) for point in points])
  print(plan(experiment, points, left, rows, seconds), flush=True)
  bar = progress.progress(
    what=experiment, total=len(points), unit='row',
    start=len(points) - len(left),
  )
  bar.bar_format = '{desc}: {n_fmt}/{total_fmt} rows in {elapsed}{postfix}'
  with progress.alive(bar):
    for i, n in enumerate(left):
      point = points[n]
      wait = remaining([points[m] for m in left[i:]], rows, seconds)
      wait = '' if wait is None else f'about {progress.duration(wait)} to go, '
      bar.set_postfix_str(f'{wait}now {name(point)}', refresh=False)
      begun = time.perf_counter()
      with files.whole():
        row = {
          'schema': records.SCHEMA, 'experiment': experiment,
          **point.columns(), **measure(point),
          'took': time.perf_counter() - begun, 'origin': origin,
        }
        row = keep(file, as_read(row), point, [x for x in found if x])
      found[n] = row
      rows.append(row)
      about = {k: v for k, v in dict(point.about).items() if k in vary}
      said = columns.line(row, ('nfe', *shown), about)
      bar.write(f'{n + 1:4d}/{len(points)} {said}')
      bar.set_postfix_str('', refresh=False)
      bar.update()
  return found


def varying(dicts: Sequence[Mapping[str, Any]]) -> set[str]:
  """The keys whose values are not the same in all of them."""
  return {k for one in dicts for k in one if one[k] != dicts[0].get(k)}


def find(
  rows: Iterable[dict[str, Any]], point: Point
) -> dict[str, Any] | None:
  """The row of a Point, or None."""
  about = point.columns().items()
  return next((row for row in rows if about <= row.items()), None)


def keep(
  file: pathlib.Path, row: dict[str, Any], point: Point,
  others: Sequence[dict[str, Any]],
) -> dict[str, Any]:
  """Checks a row and appends it to a file -> the row."""
  about = point.columns()
  hidden = {key for key in about if about[key] != row[key]}
  assert not hidden, f'measured columns hide {hidden} of a point'
  columns.check(row, others)
  jsonl.append(file, row)
  return row


def name(point: Point) -> str:
  """A Point in a few words."""
  said = f'{point.subject} {point.length} {point.sampler}'
  return f'{said}, {columns.words(point.settings)}'.removesuffix(', ')


def remaining(
  points: Iterable[Point], rows: Iterable[dict[str, Any]],
  otherwise: float | None = None,
) -> float | None:
  """About how many seconds points will take, or None.

  A row takes what those took that are most like it.

  Args:
    points: that are left.
    rows: that are there.
    otherwise: seconds of a row if none is there.
  """
  groups = ('subject', 'length', 'sampler'), ('subject', 'length'), ()
  key = lambda columns, keys: tuple(map(columns.get, keys))
  times = {}
  for row in rows:
    for keys in groups if 'took' in row else ():
      times.setdefault((keys, key(row, keys)), []).append(row['took'])
  total = 0.0
  for columns_ in (point.columns() for point in points):
    near = ((keys, key(columns_, keys)) for keys in groups)
    own = next((times[x] for x in near if x in times), None)
    a_row = sum(own) / len(own) if own else otherwise
    if a_row is None:
      return None
    total += a_row
  return total


def plan(
  experiment: str, points: Sequence[Point], left: Sequence[int],
  rows: Sequence[dict[str, Any]], seconds: float | None,
) -> str:
  """What is going to be measured, and about how long that takes: a line."""
  from punt_jax.viz.progress import duration

  there = len(points) - len(left)
  if not left:
    return f'{experiment}: all {there} rows are there'
  said = f'{experiment}: {len(points)} rows, {there} there, {len(left)} to'
  wait = remaining([points[n] for n in left], rows, seconds)
  if wait is None:
    return f'{said} measure; the first one tells how long they take'
  known = any('took' in row for row in rows)
  by = 'by those that are there' if known else (
    f'at {seconds:g} s a row, as with the default config'
  )
  return f'{said} measure: about {duration(wait)}, {by}'
