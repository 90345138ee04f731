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
the curve, and one per schedule and number of steps) and schedules.png.
"""

import pathlib

import jax
import numpy as np

import punt_jax
from experiments.common import subjects
from experiments.schedules import plot
from punt_jax import checkpoints, jsonl, metrics, samplers, schedules
from punt_jax.checks import in_range, known
from punt_jax.cli import command, records
from punt_jax.oracles import named
from punt_jax.samplers.random_size import LAWS, drawn_marks
from train import data

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


def canvases(config, subject):
  """(rows + tested, L) complete canvases."""
  count = config.rows + config.tested
  if not config.path:
    build = lambda params, _: (subject.model(params), samplers.uniform(1))
    empty = np.full((count, config.length), subject.vocab, np.int32)
    write = punt_jax.compile(build)
    key = jax.random.key(config.seed)
    return np.asarray(write(subject.params, (), key, empty).tokens)
  if config.subject in named.NAMES:
    raise ValueError(
      f'{config.subject} is a world and reads no text: leave config.path empty'
    )
  _, held = data.split_text(data.read_text(config.path), config.heldout)
  ids = checkpoints.load(config.subject).text.encode(held)
  there = len(ids) // config.length
  if there < count:
    raise ValueError(
      f'the held-out text has {there} canvases of {config.length} tokens, not'
      f' {count}: use fewer rows or a larger config.heldout'
    )
  cuts = ids[: there * config.length].reshape(there, config.length)
  return np.random.default_rng(config.seed).permutation(cuts)[:count]


_DRAW = jax.jit(
  jax.vmap(drawn_marks, (0, None, None, None, None, None)),
  static_argnums=(2, 4, 5),
)


def draw_sizes(key, count, n, steps, scheme, law):
  """(count, n) block sizes as samplers.random_size draws them."""
  keys = jax.random.split(key, count)
  marks = _DRAW(keys, n, n, float(steps), scheme, law)
  return np.diff(np.asarray(marks), prepend=0, axis=1)


def costs(config, name, steps, profiles, table):
  """What a row of results.jsonl says of a schedule.

  Args:
    config: the experiment's.
    name: of LISTS or DRAWN.
    steps: K.
    profiles: (R, L) of estimate_profile.
    table: (T, L, L) of teacher_force, of other rows.
  """
  mean = profiles.mean(0)
  n = len(mean)
  if name in LISTS:
    sizes = LISTS[name](schedules.isotonic(mean), steps)
    predicted = metrics.estimate(schedules.expected_kl(profiles, sizes))
    passes = len(sizes)
  else:
    key = jax.random.fold_in(jax.random.key(config.seed), steps)
    law = DRAWN[name], config.law
    many = draw_sizes(key, config.draws, n, steps, *law)
    predicted = metrics.estimate(schedules.expected_kl(mean, many))
    passes = float((many > 0).sum(-1).mean())
    sizes = draw_sizes(jax.random.fold_in(key, 1), len(table), n, steps, *law)
  lost = schedules.forced_kl(table, sizes)
  equal = schedules.forced_kl(table, LISTS['equal'](mean, steps))
  measured, more = metrics.estimate(lost), metrics.estimate(lost - equal)
  return {
    'kind': 'schedule',
    'schedule': name,
    'steps': steps,
    'passes': passes,
    'predicted': predicted.mean,
    'predicted_error': predicted.stderr,
    'measured': measured.mean,
    'measured_error': measured.stderr,
    'over_equal': more.mean,  # measured, minus that of equal sizes
    'over_equal_error': more.stderr,
    'sizes': sizes.tolist() if name in LISTS else None,
    'law': None if name in LISTS else config.law,
  }


def curve_row(profiles):
  """What the row of results.jsonl about the curve says."""
  total = metrics.estimate(schedules.total_correlation(profiles))
  dual = metrics.estimate(schedules.dual_total_correlation(profiles))
  rise = schedules.curve(profiles)
  spread = lambda x: x.std(0, ddof=1) / np.sqrt(len(x))
  return {
    'kind': 'curve',
    'tc': total.mean,
    'tc_error': total.stderr,
    'dtc': dual.mean,
    'dtc_error': dual.stderr,
    'profile': profiles.mean(0).tolist(),
    'profile_error': spread(profiles).tolist(),
    'curve': rise.mean(0).tolist(),
    'curve_error': spread(rise).tolist(),
  }


def check(config):
  """One sentence about what the config asks for and cannot have."""
  known('subject', config.subject, (*named.NAMES, *checkpoints.names()))
  known('by', config.by, ('token', 'entropy'))
  known('law', config.law, LAWS)
  in_range('rows', config.rows, 2)
  in_range('tested', config.tested, 2)
  in_range('draws', config.draws, 2)
  in_range('length', config.length, 2)
  in_range('points', config.points, 2)
  in_range('orders', config.orders, 1)
  for steps in config.steps:
    in_range('steps', steps, 1, config.length)


def run(config, workdir):
  """Returns the rows of results.jsonl."""
  check(config)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  wanted = [('curve', None)] + [
    (name, steps) for steps in config.steps for name in (*LISTS, *DRAWN)
  ]
  done = {(r.get('schedule', 'curve'), r.get('steps')) for r in rows}
  todo = [case for case in wanted if case not in done]
  if todo:
    subject = subjects.prepare(config, config.subject, config.length)
    tokens = canvases(config, subject)
    seen, held = tokens[: config.rows], tokens[config.rows :]
    first, second = jax.random.split(jax.random.key(config.seed + 1))
    model = subject.model, subject.params
    counts = schedules.grid(config.length, config.points)
    profiles = schedules.estimate_profile(
      *model, first, np.tile(seen, (config.orders, 1)), counts, config.by,
      config.at_once,
    ).reshape(config.orders, config.rows, -1).mean(0)
    table = schedules.teacher_force(
      *model, second, held, at_once=config.at_once
    )
  for name, steps in todo:
    row = curve_row(profiles) if name == 'curve' else costs(
      config, name, steps, profiles, table
    )
    row |= dict(
      subject=config.subject, text=config.path or 'its own samples',
      length=config.length, rows=config.rows, tested=config.tested,
      by=config.by, points=config.points, orders=config.orders,
      **records.origin(config.seed),
    )
    rows.append(row)
    jsonl.append(workdir / 'results.jsonl', row)
    print(progress(row), flush=True)
  plot.draw(workdir / 'schedules.png', rows)
  print(f'in {workdir}: schedules.png, results.jsonl')
  return rows


def progress(row):
  """A line about a row that is finished."""
  if row['kind'] == 'curve':
    return (
      f'{row["subject"]}, {row["length"]} tokens: TC {row["tc"]:.2f} +-'
      f' {row["tc_error"]:.2f} nats, DTC {row["dtc"]:.2f} +-'
      f' {row["dtc_error"]:.2f}'
    )
  number = lambda key: f'{row[key]:6.2f} +- {row[f"{key}_error"]:.2f}'
  sizes = '' if row['sizes'] is None or row['steps'] > 16 else row['sizes']
  return (
    f'{row["steps"]:3d} steps, {row["schedule"]:14} KL predicted'
    f' {number("predicted")}, measured {number("measured")}, over equal'
    f' {number("over_equal")}  {sizes}'
  )


if __name__ == '__main__':
  command.run_config(run)
