"""What do block sizes cost in random order, and which cost least?

  python -m experiments.schedules --config=configs/schedules.py \\
    --workdir=runs/schedules

Estimates the information profile of a model or an exact world on some rows
(punt_jax/schedules/information.py), predicts from it by the exact identity what
each schedule costs in KL at each number of steps, and measures the same on
other rows by teacher forcing: log p(row), one by one, minus log q(row | the
schedule's sizes), both in the same random order, so that most noise cancels.

The rows are texts that the model itself writes one by one in random order (of a
world: exact samples), or held-out text: --config.path=FILE, of which the last
share, config.heldout, is cut into canvases. Writes results.jsonl (a row about
the curve, whose `sampler` is 'curve', and one per schedule and number of steps)
and schedules.png.
"""

import functools
import pathlib

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.schedules import plot
from punt_jax import files, samplers, schedules
from punt_jax.checks import known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.oracles import named
from punt_jax.samplers.random_size import DISTRIBUTIONS, drawn_marks
from train import data

LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'heldout': (1e-6, 1.0), 'length': (2,), 'rows': (2,),
  'tested': (2,), 'orders': (1,), 'points': (2,), 'draws': (2,),
  'at_once': (1,),
}
# name -> (profile (n,), number of blocks) -> sizes (K,)
LISTS = {
  'optimal': schedules.optimal,
  'inverse root': schedules.inverse_root,
  'equal': lambda h, k: schedules.sizes_of(schedules.even(k), len(h)),
  'cosine': lambda h, k: schedules.sizes_of(schedules.cosine(k), len(h)),
  'geometric tc': lambda h, k: schedules.sizes_of(
    schedules.geometric(k, 'tc'), len(h)
  ),
  'geometric dtc': lambda h, k: schedules.sizes_of(
    schedules.geometric(k, 'dtc'), len(h)
  ),
}
DRAWN = {'random tc': 'tc', 'random dtc': 'dtc'}  # samplers.random_size


def written(subject, count, seed):
  """(count, L) canvases that a subject writes one by one, in random order."""
  build = lambda params, _: (subject.model(params), samplers.uniform(1))
  write, key = punt_jax.compile(build), jax.random.key(seed)
  out = write(subject.params, (), key, subject.empty(count))
  return np.asarray(out.tokens)


def cut(subject, count, seed, path, share):
  """(count, L) canvases from the last `share` of the text in a file.

  Raises:
    ValueError: one sentence: the subject is a world, or the text is too short.
  """
  name, length = subject.name, subject.length
  if subject.world is not None:
    raise ValueError(
      f'{name} is a world and reads no text: leave config.path empty'
    )
  _, held = data.split_text(data.read_text(path), share)
  ids = subject.text.encode(held, '')
  there = len(ids) // length
  if there < count:
    raise ValueError(
      f'the held-out text has {there} canvases of {length} tokens, not'
      f' {count}: use fewer rows or a larger config.heldout'
    )
  cuts = ids[: there * length].reshape(there, length)
  return np.random.default_rng(seed).permutation(cuts)[:count]


_DRAW = jax.jit(
  jax.vmap(drawn_marks, (0, None, None, None, None, None)),
  static_argnums=(2, 4, 5),
)


def draw_sizes(key, count, n, steps, scheme, distribution):
  """(count, n) block sizes as samplers.random_size draws them."""
  keys = jax.random.split(key, count)
  marks = _DRAW(keys, n, n, float(steps), scheme, distribution)
  return np.diff(np.asarray(marks), prepend=0, axis=1)


def costs(name, steps, profiles, table, distribution, draws, seed):
  """The columns of a schedule.

  Args:
    name: of LISTS or DRAWN.
    steps: K.
    profiles: (R, L) of estimate_profile.
    table: (T, L, L) of teacher_force, of other rows.
    distribution: of random sizes, see samplers.random_size.
    draws: of random sizes, to predict their mean.
    seed: of them.
  """
  mean = profiles.mean(0)
  n, listed = len(mean), name in LISTS
  if listed:
    sizes = LISTS[name](schedules.isotonic(mean), steps)
    predicted = schedules.expected_kl(profiles, sizes)
    passes = len(sizes)
  else:
    key = jax.random.fold_in(jax.random.key(seed), steps)
    how = n, steps, DRAWN[name], distribution
    many = draw_sizes(key, draws, *how)
    predicted = schedules.expected_kl(mean, many)
    passes = (many > 0).sum(-1).mean()
    sizes = draw_sizes(jax.random.fold_in(key, 1), len(table), *how)
  lost = schedules.forced_kl(table, sizes)
  equal = schedules.forced_kl(table, LISTS['equal'](mean, steps))
  return {
    'nfe': float(passes),
    **columns.average('predicted', predicted),
    **columns.average('measured', lost),
    **columns.average('over_equal', lost - equal),
    'sizes': sizes.tolist() if listed else None,
    'distribution': None if listed else distribution,
  }


def curve(profiles):
  """The columns of the information curve; nats."""
  rise = schedules.curve(profiles)
  spread = lambda x: x.std(0, ddof=1) / np.sqrt(len(x))
  return {
    **columns.average('tc', schedules.total_correlation(profiles)),
    **columns.average('dtc', schedules.dual_total_correlation(profiles)),
    'profile': profiles.mean(0).tolist(),
    'profile_error': spread(profiles).tolist(),
    'curve': rise.mean(0).tolist(),
    'curve_error': spread(rise).tolist(),
  }


def check(config):
  """One sentence about what the config asks for and cannot have."""
  subjects.check_numbers(config, LIMITS)
  numbers(config, {'steps': (1, config.length)})
  subjects.check(config.subject, config.length, config.settings.to_dict())
  known('by', config.by, ('token', 'entropy'))
  known('distribution', config.distribution, DISTRIBUTIONS)


def prepare(config):
  """(profiles (R, L), table (T, L, L)), see `costs`."""
  subject = subjects.of(
    config.subject, config.length, config.settings.to_dict(), config.seed
  )
  count = config.rows + config.tested
  tokens = cut(
    subject, count, config.seed, config.path, config.heldout
  ) if config.path else written(subject, count, config.seed)
  seen, held = tokens[: config.rows], tokens[config.rows :]
  first, second = jax.random.split(jax.random.key(config.seed + 1))
  model = subject.model, subject.params
  counts = schedules.grid(config.length, config.points)
  profiles = schedules.estimate_profile(
    *model, first, np.tile(seen, (config.orders, 1)), counts, config.by,
    config.at_once,
  ).reshape(config.orders, config.rows, -1).mean(0)
  return profiles, schedules.teacher_force(
    *model, second, held, at_once=config.at_once
  )


def run(config, workdir):
  """Returns the rows of results.jsonl."""
  check(config)
  place = subjects.label(config.subject), config.length
  points = [Point(*place, 'curve', {})] + [
    Point(*place, name, {'steps': steps})
    for steps in config.steps for name in (*LISTS, *DRAWN)
  ]
  prepared = functools.lru_cache(1)(lambda: prepare(config))
  shared = {
    name: config[name] for name in ('rows', 'tested', 'by', 'points', 'orders')
  }
  world = config.subject in named.NAMES
  shared['text'] = config.path or 'its own samples'
  shared['world'] = config.settings.to_dict() if world else None

  def measure(point):
    profiles, table = prepared()
    found = curve(profiles) if point.sampler == 'curve' else costs(
      point.sampler, point.settings['steps'], profiles, table,
      config.distribution, config.draws, config.seed,
    )
    return found | shared

  rows = sweep(
    'schedules', workdir, config, points, measure,
    ('tc', 'dtc', 'predicted', 'measured', 'over_equal'),
    ('subject', 'length', 'steps'),
    digests={'path': files.digest(config.path)} if config.path else (),
  )
  plot.draw(pathlib.Path(workdir) / 'schedules.png', rows)
  print(f'in {workdir}: schedules.png, results.jsonl')
  return rows


if __name__ == '__main__':
  command.run_config(run)
