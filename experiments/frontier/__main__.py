"""The frontier: what each sampler pays in forward passes for how much error.

  python -m experiments.frontier --config=configs/frontier.py \\
    --workdir=runs/frontier

Sweeps the knobs of each sampler over the worlds of punt_jax/oracles/named.py
and over lengths. A world is an exact model, so all error is the sampler's. The
name of a pretrained model stands for its text (experiments/common/subjects.py).
A sampler is compiled once per world and length; knobs, temperatures and the
world's parameters are traced. Writes results.jsonl (a row per point; a run
that was stopped goes on) and frontier_<world>.png.

At temperature 1 a row holds both kinds of error; at others, where errors have
no meaning (see experiments/common/columns.py), how well the tokens fit. These
runs start from canvases that show a share of an exact sample, because at
temperature 0 most samplers would write one and the same canvas every time.
"""

import itertools
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns
from experiments.common.place import check, model_of, offers, prepare
from experiments.frontier import plot
from punt_jax import jsonl, samplers
from punt_jax.checks import in_range
from punt_jax.cli import command, records
from punt_jax.generation import options
from punt_jax.generation.warm_up import knobs_of, warm_up
from punt_jax.oracles import named


class Point(NamedTuple):
  """What a row of results.jsonl is about."""

  world: str
  length: int
  temperature: float
  choice: options.Choice

  def identity(self):
    return *self[:3], self.choice.name, str(self.choice)

  def program(self):
    """What is fixed when it is compiled."""
    return self.choice.name, tuple(self.choice.words.items())


def points(config):
  """Every Point of a config, those that share a compilation together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  for name, least in (('rows', 2), ('scored', 2), ('warm_up', 2)):
    in_range(name, config[name], least)
  in_range('shown', config.shown, 0, 1)
  found = []
  for name, length in itertools.product(config.worlds, config.lengths):
    in_range('length', length, 2)
    check(config, name, length)
    offered = offers(name)
    for choice in sweep(config.samplers.to_dict(), length, config.shares):
      if choice.needs and choice.needs not in offered:
        continue
      for heat in config.temperatures.get(name, (1.0,)):
        in_range('temperature', heat, 0)
        if heat != 1 and name not in named.NAMES:
          raise ValueError(f'{name} is compared at temperature 1 alone')
        found.append(Point(name, length, float(heat), choice))
  return found


def sweep(settings, length, shares):
  """{sampler: {knob: a value or several}} -> door.Choice of each combination.

  They come in the order of samplers.__all__; those that share a compilation
  (a sampler and its words) stand together. Knobs named in `shares` are given
  as shares of the length.

  Raises:
    ValueError: one sentence about an unknown sampler or a bad knob.
  """
  choices = []
  for name, knobs in settings.items():
    values = []
    for knob, value in knobs.items():
      several = value if isinstance(value, (tuple, list)) else (value,)
      if knob in shares:
        several = [max(1, round(share * length)) for share in several]
      values.append(dict.fromkeys(several))
    for setting in itertools.product(*values):
      chosen = dict(zip(knobs, setting, strict=True))
      choices.append(options.choose(name, chosen))
  words = [tuple(choice.words.items()) for choice in choices]
  order = lambda c: (
    samplers.__all__.index(c.name), words.index(tuple(c.words.items()))
  )
  return sorted(choices, key=order)


def compile_one(config, point, most):
  """run(params, knobs, key, tokens) for every point of this program.

  Args:
    config: of the frontier.
    point: one of them.
    most: steps that any of them may take.
  """
  model = model_of(config, point.world, point.length)

  def build(params, knobs):
    tempered = punt_jax.temper(model(params), knobs['temperature'])
    return tempered, point.choice.make(knobs['sampler'])

  return punt_jax.compile(build, most)


def fill(config, point, place, decode, compiled):
  """The row of results.jsonl about one point."""
  exact = point.temperature == 1
  given = place.empty if exact else place.shown
  knobs = {
    'sampler': knobs_of(point.choice, place.learned),
    'temperature': point.temperature,
  }
  start = time.perf_counter()
  decoded = decode(place.params, knobs, place.key, given)
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - start
  options.check_finished(point.choice, decoded)
  if exact:
    found = place.errors(decoded)
    if point.choice.rewrites:
      found |= {'gap': None, 'gap_error': None}
  else:
    found = columns.fit(place.world, decoded, given, config.scored)
  return {
    'world': point.world,
    'length': point.length,
    'temperature': point.temperature,
    'sampler': point.choice.name,
    'label': str(point.choice),
    'settings': point.choice.settings(),
    **columns.cost(decoded),
    'warm_up': warm_up(point.choice, place.learned),
    **found,
    'shown': 0.0 if exact else config.shown,
    'seconds': seconds,  # of decoding, with compilation if that was needed
    'compiled': compiled,
    'rows': len(given),
    'law': config.settings.to_dict(),
    **records.origin(config.seed),
  }


def run(config, workdir):
  """The whole sweep. Returns the rows of results.jsonl."""
  plan = points(config)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  done = {
    (*(row[key] for key in Point._fields[:3]), row['sampler'], row['label'])
    for row in rows
  }
  for name in config.worlds:
    todo = [p for p in plan if p.world == name and p.identity() not in done]
    for length, here in itertools.groupby(todo, lambda p: p.length):
      here = list(here)
      learns = {point.choice.learns for point in here} - {None}
      place = prepare(config, name, length, learns)
      for _, group in itertools.groupby(here, Point.program):
        group = list(group)
        most = max(options.most_steps(p.choice, length) for p in group)
        for i, point in enumerate(group):
          if i == 0:
            decode = compile_one(config, point, most)
          rows.append(fill(config, point, place, decode, i == 0))
          jsonl.append(workdir / 'results.jsonl', rows[-1])
          print(progress(rows[-1], len(rows), len(plan)), flush=True)
    plot.write(
      workdir / f'frontier_{name}.png', [r for r in rows if r['world'] == name]
    )
  print(f'in {workdir}: results.jsonl, frontier_<world>.png')
  return rows


def progress(row, done, total):
  """A line about a row that is finished."""
  first, second = (
    ('gap', 'excess_nll') if row['temperature'] == 1 else
    ('agreement', 'log_p')
  )
  number = lambda key: '-' if row.get(key) is None else (
    f'{row[key]:.3f} +- {row[f"{key}_error"]:.3f}'
  )
  return (
    f'{done:4d}/{total} {row["world"]:14}{row["length"]:4d} tokens, T '
    f'{row["temperature"]:g}  {row["sampler"]:14}{row["label"]:37}'
    f'{row["nfe"]:6.1f} passes, {first} {number(first)}, '
    f'{second} {number(second)}, impossible {row["impossible"]:.1%}, '
    f'{row["seconds"]:.1f} s'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
