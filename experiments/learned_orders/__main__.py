"""Learned orders against heuristics: accuracy against forward passes.

  python -m experiments.learned_orders --config=configs/learned_orders.py \\
    --workdir=runs/learned_orders
  python -m experiments.learned_orders --config=configs/learned_orders.py:text \\
    --workdir=runs/learned_text

Everybody fills the same canvases with the same frozen denoiser: Sudoku that no
training has seen, where an answer is right or not, or empty canvases of the
text model, whose writing is compared with its own one by one (the excess NLL
of experiments/common/subjects.py). Heuristics run with several seeds; of a learned
order there are several trainings, and each is a seed. Writes results.jsonl (a
row per contender, knobs and seed; a run that was stopped goes on), table.txt
and learned.png.
"""

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.learned_orders import plot
from punt_jax import checkpoints, jsonl, metrics, samplers, schedules
from punt_jax.checkpoints import order_files
from punt_jax.checks import in_range, known
from punt_jax.cli import command, records
from train.orders import tasks


def probed(knobs, head, rounds):
  """Candidates that the head admits, then so many of PUNT's rounds."""
  return samplers.punt(
    knobs['epsilon'], admit=samplers.thin(head, knobs['kappa']), rounds=rounds
  )


# Name: (knobs, network) -> Sampler. All knobs are traced.
CONTENDERS = {
  'independent': lambda k, n: samplers.uniform(schedules.even(k['steps'])),
  'one by one': lambda k, n: samplers.one_by_one('confidence'),
  'top probability': lambda k, n: samplers.top_k(
    schedules.even(k['steps']), 'confidence'
  ),
  'margin': lambda k, n: samplers.top_k(schedules.even(k['steps']), 'margin'),
  'threshold': lambda k, n: samplers.threshold(k['tau']),
  'entropy bound': lambda k, n: samplers.entropy_bound(k['gamma']),
  'punt': lambda k, n: samplers.punt(k['epsilon']),
  'punt by confidence': lambda k, n: samplers.punt(k['epsilon'], 'confidence'),
  'variational': lambda k, n: samplers.learned(n, **k),
  'reinforce': lambda k, n: samplers.learned(n, **k),
  'reinforce, biased': lambda k, n: samplers.learned(n, **k),
  'pairs': lambda k, n: samplers.influence(n, k['kappa']),
  'pairs, 1 probe': lambda k, n: probed(k, n, 1),
  'pairs, 2 probes': lambda k, n: probed(k, n, 2),
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


class Setting(NamedTuple):
  """What a row of results.jsonl is about."""

  contender: str
  order: str | None  # name or path of its network
  knobs: dict
  seed: int  # of decoding; of a learned one, that of its training
  cost: float | None = None  # of a step, in the reward it was trained for

  def identity(self):
    knobs = str(sorted(self.knobs.items()))
    return self.contender, self.order, knobs, self.seed


class Place(NamedTuple):
  """What is filled, and the judge."""

  loaded: checkpoints.Pretrained
  canvas: np.ndarray  # (N, L), V where masked
  score: Callable  # Decoded -> {name: number}


def plan(config):
  """Every Setting of a config and {order: door's Order}. Writes nothing.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  found, networks = [], {}
  for contender in config.contenders:
    known('contender', contender, CONTENDERS)
    grid = config.grids[known('grid', contender, config.grids)].to_dict()
    many = [v if isinstance(v, tuple) else (v,) for v in grid.values()]
    files, kind = [None], None
    if contender in NETWORKS:
      name, kind = NETWORKS[contender]
      files = config.orders[known('orders', name, config.orders)]
    for file, setting in itertools.product(files, itertools.product(*many)):
      knobs = dict(zip(grid, setting, strict=True))
      try:
        CONTENDERS[contender](knobs, len)  # names a knob that is out of range
      except (KeyError, TypeError) as error:
        raise ValueError(
          f'the grid of {contender} has a wrong or missing knob: {error}'
        ) from None
      if file is None:
        found += [Setting(contender, None, knobs, s) for s in config.seeds]
        continue
      networks[file] = networks.get(file) or order_files.find(file, kind)
      learned = networks[file].card['config']
      cost = learned.get('step_cost')
      found.append(Setting(contender, file, knobs, learned['seed'], cost))
  return found, networks


def prepare(config) -> Place:
  """The canvases of config.task and their judge."""
  task = config.task
  if 'clues' in task:
    in_range('rows', config.rows, 2)
    puzzles = tasks.load(config, config.seed)
    tokens, given = puzzles.test(config.rows)

    def right(decoded):
      share = metrics.estimate(puzzles.right(decoded.tokens))
      return {'accuracy': share.mean, 'accuracy_error': share.stderr}

    vocab = puzzles.loaded.text.vocab
    return Place(puzzles.loaded, np.where(given, tokens, vocab), right)
  in_range('text_rows', config.text_rows, 2)
  loaded = checkpoints.load(task.model)
  shape = config.text_rows, task.length
  errors = subjects.text_errors(config, loaded, task.length)
  return Place(loaded, np.full(shape, loaded.text.vocab, np.int32), errors)


def compile_one(config, place, contender, network):
  """run({'denoiser', 'network'}, knobs, key, tokens)."""

  def build(params, knobs):
    model = place.loaded.denoiser(params['denoiser'])
    model = punt_jax.temper(model, config.temperature)
    own = network and network.apply(params['network'])
    return model, CONTENDERS[contender](knobs, own)

  return punt_jax.compile(build)


def fill(config, setting, place, decode, network):
  """A row of results.jsonl. A batch at a time: it waits for its slowest row."""
  params = {
    'denoiser': place.loaded.params, 'network': network and network.params
  }
  knobs = {k: float(v) for k, v in setting.knobs.items()}
  key = jax.random.fold_in(jax.random.key(config.seed), setting.seed)
  start, parts = time.perf_counter(), []
  for first in range(0, len(place.canvas), config.batch):
    rows = np.arange(first, min(first + config.batch, len(place.canvas)))
    part = decode(params, knobs, key, place.canvas[rows], rows=rows)
    parts.append(jax.tree.map(np.asarray, part))
  seconds = time.perf_counter() - start
  decoded = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  return {
    **setting._asdict(),
    **columns.cost(decoded),
    **place.score(decoded),
    'rows': len(place.canvas),
    'seconds': seconds,
    **records.origin(setting.seed),
  }


def run(config, workdir):
  """The whole comparison. Returns the rows of results.jsonl."""
  in_range('batch', config.batch, 1)
  todo, networks = plan(config)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config, records.FREE)
  done = {identity(row) for row in rows}
  total = len(todo)
  todo = [setting for setting in todo if setting.identity() not in done]
  place = prepare(config) if todo else None
  programs: dict[Any, Callable] = {}
  for setting in todo:
    network = networks.get(setting.order)
    program = setting.contender, network and str(network.card['module'])
    if program not in programs:
      programs[program] = compile_one(
        config, place, setting.contender, network
      )
    rows.append(fill(config, setting, place, programs[program], network))
    jsonl.append(workdir / 'results.jsonl', rows[-1])
    print(progress(rows[-1], len(rows), total), flush=True)
  plot.write(workdir, rows, config.columns)
  return rows


def identity(row):
  """That of the Setting of a row."""
  return Setting(*(row[key] for key in Setting._fields)).identity()


def progress(row, done, total):
  """A line about a row that is finished."""
  knobs = ', '.join(f'{k} {v:g}' for k, v in row['knobs'].items())
  name = pathlib.Path(row['order'] or '').name.removesuffix('.safetensors')
  key = plot.judged(row)
  return (
    f'{done:3d}/{total} {row["contender"]:19}{name:18}'
    f'{knobs:28}seed {row["seed"]} {row["nfe"]:6.2f} passes, {key}'
    f' {row[key]:.4f} +- {row[f"{key}_error"]:.4f}, {row["seconds"]:.1f} s'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
