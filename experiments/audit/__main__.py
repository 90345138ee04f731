"""PUNT filmed on exact worlds: what its tests overlooked, and what for nothing.

  python -m experiments.audit --config=configs/audit.py --workdir=runs/audit

Every token that PUNT wrote is shown to the others of its step once more, with
all conditionals known: the divergences of the paper's evidence, false accepts
and false rejections (audit_numbers.py), and how often the assumption behind
the tests fails (audit_stability.py). The same on a transformer that learned
the world, judged by the transformer's own conditionals; log_q - log p is then
split at its log-probability of the same tokens in the same order. Writes
results.jsonl (a row per point, and per trained model), audit.png, and the
models' weights; a run that was stopped goes on.
"""

import itertools
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.audit import numbers, plot, stability
from experiments.audit import subject as audit_subject
from experiments.common import columns
from punt_jax import checks, jsonl, samplers
from punt_jax.cli import command, records
from punt_jax.oracles import named

MODELS = ('exact', 'trained')


class Point(NamedTuple):
  """What a row of results.jsonl is about."""

  model: str  # of MODELS
  world: str
  length: int
  first: str  # bit order
  epsilon: float  # nats


def points(config):
  """Every Point of a config, those that share a compilation together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  for name, least in (('rows', 2), ('bins', 1), ('sets', 1), ('cuts', 1)):
    checks.in_range(name, config[name], least)
  for epsilon in config.epsilons:
    checks.in_range('epsilon', epsilon)
  for first in config.first:
    checks.known('bit order', first, ('msb', 'lsb'))
  found = []
  for model, world, length in config.subjects:
    checks.known('model', model, MODELS)
    checks.known('world', world, named.NAMES)
    checks.in_range('length', length, 3)
    found += itertools.product(
      (model,), (world,), (length,), config.first, config.epsilons
    )
  return [Point(*point) for point in found]


def fill(config, point, subject, shoot):
  """The row of results.jsonl about one point."""
  start = time.perf_counter()
  film, decoded = shoot(point.epsilon)
  law, vocab = subject.law, subject.world.vocab
  found = numbers.effects(film, law, vocab)
  log_p = np.asarray(subject.world.log_prob(film.tokens), np.float64)
  rng = np.random.default_rng(config.seed)
  total = np.where(found.accepted, found.joint, 0.0).sum((0, 2))
  return {
    'kind': 'audit',
    **point._asdict(),
    **columns.cost(decoded),
    **columns.possible(subject.world, film.tokens),
    **columns.average('gap', film.log_q - log_p),
    **columns.average('gap_sampler', film.log_q - found.log_p),
    **columns.average('gap_model', found.log_p - log_p),
    **columns.average('delta_sum', total),  # per canvas, as the gaps are
    **numbers.deltas(found, point.epsilon, config.bins),
    **numbers.accepts(found, point.epsilon),
    **stability.stability(
      film, law, vocab, point.epsilon, rng, config.sets, config.cuts
    ),
    'seconds': time.perf_counter() - start,
    **common(config),
  }


def common(config):
  """What every row says about where it comes from."""
  return {
    'rows': config.rows,
    'law': config.settings.to_dict(),
    **records.origin(config.seed),
  }


def learned(config, point, subject, facts):
  """The row about a trained model: what it gets wrong, one by one."""
  build = lambda params, knobs: (
    subject.model(params), samplers.one_by_one(score=audit_subject.ORDER)
  )
  run = punt_jax.compile(build)
  decoded = jax.tree.map(
    np.asarray, run(subject.params, (), subject.key, subject.empty)
  )
  log_p = np.asarray(subject.world.log_prob(decoded.tokens), np.float64)
  return {
    'kind': 'training',
    'model': point.model,
    'world': point.world,
    'length': point.length,
    **facts,
    **columns.cost(decoded),
    **columns.possible(subject.world, decoded.tokens),
    **columns.average('gap', decoded.log_q - log_p),
    'training': config.training.to_dict(),
    **common(config),
  }


def run(config, workdir):
  """The whole audit. Returns the rows of results.jsonl."""
  plan = points(config)
  rows = records.resume(workdir, config)
  identity = lambda row: tuple(row.get(key) for key in Point._fields)
  done = {identity(row) for row in rows}

  def add(row):
    rows.append(row)
    jsonl.append(workdir / 'results.jsonl', row)

  todo = [point for point in plan if point not in done]
  for (model, *what), here in itertools.groupby(todo, lambda p: p[:3]):
    subject, facts = audit_subject.prepare(config, model, *what, workdir)
    for first, group in itertools.groupby(here, lambda p: p.first):
      shoot = audit_subject.camera(subject, first)
      for point in group:
        if facts is not None and (*point[:3], None, None) not in done:
          add(learned(config, point, subject, facts))
          done.add(identity(rows[-1]))
        add(fill(config, point, subject, shoot))
        print(progress(rows[-1], len(rows)), flush=True)
  plot.write(pathlib.Path(workdir) / 'audit.png', rows)
  print(f'in {workdir}: results.jsonl, audit.png')
  return rows


def progress(row, done):
  """A line about a point that is finished."""
  number = lambda key: (
    f'{key} -' if row[key] is None else
    f'{key} {row[key]:.4f} +- {row[f"{key}_error"]:.4f}'
  )
  return (
    f'{done:3d}  {row["model"]} {row["world"]} {row["length"]} {row["first"]}'
    f' epsilon {row["epsilon"]:g}: {row["nfe"]:.1f} passes, '
    + ', '.join(map(number, (
      'joint_accept', 'pair_accept', 'false_reject', 'unstable_own',
    )))
    + f', {row["seconds"]:.1f} s'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
