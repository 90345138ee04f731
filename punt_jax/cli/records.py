"""What a run leaves in its work folder: the config it belongs to, and rows.

A workdir belongs to what its rows depend on. A run that is started again finds
the rows it has finished in results.jsonl, a half-written last row is dropped,
and only the rest is computed. Values of the config on which no row depends may
be others then: they choose which rows are asked for, or how they are shown.
Models and files are known by the digests of their content, which may lie
elsewhere then, but not change. One process at a time has a workdir.
"""

import json
import pathlib
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import jax

from punt_jax import files, jsonl
from punt_jax.types import FilePath

SCHEMA = 2  # of a row of results.jsonl; a reader refuses any other
# These change what a row of a generator costs, not what is written: a run may
# go on with others.
FREE = 'batch', 'bucket', 'group'


def claim(
  workdir: FilePath, config: Any, free: Iterable[str] = (),
  digests: Mapping[str, str] | tuple[()] = (),
) -> IO[str]:
  """Makes workdir this config's own -> its lock, to be held by the job.

  Call it when all settings have been checked. config.json is that of the newest
  start, with the digests of what the run reads. The lock ends when it is closed
  or the process ends.

  Args:
    workdir: folder.
    config: of this run.
    free: keys of it that may differ from those of the run that is there.
    digests: {'a.b' of the config: digest of what it names, or other input}. The
      content tells a run from another then, not what it is called.

  Raises:
    ValueError: workdir is in use, or holds something else; it is left alone.
  """
  workdir, mine = pathlib.Path(workdir), plain(config, digests)
  lock = enter(workdir)
  try:
    own(workdir, mine, {*free, *digests})
  except BaseException:
    lock.close()
    raise
  return lock


def enter(workdir: pathlib.Path) -> IO[str]:
  """Locks a folder that is new, empty or a run's -> the lock."""
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'{workdir} is a file: give a folder as --workdir')
  if workdir.exists() and not (workdir / 'config.json').exists():
    # A start that was killed may have left these.
    ours = files.LOCK, files.part_of('config.json').name
    if any(file.name not in ours for file in workdir.iterdir()):
      raise ValueError(
        f'{workdir} is not empty and holds no run: use another --workdir'
      )
  workdir.mkdir(parents=True, exist_ok=True)
  return files.lock(workdir)


def plain(
  config: Any, digests: Mapping[str, str] | tuple[()]
) -> dict[str, Any]:
  """What config.json says of a run; 'inf' for what JSON has no number for."""
  word = lambda name: name.replace('inity', '').lower()
  mine = json.loads(config.to_json(), parse_constant=word)
  return mine | ({'digests': dict(digests)} if digests else {})


def own(
  workdir: pathlib.Path, mine: dict[str, Any], free: Iterable[str]
) -> None:
  """Compares a config with the one that is there, and takes its place."""
  file = workdir / 'config.json'
  if file.exists():
    changed = different(mine, jsonl.read_object(file), free)
    inputs = [x for x in changed if x.split('.')[0] == 'digests']
    if inputs and inputs == changed:
      names = [x.partition('.')[2] or 'input' for x in inputs]
      raise ValueError(
        f'{workdir} holds a run with another {" and another ".join(names)} (its'
        ' content, by SHA-256): use another --workdir'
      )
    if changed:
      raise ValueError(
        f'{workdir} holds a run with another config (different:'
        f' {", ".join(changed)}): use another --workdir'
      )
  files.write(file, json.dumps(mine, indent=2))


def different(
  one: dict[str, Any], other: dict[str, Any], free: Iterable[str] = (),
  above: str = '',
) -> list[str]:
  """Names of the values in which two dicts differ, `free` ones left out.

  Those of dicts in them are named with dots, in `free` too: 'settings.vocab'.
  """
  found = []
  free = set(free)
  for key in sorted(one.keys() | other.keys()):
    a, b = one.get(key), other.get(key)
    if above + key in free:
      continue
    if isinstance(a, dict) and isinstance(b, dict):
      found += different(a, b, free, f'{above}{key}.')
    elif a != b or (key in one) != (key in other):
      found.append(above + key)
  return found


def resume(
  workdir: FilePath, config: Any, free: Iterable[str] = (),
  experiment: str | None = None,
  digests: Mapping[str, str] | tuple[()] = (),
) -> tuple[list[dict[str, Any]], IO[str]]:
  """Makes workdir this config's own -> the rows that are there, its lock.

  Args:
    workdir: folder.
    config: of this run.
    free: keys of it that may change from one start to the next.
    experiment: whose rows they must be; None: they do not say.
    digests: see `claim`.

  Raises:
    ValueError: workdir is in use or holds something else, or rows of another
      schema or experiment; nothing is written then.
  """
  workdir, mine = pathlib.Path(workdir), plain(config, digests)
  file = workdir / 'results.jsonl'
  lock = enter(workdir)
  try:
    rows = jsonl.read(file)
    for row in rows:
      if row.get('schema') != SCHEMA:
        raise ValueError(
          f'{file} has rows of schema {row.get("schema", 1)!r:.40}, and this'
          f' version reads and writes schema {SCHEMA}: use another --workdir'
        )
      if experiment and row.get('experiment') != experiment:
        raise ValueError(
          f'{file} has rows of {row.get("experiment")!s:.40}, not of'
          f' {experiment}: use another --workdir'
        )
    own(workdir, mine, {*free, *digests})
    jsonl.replace(file, rows)
  except BaseException:
    lock.close()
    raise
  return rows, lock


def once(
  rows: Sequence[dict[str, Any]], keys: Iterable[str], file: FilePath
) -> None:
  """Checks that no two rows of a file that have `keys` agree in all of them.

  Raises:
    ValueError: two do; it names their lines.
  """
  keys, seen = list(keys), {}
  for n, row in enumerate(rows, 1):
    mine = json.dumps([row.get(key) for key in keys], sort_keys=True)
    if mine in seen and row.keys() >= {*keys}:
      raise ValueError(
        f'lines {seen[mine]} and {n} of {file} are the same row twice: delete'
        ' one of them'
      )
    seen[mine] = n


def cut_rows(file: pathlib.Path, last: int) -> None:
  """Drops the rows with step > last, and a half-written last row.

  Raises:
    ValueError: one sentence, if a row says no step.
  """
  if file.exists():
    rows = steps(file)
    jsonl.replace(file, [row for row in rows if row['step'] <= last])


def steps(file: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a file, each with its step.

  Raises:
    ValueError: one sentence, if a row says no step.
  """
  rows = jsonl.read(file)
  for n, row in enumerate(rows, 1):
    if not isinstance(row.get('step'), int):
      raise ValueError(f'line {n} of {file} has no "step", a whole number')
  return rows


def revision() -> str | None:
  """The git revision of this source, or None outside a checkout."""
  here = pathlib.Path(__file__).parent
  command = ['git', 'rev-parse', 'HEAD']
  found = subprocess.run(command, cwd=here, capture_output=True, text=True)
  return found.stdout.strip() or None


def origin(seed: int) -> dict[str, Any]:
  """What a row says about where it comes from."""
  return {
    'schema': SCHEMA,
    'seed': seed,
    'revision': revision(),
    'jax': jax.__version__,
    'device': jax.devices()[0].device_kind,
  }
