"""Learned orders against heuristics: accuracy against forward passes.

  python -m experiments.learned_orders --config=configs/learned_orders.py \\
    --workdir=runs/learned_orders
  python -m experiments.learned_orders \\
    --config=configs/learned_orders.py:text --workdir=runs/learned_orders_text

Everybody fills the same canvases with the same frozen denoiser: Sudoku that no
training has seen, where an answer is right or not, or empty canvases of the
text model, whose writing is compared with its own one by one (the excess NLL
of experiments/common/subjects.py). Heuristics run with several seeds; of a
learned order there are several trainings, and each is a seed. Writes
results.jsonl (a row per contender, settings and seed; a run that was stopped
goes on), table.txt and learned_orders.png.
"""

import functools
import itertools
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.learned_orders import plot
from punt_jax import samplers, schedules
from punt_jax.checkpoints import order_files
from punt_jax.checks import known, numbers
from punt_jax.cli import command, records
from punt_jax.cli.sweep import Point, grid, sweep
from train import puzzles
from train.orders import tasks

SECONDS = 6.7  # a row, CPU time, see sweep
# Of the config: they choose rows, or what of them the table compares.
FREE = (
  *records.FREE, 'contenders', 'grids', 'seeds', 'orders', 'columns'
)
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'seeds': (0,), 'temperature': (0.0,), 'rows': (2,),
  'text_rows': (2,), 'draws': (1,), 'batch': (1,), 'columns': (0.0,),
}


def probed(settings, head, rounds):
  """Candidates that the head admits, then so many of PUNT's rounds."""
  admit = samplers.thin(head, settings['kappa'])
  return samplers.punt(settings['epsilon'], admit=admit, rounds=rounds)


# Name: (settings, network) -> Sampler. All settings are traced.
CONTENDERS = {
  'independent': lambda s, n: samplers.uniform(schedules.even(s['steps'])),
  'one by one': lambda s, n: samplers.one_by_one('confidence'),
  'top probability': lambda s, n: samplers.top_k(
    schedules.even(s['steps']), 'confidence'
  ),
  'margin': lambda s, n: samplers.top_k(schedules.even(s['steps']), 'margin'),
  'threshold': lambda s, n: samplers.threshold(s['tau']),
  'entropy bound': lambda s, n: samplers.entropy_bound(s['gamma']),
  'punt': lambda s, n: samplers.punt(s['epsilon']),
  'punt by confidence': lambda s, n: samplers.punt(s['epsilon'], 'confidence'),
  'variational': lambda s, n: samplers.learned(n, **s),
  'reinforce': lambda s, n: samplers.learned(n, **s),
  'reinforce, biased': lambda s, n: samplers.learned(n, **s),
  'pairs': lambda s, n: samplers.influence(n, s['kappa']),
  'pairs, 1 probe': lambda s, n: probed(s, n, 1),
  'pairs, 2 probes': lambda s, n: probed(s, n, 2),
}
# Name of a learned one: (its files in config.orders, what they hold).
NETWORKS = {
  'variational': ('variational', 'policy'),
  'reinforce': ('reinforce', 'policy'),
  'reinforce, biased': ('biased', 'policy'),
  'pairs': ('pairs', 'pairs'),
  'pairs, 1 probe': ('pairs', 'pairs'),
  'pairs, 2 probes': ('pairs', 'pairs'),
}


def plan(config):
  """Every Point of a config and {order: order_files.Order}. Writes nothing.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  numbers(config, LIMITS)
  task, found, networks = config.task, [], {}
  own = {'clues': (0, puzzles.LENGTH - 1), 'length': (2,)}
  numbers(task, {k: own[k] for k in own if k in task}, 'task.')
  length = puzzles.LENGTH if 'clues' in task else task.length
  place = subjects.label(task.model), length
  for contender in config.contenders:
    known('contender', contender, CONTENDERS)
    many = grid(config.grids[known('grid', contender, config.grids)].to_dict())
    for settings in many:
      try:
        CONTENDERS[contender](settings, len)  # names one that is out of range
      except (KeyError, TypeError) as error:
        raise ValueError(
          f'the grid of {contender} has a wrong or missing setting: {error}'
        ) from None
    if contender not in NETWORKS:
      found += [
        Point(*place, contender, one, {'order': '', 'seed': seed, 'cost': None})
        for one, seed in itertools.product(many, config.seeds)
      ]
      continue
    name, kind = NETWORKS[contender]
    for file in config.orders[known('orders', name, config.orders)]:
      network, order = order_files.find(file, kind), subjects.label(file)
      networks[order] = network
      own = network.card['config']
      cost = own.get('step_cost')  # in the reward it was trained for
      about = {'order': order, 'seed': own['seed'], 'cost': cost}
      found += [Point(*place, contender, one, about) for one in many]
  return found, networks


def prepare(config):
  """(Subject, canvases (N, L) that all fill, V where masked) of config.task."""
  task = config.task
  if 'clues' not in task:
    rows = config.text_rows
    subject = subjects.of_text(
      task.model, task.length, rows, config.draws, config.seed
    )
    return subject, subject.empty(rows)
  sudoku = tasks.load(config, config.seed)
  loaded, (tokens, given) = sudoku.loaded, sudoku.test(config.rows)

  def errors(decoded):
    return columns.average('accuracy', sudoku.right(decoded.tokens))

  subject = subjects.Subject(
    task.model, sudoku.length, loaded.text.vocab, loaded.params,
    loaded.denoiser, errors, text=loaded.text,
  )
  return subject, np.where(given, tokens, subject.vocab)


def compile_one(subject, contender, network, temperature):
  """run({'denoiser', 'network'}, settings, key, tokens)."""

  def build(params, settings):
    model = punt_jax.temper(subject.model(params['denoiser']), temperature)
    own = network and network.apply(params['network'])
    return model, CONTENDERS[contender](settings, own)

  return punt_jax.compile(build)


def fill(decode, params, settings, key, canvas, batch):
  """Decoded of all rows, a batch at a time: it waits for its slowest row."""
  traced, parts = {k: float(v) for k, v in settings.items()}, []
  for first in range(0, len(canvas), batch):
    rows = np.arange(first, min(first + batch, len(canvas)))
    part = decode(params, traced, key, canvas[rows], rows=rows)
    parts.append(jax.tree.map(np.asarray, part))
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def run(config, workdir):
  """The whole comparison. Returns the rows of results.jsonl."""
  points, networks = plan(config)
  of_program = {program(network): network for network in networks.values()}
  prepared = functools.lru_cache(1)(lambda: prepare(config))

  @functools.lru_cache(1)
  def decoder(contender, name):
    network = of_program.get(name)
    return compile_one(prepared()[0], contender, network, config.temperature)

  def measure(point):
    (subject, canvas), network = prepared(), networks.get(point.about['order'])
    params = {
      'denoiser': subject.params, 'network': network and network.params
    }
    key = jax.random.key(config.seed)
    key = jax.random.fold_in(key, point.about['seed'])
    decode = decoder(point.sampler, network and program(network))
    start = time.perf_counter()
    decoded = fill(decode, params, point.settings, key, canvas, config.batch)
    seconds = time.perf_counter() - start
    return {
      **columns.cost(decoded), **subject.errors(decoded), 'rows': len(canvas),
      'seconds': seconds,
    }

  rows = sweep(
    'learned_orders', workdir, config, points, measure,
    ('accuracy', 'excess_nll', 'seconds'), FREE, SECONDS,
    {'task.model': subjects.label(config.task.model)},
  )
  plot.write(pathlib.Path(workdir), rows, config.columns)
  return rows


def program(network):
  """What trainings have in common that share a compiled program."""
  return f'{network.card["kind"]} {network.card["module"]}'


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
