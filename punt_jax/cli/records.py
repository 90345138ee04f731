"""What a run leaves in its work folder: the config it belongs to, and rows.

A workdir belongs to what its rows depend on. A run that is started again finds
the rows it has finished in results.jsonl, a half-written last row is dropped,
and only the rest is computed. Values of the config on which no row depends may
be others then: they choose which rows are asked for, or how they are shown.
"""

import json
import pathlib
import subprocess
from collections.abc import Iterable
from typing import Any

import jax

from punt_jax import files, jsonl
from punt_jax.types import FilePath

SCHEMA = 2  # of a row of results.jsonl; a reader refuses any other
# These change what a row of a generator costs, not what is written: a run may
# go on with others.
FREE = 'batch', 'bucket', 'group'


def claim(
  workdir: pathlib.Path, config: Any, free: Iterable[str] = ()
) -> None:
  """Makes workdir this config's own, or raises ValueError.

  config.json is that of the newest start.

  Args:
    workdir: pathlib.Path.
    config: of this run.
    free: keys of it that may differ from those of the run that is there.
  """
  file = workdir / 'config.json'
  mine = json.loads(config.to_json())
  if not file.exists():
    if workdir.exists() and any(workdir.iterdir()):
      raise ValueError(
        f'{workdir} is not empty and holds no run: use another --workdir'
      )
    workdir.mkdir(parents=True, exist_ok=True)
  elif changed := different(mine, jsonl.read_object(file), free):
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

  Those of dicts in them are named with dots: 'settings.vocab'.
  """
  found = []
  for key in sorted((one.keys() | other.keys()) - set(free)):
    a, b = one.get(key), other.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      found += different(a, b, (), f'{above}{key}.')
    elif a != b or (key in one) != (key in other):
      found.append(above + key)
  return found


def resume(
  workdir: FilePath, config: Any, free: Iterable[str] = (),
  experiment: str | None = None,
) -> list[dict[str, Any]]:
  """Makes workdir this config's own -> the rows that are already there.

  Args:
    workdir: folder.
    config: of this run.
    free: keys of it that may change from one start to the next.
    experiment: whose rows they must be; None: they do not say.

  Raises:
    ValueError: workdir holds something else, or rows of another schema or
      experiment; nothing is written then.
  """
  workdir = pathlib.Path(workdir)
  file = workdir / 'results.jsonl'
  rows = jsonl.read(file)
  for row in rows:
    if row.get('schema') != SCHEMA:
      raise ValueError(
        f'{file} has rows of schema {row.get("schema", 1)}, and this version'
        f' reads and writes schema {SCHEMA}: use another --workdir'
      )
    if experiment and row['experiment'] != experiment:
      raise ValueError(
        f'{file} has rows of {row["experiment"]}, not of {experiment}: use'
        ' another --workdir'
      )
  claim(workdir, config, free)
  jsonl.replace(file, rows)
  return rows


def cut_rows(file: pathlib.Path, last: int) -> None:
  """Drops the rows with step > last, and a half-written last row."""
  if file.exists():
    jsonl.replace(file, [x for x in jsonl.read(file) if x['step'] <= last])


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
