"""results.jsonl of an experiment: a row per finished setting, resumable.

A workdir belongs to one config. A run that is started again finds the rows it
has finished, a half-written last row is dropped, and only the rest is computed.
"""

import json
import pathlib

import jax

from train import records

# These change what a row of the writer costs, not what is written: a run may go
# on with others.
FREE = 'batch', 'bucket', 'group'


def resume(workdir, config, free=()):
  """Makes workdir this config's own -> the rows that are already there.

  Args:
    workdir: folder.
    config: of this run.
    free: keys of it that may change from one start to the next.

  Raises:
    ValueError: workdir holds something else; nothing is written then.
  """
  workdir = pathlib.Path(workdir)
  records.claim(workdir, config, free)
  file = workdir / 'results.jsonl'
  rows = []
  for line in file.read_text().splitlines() if file.exists() else []:
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:  # killed while writing
      continue
  records.replace_text(file, ''.join(json.dumps(row) + '\n' for row in rows))
  return rows


def add(workdir, row):
  """Appends a row."""
  records.add_row(pathlib.Path(workdir) / 'results.jsonl', row)


def origin(seed):
  """What a row says about where it comes from."""
  return {
    'seed': seed,
    'revision': records.revision(),
    'jax': jax.__version__,
    'device': jax.devices()[0].device_kind,
  }
