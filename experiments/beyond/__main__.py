"""Beyond PUNT: which sampler needs fewer passes for the same errors?

  python -m experiments.beyond --config=configs/beyond.py --workdir=runs/beyond

Tries the ideas of experiments/beyond/contenders.py on the subjects of the config (see
experiments/common/subjects.py). Influence tables are learned first, from a warm-up
whose passes are reported on their own and, in `nfe_amortized`, spread over
config.amortize canvases. Writes results.jsonl (a row per subject, length and
setting; a run that was stopped goes on), tables/, beyond.png and verdict.txt.
"""

import itertools
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.beyond import plot
from experiments.beyond.contenders import CONTENDERS, FIXED, TABLES
from experiments.common import columns, subjects
from punt_jax import jsonl
from punt_jax.checks import in_range, known
from punt_jax.cli import command, records
from punt_jax.generation.warm_up import learn


def settings_of(config):
  """[(subject, length, contender, {knob: number})], programs together."""
  found = []
  for name, length, contenders in config.subjects:
    in_range('length', length, 2)
    for contender in contenders:
      known('contender', contender, CONTENDERS)
      known('contender without a grid:', contender, config.grids)
      grid = config.grids[contender].to_dict()
      values = [v if isinstance(v, tuple) else (v,) for v in grid.values()]
      for setting in itertools.product(*values):
        knobs = dict(zip(grid, setting, strict=True))
        found.append((name, length, contender, knobs))
  return found


def identity(name, length, contender, knobs):
  """What tells one row of results.jsonl from another."""
  return name, length, contender, tuple(sorted(knobs.items()))


def tables_of(config, subject, name, length, kinds, workdir):
  """{kind: table} and {kind: passes}; kept in workdir, so made only once."""
  tables, passes = {}, {}
  for kind in kinds:
    file = workdir / 'tables' / f'{name}_{length}_{kind}.npz'
    if not file.exists():
      file.parent.mkdir(exist_ok=True)
      made = learn(
        subject.model, subject.params, subject.vocab, length,
        config.warm_up[kind], config.seed + 1, subject.alike, kind,
      )
      part = file.with_suffix('.part')
      with open(part, 'wb') as stream:
        np.savez(stream, **made._asdict())
      part.replace(file)
      print(
        f'{name} {length}: table {kind} from {made.passes} passes', flush=True
      )
    with np.load(file) as saved:
      tables[kind], passes[kind] = saved['table'], int(saved['passes'])
  return tables, passes


def compile_one(subject, contender, fixed):
  """run({'params', 'tables'}, knobs, key, tokens)."""

  def build(params, knobs):
    model = subject.model(params['subject'])
    make = CONTENDERS[contender]
    return model, make({**knobs, **fixed}, params['tables'])

  return punt_jax.compile(build)


def run(config, workdir):
  """The whole comparison. Returns the rows of results.jsonl."""
  todo = settings_of(config)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  done = {
    identity(r['subject'], r['length'], r['contender'], r['knobs'])
    for r in rows
  }
  total = len(todo)
  todo = [setting for setting in todo if identity(*setting) not in done]
  for (name, length), group in itertools.groupby(todo, lambda s: s[:2]):
    group = list(group)
    subject = subjects.judged(config, name, length)
    kinds = dict.fromkeys(TABLES[s[2]] for s in group if s[2] in TABLES)
    tables, passes = tables_of(config, subject, name, length, kinds, workdir)
    params = {'subject': subject.params, 'tables': tables}
    programs = {}
    for _, _, contender, knobs in group:
      fixed = {k: v for k, v in knobs.items() if k in FIXED}
      program = contender, tuple(fixed.items())
      if program not in programs:
        programs[program] = compile_one(subject, contender, fixed)
      rows.append(fill(
        config, (name, length, contender, knobs), subject, params,
        programs[program], passes,
      ))
      jsonl.append(workdir / 'results.jsonl', rows[-1])
      print(progress(rows[-1], len(rows), total), flush=True)
  plot.write(workdir, rows)
  return rows


def fill(config, setting, subject, params, decode, passes):
  """A row of results.jsonl."""
  name, length, contender, knobs = setting
  count = config.rows if subject.alike is None else config.text_rows
  empty = np.full((count, length), subject.vocab, np.int32)
  traced = {k: float(v) for k, v in knobs.items() if k not in FIXED}
  start = time.perf_counter()
  decoded = decode(params, traced, jax.random.key(config.seed + 2), empty)
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - start
  cost = columns.cost(decoded)
  extra = passes[TABLES[contender]] if contender in TABLES else 0
  return {
    'subject': name,
    'length': length,
    'contender': contender,
    'knobs': knobs,
    **cost,
    'warm_up': extra,
    'nfe_amortized': cost['nfe'] + extra / config.amortize,
    **subject.errors(decoded),
    'rows': count,
    'seconds': seconds,
    **records.origin(config.seed),
  }


def progress(row, done, total):
  """A line about a row that is finished."""
  knobs = ', '.join(f'{k} {v:g}' for k, v in row['knobs'].items())
  return (
    f'{done:3d}/{total} {row["subject"]:14}{row["length"]:4d} '
    f'{row["contender"]:28}{knobs:30}{row["nfe"]:6.1f} passes, excess '
    f'{row["excess_nll"]:7.4f} +- {row["excess_nll_error"]:.4f}, law '
    f'{row["law"]:.4f}'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
