"""Samplers on antibody models that were trained elsewhere: Sapiens, AntiBERTy.

  pip download --no-deps -d wheels antiberty==0.1.3 sapiens==1.0.5
  python -m experiments.antibody --config=configs/antibody.py \\
    --workdir=runs/antibody --wheels=wheels

One model writes variable domains: whole ones, or the loops (CDRs) of natural
heavy chains. The other model judges them, see experiments/antibody/judge.py;
experiments/antibody/chains.py says which chain each region of them resembles
and how varied they are. Writes results.jsonl (a row per task and setting; a run
that was stopped goes on), domains/, antibody.png and table.md.
"""

import itertools
import pathlib
import time
from typing import NamedTuple

import jax

from experiments.antibody import chains, judge, models, plot, writer
from experiments.common import columns
from experiments.frontier.__main__ import sweep
from punt_jax import jsonl, metrics, samplers
from punt_jax.checks import in_range, known
from punt_jax.cli import command, records
from punt_jax.generation import options

WHEELS = {
  'antiberty': 'antiberty-0.1.3-py3-none-any.whl',
  'sapiens': 'sapiens-1.0.5-py3-none-any.whl',
}
TASKS = 'domain', 'loops'
CHAINS = 'heavy', 'light', 'mixed', 'unclear'


class Point(NamedTuple):
  """What a row of results.jsonl is about."""

  task: str
  choice: options.Choice | None  # None: natural antibodies

  def identity(self):
    name = self.choice.name if self.choice else 'natural'
    return self.task, name, str(self.choice or '')


def load(name, wheels):
  """{'heavy', 'light' or 'both': Antibody} of one of WHEELS.

  Raises:
    ValueError: one sentence, if the wheel is not there.
  """
  wheel = pathlib.Path(wheels) / WHEELS[known('model', name, WHEELS)]
  if name == 'antiberty':
    found = {'both': models.antiberty(wheel)}
  else:
    found = {
      chain: models.sapiens(wheel, chain[0])
      for chain in ('heavy', 'light')
    }
  built = {key: models.build(x) for key, x in found.items()}
  return {
    key: model._replace(params=jax.device_put(model.params))
    for key, model in built.items()
  }


def points(config):
  """Every Point of a config, those that share a compilation together."""
  for name, least in (('rows', 2), ('judged', 2), ('chunk', 1), ('asked', 1)):
    in_range(name, config[name], least)
  in_range('asked', config.asked, 1, config.groups)
  found = []
  for task, settings in config.tasks.to_dict().items():
    known('task', task, TASKS)
    found.append(Point(task, None))
    choices = sweep(settings, 1, ())
    found += [Point(task, choice) for choice in choices]
  place = lambda point: (point.choice is not None, [
    samplers.__all__.index(point.choice.name),
    sorted(point.choice.words.items()),
  ] if point.choice else [])
  return sorted(found, key=place)


def describe(config, domains, open_, judges, asked):
  """What the metrics say of finished domains: {name: number}."""
  few = slice(0, config.judged)
  nll = judge.least(
    judges, domains[few], open_[few], config.groups, asked, config.seed
  )
  labels = [chains.chain(domain) for domain in domains]
  shares = {}
  for name in CHAINS:
    share = metrics.estimate([label == name for label in labels])
    shares |= {name: share.mean, f'{name}_error': share.stderr}
  # What was given is the same in all rows of a frame and says nothing.
  written = [
    ''.join(c for c, x in zip(domain, canvas, strict=True) if x == '_')
    for domain, canvas in zip(domains, open_, strict=True)
  ]
  return {
    **columns.average('nll', nll),
    **shares,
    **chains.variety(written),
    'rows': len(domains),
    'judged': len(nll),
    'examples': domains[:4],
  }


def fill(config, point, model, judges, run, compiled, workdir):
  """The row of results.jsonl about one point; its domains into a file."""
  open_ = writer.canvases(config, point.task)
  start = time.perf_counter()
  if point.choice is None:
    domains, open_ = writer.natural(config, point.task)
    cost = {'nfe': 0.0, 'nfe_error': 0.0}
    settings, asked = {}, config.groups
  else:
    decoded, domains = writer.write(
      config, model, point.choice, run, open_
    )
    cost = columns.cost(decoded)
    settings, asked = point.choice.settings(), config.asked
  seconds = time.perf_counter() - start
  task, name, label = point.identity()
  file = workdir / 'domains' / f'{task} {name} {label}'.strip()
  file.parent.mkdir(exist_ok=True)
  file.write_text('\n'.join(domains) + '\n')
  return {
    'model': config.model,
    'task': task,
    'sampler': name,
    'label': label,
    'settings': settings,
    'temperature': config.temperature,
    **cost,
    **describe(config, domains, open_, judges, asked),
    'seconds': seconds,  # of decoding, with compilation if that was needed
    'judge_seconds': time.perf_counter() - start - seconds,
    'compiled': compiled,
    **records.origin(config.seed),
  }


def run(config, workdir, wheels='.'):
  """The whole grid. Returns the rows of results.jsonl."""
  plan = points(config)
  writers = load(config.model, wheels)
  judges = load(next(name for name in WHEELS if name != config.model), wheels)
  model = writers.get('both') or writers['heavy']
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  done = {(row['task'], row['sampler'], row['label']) for row in rows}
  todo = [point for point in plan if point.identity() not in done]
  program = lambda p: p.choice and (p.choice.name, str(p.choice.words))
  for _, group in itertools.groupby(todo, program):
    group = list(group)
    decode = None
    if group[0].choice:
      longest = model.length  # more than any canvas has
      most = max(options.most_steps(p.choice, longest) for p in group)
      decode = writer.compile_one(
        config, model, group[0].choice, most
      )
    for i, point in enumerate(group):
      row = fill(
        config, point, model, list(judges.values()), decode, i == 0, workdir
      )
      rows.append(row)
      jsonl.append(workdir / 'results.jsonl', row)
      print(progress(row, len(rows), len(plan)), flush=True)
  plot.write(workdir / 'antibody.png', rows)
  (workdir / 'table.md').write_text(plot.table(rows))
  print(f'in {workdir}: results.jsonl, domains, antibody.png, table.md')
  return rows


def progress(row, done, total):
  """A line about a row that is finished."""
  return (
    f'{done:3d}/{total} {row["task"]:7}{row["sampler"]:14}{row["label"]:28}'
    f'{row["nfe"]:6.1f} passes, judge {row["nll"]:.3f} +- '
    f'{row["nll_error"]:.3f}, heavy {row["heavy"]:.1%}, light '
    f'{row["light"]:.1%}, mixed {row["mixed"]:.1%}, identity '
    f'{row["identity"]:.2f}, {row["seconds"]:.0f} + '
    f'{row["judge_seconds"]:.0f} s'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(
    run, needs=('workdir', 'wheels'),
    wheels='Folder with the wheels of antiberty 0.1.3 and sapiens 1.0.5.',
  )
