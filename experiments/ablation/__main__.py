"""Which details of PUNT matter: one is changed at a time.

  python -m experiments.ablation --config=configs/ablation.py \\
    --workdir=runs/ablation

A factor is something that can be done in more than one way; each of its values
is a curve, all other settings as in config.base. A tuple of numbers is swept.
Numbers written with a point are traced: a value is compiled once per world.

Writes results.jsonl (a row per world and setting; a run that was stopped goes
on), table.txt (forward passes at equal error) and ablation_<subject>.png. At
temperatures other than 1 there is no distribution that the samples should have,
so these curves show the mean log-probability and its distance from one-by-one
sampling at the same temperature.
"""

import functools
import inspect
import itertools
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.ablation import plot
from experiments.common import columns, subjects
from experiments.punt_variants import rivals, variants
from punt_jax import samplers, schedules
from punt_jax.checks import known
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, grid, sweep
from punt_jax.oracles import named


def punt(epsilon, early, late, score, divergence, first, codes):
  """PUNT whose epsilon goes from early to late times `epsilon`."""
  schedule = schedules.linear_epsilon(early * epsilon, late * epsilon)
  return samplers.punt(schedule, score, divergence, first, codes)


SAMPLERS = {
  make.__name__: make
  for make in (
    punt,
    samplers.one_by_one,
    variants.budgeted,
    variants.run_budgeted,
    variants.reranked,
    variants.verified,
    rivals.sure,
    rivals.break_even,
    rivals.spaced,
    rivals.batched,
    rivals.votes,
    rivals.memory,
  )
}
MODEL = ('temperature', 'judged')  # settings of what drafts are drawn from
# Of the config: they choose rows, or what of them the table compares.
FREE = ('worlds', 'length', 'base', 'factors', 'gaps', 'loss')
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'length': (2,), 'rows': (2,), 'scored': (2,), 'gaps': (0.0,),
  'loss': (0.0,),
}
SECONDS = 7.0  # a row, CPU time, see sweep


def curve(base, changes):
  """[(sampler, settings)] of one value: base with changes, where they apply.

  Raises:
    ValueError: one sentence about an unknown sampler, or a setting that it
      does not have or needs.
  """
  given = {**base, **changes}
  name = known('sampler', given['sampler'], SAMPLERS)
  own = inspect.signature(SAMPLERS[name]).parameters
  for key in changes:
    known(f'setting of {name}:', key, ('sampler', *MODEL, *own))
  for key, parameter in own.items():
    if parameter.default is parameter.empty and key not in given:
      raise ValueError(f'{name} needs a value for its setting {key}')
  swept = {key: given[key] for key in (*MODEL, *own) if key in given}
  return [(name, settings) for settings in grid(swept)]


def curves(config):
  """{factor: {value: its curve}}, what is next to the base first.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  subjects.check_numbers(config, LIMITS)
  for world in config.worlds:
    known('world', world, named.NAMES)
    subjects.check(world, config.length, config.settings.to_dict())
  base = config.base.to_dict()
  distance = lambda changes: sum(base.get(k) != v for k, v in changes.items())
  found = {
    factor: {
      value: curve(base, values[value])
      for value in sorted(values, key=lambda value: distance(values[value]))
    }
    for factor, values in config.factors.to_dict().items()
  }
  for name, settings in settings_of(found):
    variants.check_numbers(settings)
    sampler(name, settings)  # names a setting out of range
  return found


def settings_of(found):
  """The (sampler, settings) of all curves."""
  lines = (line for values in found.values() for line in values.values())
  return itertools.chain.from_iterable(lines)


def points(found, worlds, length):
  """Each Point once, those that share a compilation together."""
  every = [
    Point(world, length, *one) for world in worlds for one in settings_of(found)
  ]
  once = list({str(point): point for point in every}.values())
  programs = [program(point) for point in once]
  return sorted(once, key=lambda point: programs.index(program(point)))


def program(point):
  """What is fixed when it is compiled, the settings last."""
  settings = point.settings.items()
  return *point[:3], tuple(x for x in settings if not isinstance(x[1], float))


def traced(settings):
  """What is not."""
  return {k: v for k, v in settings.items() if isinstance(v, float)}


def sampler(name, settings):
  """The Sampler of these settings, some of them traced."""
  own = {k: v for k, v in settings.items() if k not in MODEL}
  return SAMPLERS[name](**own)


def compile_one(denoiser, name, words):
  """run(params, traced, key, tokens) for all settings of this program.

  Args:
    denoiser: params -> Denoiser.
    name: of SAMPLERS.
    words: the settings that are fixed.
  """

  def build(params, numbers):
    settings = {**words, **numbers}
    model = punt_jax.temper(denoiser(params), settings['temperature'])
    if settings['judged']:
      model = punt_jax.judge_drafts(model)
    return model, sampler(name, settings)

  return punt_jax.compile(build)


def fill(subject, decode, settings, key, rows, scored):
  """What a row says about one run: cost and error, or fit if T is not 1."""
  empty = subject.empty(rows)
  start = time.perf_counter()
  decoded = decode(subject.params, traced(settings), key, empty)
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - start
  if settings['temperature'] == 1:
    error = subject.errors(decoded)
  else:
    error = columns.fit(subject.world, decoded, empty, scored)
  return {**columns.cost(decoded), **error, 'seconds': seconds, 'rows': rows}


def run(config, workdir):
  """The whole ablation. Returns the rows of results.jsonl."""
  found, world = curves(config), config.settings.to_dict()
  own, key = jax.random.split(jax.random.key(config.seed))

  @functools.lru_cache(1)
  def subject_of(name, length):
    return subjects.of_world(name, length, world, own)

  @functools.lru_cache(1)
  def decoder(name, length, sampler, words):
    return compile_one(subject_of(name, length).model, sampler, dict(words))

  def measure(point):
    subject, decode = subject_of(*point[:2]), decoder(*program(point))
    row = fill(
      subject, decode, point.settings, key, config.rows, config.scored
    )
    return {**row, 'world': world}

  rows = sweep(
    'ablation', workdir, config, points(found, config.worlds, config.length),
    measure, ('gap', 'log_p', 'seconds'), FREE, SECONDS,
  )
  said = plot.write(
    pathlib.Path(workdir), rows, found, config.gaps, config.loss
  )
  print(
    f'\n{said}\nin {workdir}: results.jsonl, table.txt, ablation_<subject>.png'
  )
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
