"""What a run leaves in its work folder: the config it belongs to, JSON lines.

Shared by training and experiments.
"""

import json
import os
import pathlib
import subprocess


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
    replace_text(file, json.dumps(mine, indent=2))
    return
  theirs = json.loads(file.read_text())
  changed = sorted(
    k for k in (set(mine) | set(theirs)) - set(free)
    if mine.get(k) != theirs.get(k)
  )
  if changed:
    raise ValueError(
      f'{workdir} holds a run with another config (different:'
      f' {", ".join(changed)}): use another --workdir'
    )


def replace_text(file, string):
  """Writes a file so that a kill leaves the old one or the new one."""
  part = file.with_suffix('.part')
  part.write_text(string)
  os.replace(part, file)


def cut_rows(file, last):
  """Drops the JSONL rows with step > last, and a half-written last row."""
  if not file.exists():
    return
  kept = []
  for line in file.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if row['step'] <= last:
      kept.append(line + '\n')
  replace_text(file, ''.join(kept))


def add_row(file, row):
  """Appends one JSON line."""
  with open(file, 'a') as stream:
    stream.write(json.dumps(row) + '\n')


def revision():
  """The git revision of this source, or None outside a checkout."""
  here = pathlib.Path(__file__).parent
  command = ['git', 'rev-parse', 'HEAD']
  found = subprocess.run(command, cwd=here, capture_output=True, text=True)
  return found.stdout.strip() or None
