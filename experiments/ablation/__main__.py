"""Which details of PUNT matter: one is changed at a time.

  python -m experiments.ablation --config=configs/ablation.py \\
    --workdir=runs/ablation

A factor is something that can be done in more than one way; each of its values
is a curve, all other settings as in config.base. A tuple of numbers is swept.
Numbers written with a point are traced: a value is compiled once per world.

Writes results.jsonl (a row per world and setting; a run that was stopped goes
on), table.txt (forward passes at equal error) and ablate_<world>.png. At
temperatures other than 1 the samples have no law to be compared with, so these
curves show the mean log-probability and its distance from one-by-one sampling
at the same temperature.
"""

import inspect
import itertools
import json
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.ablation import plot
from experiments.common import columns
from experiments.punt_variants import rivals, variants
from punt_jax import jsonl, oracles, samplers, schedules
from punt_jax.checks import in_range, known
from punt_jax.cli import command, records
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
MODEL = ('temperature', 'judged')  # settings of the model's draft law


def curve(base, changes):
  """The settings of one value: base with changes, as far as they apply.

  Raises:
    ValueError: one sentence about an unknown sampler, or a knob that it does
      not have or needs.
  """
  settings = {**base, **changes}
  name = settings['sampler']
  knobs = inspect.signature(SAMPLERS[known('sampler', name, SAMPLERS)])
  knobs = knobs.parameters
  for knob in changes:
    known(f'knob of {name}:', knob, ('sampler', *MODEL, *knobs))
  for knob, parameter in knobs.items():
    if parameter.default is parameter.empty and knob not in settings:
      raise ValueError(f'{name} needs a value for its knob {knob}')
  used = ('sampler', *MODEL, *knobs)
  return {knob: settings[knob] for knob in used if knob in settings}


def sweep(settings):
  """Settings in which some knobs hold several numbers -> one dict of each."""
  several = [
    v if isinstance(v, (tuple, list)) else (v,) for v in settings.values()
  ]
  return [
    dict(zip(settings, values, strict=True))
    for values in itertools.product(*several)
  ]


def curves(config):
  """{factor: {value: its settings, swept}}, what is next to the base first.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  in_range('rows', config.rows, 2)
  in_range('scored', config.scored, 2)
  for name in config.worlds:
    known('world', name, named.NAMES)
  base = config.base.to_dict()
  distance = lambda changes: sum(base.get(k) != v for k, v in changes.items())
  found = {
    factor: {
      value: sweep(curve(base, values[value]))
      for value in sorted(values, key=lambda value: distance(values[value]))
    }
    for factor, values in config.factors.to_dict().items()
  }
  for settings in plan(found):
    in_range('temperature', settings['temperature'], 0)
    sampler(settings, knobs_of(settings))  # names a knob out of range
  return found


def plan(found):
  """Each settings dict once, those that share a compilation together."""
  every = [s for values in found.values() for v in values.values() for s in v]
  once = list({identity(settings): settings for settings in every}.values())
  programs = [program(settings) for settings in once]
  return sorted(once, key=lambda settings: programs.index(program(settings)))


def identity(settings):
  return json.dumps(settings, sort_keys=True)


def knobs_of(settings):
  """What is traced."""
  return {k: v for k, v in settings.items() if isinstance(v, float)}


def program(settings):
  """What is fixed when it is compiled."""
  return tuple((k, v) for k, v in settings.items() if not isinstance(v, float))


def sampler(settings, knobs):
  """The Sampler of these settings, its numbers taken from knobs."""
  own = {**settings, **knobs}
  for other in ('sampler', *MODEL):
    del own[other]
  return SAMPLERS[settings['sampler']](**own)


def compile_one(config, name, settings):
  """run(params, knobs, key, tokens) for all settings of this program."""
  law = config.settings.to_dict()

  def build(params, knobs):
    world = named.make(name, params, config.length, law)
    model = punt_jax.temper(oracles.as_denoiser(world), knobs['temperature'])
    if settings['judged']:
      model = punt_jax.judge_drafts(model)
    return model, sampler(settings, knobs)

  return punt_jax.compile(build)


def run(config, workdir):
  """The whole ablation. Returns the rows of results.jsonl."""
  found = curves(config)
  settings = plan(found)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  done = {(row['world'], identity(row['settings'])) for row in rows}
  law = config.settings.to_dict()
  own, key = jax.random.split(jax.random.key(config.seed))
  for name in config.worlds:
    params = named.draw(name, own, config.length, law)
    world = named.make(name, params, config.length, law)
    todo = [s for s in settings if (name, identity(s)) not in done]
    for _, group in itertools.groupby(todo, program):
      for i, one in enumerate(group):
        if i == 0:
          decode = compile_one(config, name, one)
        rows.append({
          'world': name,
          'settings': one,
          **fill(config, one, world, decode, params, key),
          'compiled': i == 0,
          **records.origin(config.seed),
        })
        jsonl.append(workdir / 'results.jsonl', rows[-1])
        total = len(settings) * len(config.worlds)
        print(progress(rows[-1], len(rows), total), flush=True)
  said = plot.write(workdir, rows, found, config)
  print(f'\n{said}\nin {workdir}: results.jsonl, table.txt, ablate_<world>.png')
  return rows


def fill(config, settings, world, decode, params, key):
  """What a row says about one run: cost and error, or fit if T is not 1."""
  given = np.full((config.rows, config.length), world.vocab, np.int32)
  start = time.perf_counter()
  decoded = decode(params, knobs_of(settings), key, given)
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - start
  if settings['temperature'] == 1:
    error = columns.errors(world, decoded, given)
  else:
    error = columns.fit(world, decoded, given, config.scored)
  return {
    **columns.cost(decoded),
    **error,
    'seconds': seconds,  # of decoding, with compilation if that was needed
    'rows': config.rows,
    'length': config.length,
    'law': config.settings.to_dict(),
  }


def progress(row, done, total):
  """A line about a row that is finished."""
  key = 'gap' if row['settings']['temperature'] == 1 else 'log_p'
  label = ', '.join(
    f'{v:g}' if isinstance(v, float) else str(v)
    for v in row['settings'].values()
  )
  return (
    f'{done:4d}/{total} {row["world"]:10} {label:60} {row["nfe"]:6.1f} passes, '
    f'{key} {row[key]:.3f} +- {row[f"{key}_error"]:.3f}, '
    f'{row["seconds"]:.1f} s'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
