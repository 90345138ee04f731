"""What a run leaves in its work folder: the config it belongs to, and rows.

A workdir belongs to one config. A run that is started again finds the rows it
has finished in results.jsonl, a half-written last row is dropped, and only the
rest is computed.
"""

import json
import pathlib
import subprocess

import jax

from punt_jax import jsonl

SCHEMA = 2  # of a row of results.jsonl; a reader refuses any other
# These change what a row of a generator costs, not what is written: a run may
# go on with others.
FREE = 'batch', 'bucket', 'group'


def claim(workdir, config, free=()):
  """Makes workdir this config's own, or raises ValueError.

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
    jsonl.replace_text(file, json.dumps(mine, indent=2))
    return
  theirs = jsonl.read_object(file)
  changed = sorted(
    k for k in (set(mine) | set(theirs)) - set(free)
    if mine.get(k) != theirs.get(k)
  )
  if changed:
    raise ValueError(
      f'{workdir} holds a run with another config (different:'
      f' {", ".join(changed)}): use another --workdir'
    )


def resume(workdir, config, free=()):
  """Makes workdir this config's own -> the rows that are already there.

  Args:
    workdir: folder.
    config: of this run.
    free: keys of it that may change from one start to the next.

  Raises:
    ValueError: workdir holds something else, or rows of another schema;
      nothing is written then.
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
  claim(workdir, config, free)
  jsonl.replace(file, rows)
  return rows


def cut_rows(file, last):
  """Drops the rows with step > last, and a half-written last row."""
  if file.exists():
    jsonl.replace(file, [x for x in jsonl.read(file) if x['step'] <= last])


def revision():
  """The git revision of this source, or None outside a checkout."""
  here = pathlib.Path(__file__).parent
  command = ['git', 'rev-parse', 'HEAD']
  found = subprocess.run(command, cwd=here, capture_output=True, text=True)
  return found.stdout.strip() or None


def origin(seed):
  """What a row says about where it comes from."""
  return {
    'schema': SCHEMA,
    'seed': seed,
    'revision': revision(),
    'jax': jax.__version__,
    'device': jax.devices()[0].device_kind,
  }
