"""Samplers on antibody models that were trained elsewhere: Sapiens, AntiBERTy.

  pip download --no-deps -d wheels antiberty==0.1.3 sapiens==1.0.5
  python -m experiments.antibody --config=configs/antibody.py \\
    --workdir=runs/antibody --wheels=wheels

One model writes variable domains: whole ones, or the loops (CDRs) of natural
heavy chains. The other model judges them, see experiments/antibody/judge.py;
experiments/antibody/chains.py says which chain each region of them resembles
and how varied they are. Writes results.jsonl (a row per subject and setting; a
run that was stopped goes on), domains/, antibody.png and table.md.
"""

import functools
import pathlib
import time

import jax

from experiments.antibody import chains, judge, models, plot, writer
from experiments.common import columns
from punt_jax import files, metrics, samplers
from punt_jax.checks import in_range, known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.generation import options

WHEELS = {
  'antiberty': 'antiberty-0.1.3-py3-none-any.whl',
  'sapiens': 'sapiens-1.0.5-py3-none-any.whl',
}
SECONDS = 55.0  # a row, on two busy cores, see sweep
SUBJECTS = 'domain', 'loops'
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'temperature': (0.0,), 'rows': (2,), 'chunk': (1,),
  'shown': (0,), 'judged': (2,), 'groups': (1,), 'asked': (1,),
}
CHAINS = 'heavy', 'light', 'mixed', 'unclear'


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


def cases(config):
  """[(Point, Choice)], those that share a compilation together.

  The sampler of antibodies that nobody wrote is called natural, its Choice is
  None. The length is that of the longest canvas.
  """
  numbers(config, LIMITS)
  numbers(config, {'lengths': (1, 2**12)} if config.lengths else {})
  in_range('asked', config.asked, 1, config.groups)
  about = {'model': config.model, 'temperature': float(config.temperature)}
  found = []
  for name, settings in config.subjects.to_dict().items():
    known('subject', name, SUBJECTS)
    length = max(map(len, canvases(config, name)))
    found.append((Point(name, length, 'natural', {}, about), None))
    found += [
      (Point(name, length, choice.name, choice.settings(), about), choice)
      for choice in options.grid(settings, length)
    ]
  place = lambda choice: choice and (
    samplers.NAMES.index(choice.name), sorted(choice.static.items())
  )
  return sorted(found, key=lambda case: place(case[1]) or ())


def canvases(config, subject):
  """The canvases of a subject."""
  return writer.canvases(subject, config.rows, config.lengths, config.shown)


def program(choice):
  """What is fixed when it is compiled."""
  return choice.name, str(choice.static)


def describe(domains, open_, nll):
  """What the metrics say of finished domains: {name: number}."""
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


def run(config, workdir, wheels='.'):
  """The whole grid. Returns the rows of results.jsonl."""
  plan = cases(config)
  choices = {str(point): choice for point, choice in plan}
  writers = load(config.model, wheels)
  judges = load(next(name for name in WHEELS if name != config.model), wheels)
  model = writers.get('both') or writers['heavy']
  workdir = pathlib.Path(workdir)

  @functools.lru_cache(1)
  def decoder(*fixed):
    together = [x for x in choices.values() if x and program(x) == fixed]
    longest = model.length  # more than any canvas has
    most = max(options.most_steps(choice, longest) for choice in together)
    return writer.compile_one(model, together[0], most, config.temperature)

  def measure(point):
    choice = choices[str(point)]
    start = time.perf_counter()
    if choice is None:
      domains, open_ = writer.natural(
        point.subject, config.lengths, config.shown
      )
      cost, asked = {'nfe': 0.0, 'nfe_error': 0.0}, config.groups
    else:
      open_ = canvases(config, point.subject)
      decoded, domains = writer.write(
        model, choice, decoder(*program(choice)), open_, config.chunk,
        config.seed,
      )
      cost, asked = columns.cost(decoded), config.asked
    written = time.perf_counter()
    file = f'{point.subject} {point.sampler} {choice or ""}'.strip()
    (workdir / 'domains').mkdir(exist_ok=True)
    files.write(workdir / 'domains' / file, '\n'.join(domains) + '\n')
    nll = judge.least(
      list(judges.values()), domains[: config.judged], open_[: config.judged],
      config.groups, asked, config.seed,
    )
    return {
      **cost,
      **describe(domains, open_, nll),
      'seconds': written - start,
      'judge_seconds': time.perf_counter() - written,
    }

  found = {name: pathlib.Path(wheels, file) for name, file in WHEELS.items()}
  found = {name: wheel for name, wheel in found.items() if wheel.exists()}
  rows = sweep(
    'antibody', workdir, config, [point for point, _ in plan], measure,
    ('nll', 'heavy', 'light', 'mixed', 'identity', 'seconds', 'judge_seconds'),
    ('subjects',), SECONDS,
    {name: files.digest(wheel) for name, wheel in found.items()},
  )
  plot.write(workdir / 'antibody.png', rows)
  files.write(workdir / 'table.md', plot.markdown(rows))
  print(f'in {workdir}: results.jsonl, domains, antibody.png, table.md')
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(
    run, needs=('workdir', 'wheels'),
    wheels='Folder with the wheels of antiberty 0.1.3 and sapiens 1.0.5.',
  )
