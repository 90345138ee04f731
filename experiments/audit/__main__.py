"""PUNT filmed on exact worlds: what its tests overlooked, and what for nothing.

  python -m experiments.audit --config=configs/audit.py --workdir=runs/audit

Every token that PUNT wrote is shown to the others of its step once more, with
all conditionals known: the divergences of the paper's evidence, false accepts
and false rejections (experiments/audit/numbers.py), and how often the
assumption behind the tests fails (experiments/audit/stability.py). The same on
a transformer that learned the world, judged by the transformer's own
conditionals; log_q - log p is then split at its log-probability of the same
tokens in the same order. Writes results.jsonl (a row per point, and per trained
model), audit.png, and the models' weights; a run that was stopped goes on.
"""

import functools
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.audit import filming, numbers, plot, stability
from experiments.common import columns, subjects
from punt_jax import samplers
from punt_jax.checks import in_range, known
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.generation import options
from punt_jax.oracles import named
from train import step
from train.settings import DENOISER, network

MODELS = ('exact', 'trained')
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'epsilons': (-1e9, 1e9), 'rows': (2,), 'bins': (1,),
  'sets': (1,), 'cuts': (1,), 'chunk': (1,), 'training.seed': (0,),
  'training.heldout': (2,), 'training.batch': (1,), 'training.steps': (1,),
  'training.model.width': (1,), 'training.model.layers': (1,),
  'training.model.heads': (1,), 'training.model.taps': (1,),
  'training.muon_rate': (0.0,), 'training.adam_rate': (0.0,),
  'training.weight_decay': (0.0,), 'training.warmup': (0,),
  'training.final_share': (0.0, 1.0), 'training.clip': (1e-9,),
  'training.ema': (0.0, 1.0),
}
SECONDS = 17.0  # a row, CPU time, see sweep


def points(config):
  """Every Point of a config, those that share a compilation together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  subjects.check_numbers(config, LIMITS)
  choices = options.grid({'punt': {
    'score': filming.ORDER, 'first': config.first, 'epsilon': config.epsilons,
  }}, 0)
  found = []
  for model, world, length in config.subjects:
    known('model', model, MODELS)
    known('world', world, named.NAMES)
    in_range('length', length, 3)
    if model == 'trained':
      step.warm_up(config.training)
      network('model', config.training.model, DENOISER, ())
      found.append(Point(
        world, length, 'one_by_one', {'score': filming.ORDER},
        {'model': model, 'kind': 'training'},
      ))
    found += [
      Point(
        world, length, 'punt', choice.settings(),
        {'model': model, 'kind': 'audit'},
      )
      for choice in choices
    ]
  return found


def audit(audited, shoot, epsilon, empty, bins, sets, cuts, seed):
  """What a row says about PUNT with one epsilon.

  Args:
    audited: filming.Audited.
    shoot: of filming.camera.
    epsilon: nats.
    empty: (B, L) of MASK.
    bins: of the share revealed.
    sets, cuts, seed: see stability.stability.
  """
  start = time.perf_counter()
  world, conditionals = audited.subject.world, audited.conditionals
  film, decoded = shoot(audited.subject.params, epsilon, audited.key, empty)
  found = numbers.effects(film, conditionals, world.vocab)
  log_p = np.asarray(world.log_prob(film.tokens), np.float64)
  total = np.where(found.accepted, found.joint, 0.0).sum((0, 2))
  return {
    **columns.cost(decoded),
    **columns.possible(world, film.tokens),
    **columns.average('gap', film.log_q - log_p),
    **columns.average('gap_sampler', film.log_q - found.log_p),
    **columns.average('gap_model', found.log_p - log_p),
    **columns.average('delta_sum', total),  # per canvas, as the gaps are
    **numbers.deltas(found, epsilon, bins),
    **numbers.accepts(found, epsilon),
    **stability.stability(
      film, conditionals, world.vocab, epsilon, np.random.default_rng(seed),
      sets, cuts,
    ),
    'seconds': time.perf_counter() - start,
  }


def learned(audited, empty):
  """What a row says about a trained model: what it gets wrong, one by one."""
  subject = audited.subject
  run = punt_jax.compile(lambda params, _: (
    subject.model(params), samplers.one_by_one(score=filming.ORDER)
  ))
  decoded = jax.tree.map(
    np.asarray, run(subject.params, (), audited.key, empty)
  )
  log_p = np.asarray(subject.world.log_prob(decoded.tokens), np.float64)
  return {
    **audited.facts,
    **columns.cost(decoded),
    **columns.possible(subject.world, decoded.tokens),
    **columns.average('gap', decoded.log_q - log_p),
  }


def run(config, workdir):
  """The whole audit. Returns the rows of results.jsonl."""
  workdir, settings = pathlib.Path(workdir), config.settings.to_dict()

  @functools.lru_cache(1)
  def audited_of(model, name, length):
    training = config.training if model == 'trained' else None
    file = workdir / f'{name}_{length}.safetensors'
    return filming.prepare(
      name, length, settings, config.seed, config.chunk, training, file
    )

  @functools.lru_cache(1)
  def camera(first, *place):
    return filming.camera(audited_of(*place).subject.model, first)

  def measure(point):
    place = point.about['model'], point.subject, point.length
    audited = audited_of(*place)
    empty = audited.subject.empty(config.rows)
    if point.about['kind'] == 'training':
      found = learned(audited, empty)
      found['training'] = config.training.to_dict()
    else:
      found = audit(
        audited, camera(point.settings['first'], *place),
        point.settings['epsilon'], empty, config.bins, config.sets,
        config.cuts, config.seed,
      )
    return {**found, 'rows': config.rows, 'world': settings}

  rows = sweep('audit', workdir, config, points(config), measure, (
    'gap', 'nelbo', 'joint_accept', 'pair_accept', 'false_reject',
    'unstable_own', 'seconds',
  ), ('subjects', 'epsilons', 'first'), SECONDS)
  plot.write(workdir / 'audit.png', rows)
  print(f'in {workdir}: results.jsonl, audit.png')
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
