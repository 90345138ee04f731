"""What does block-causal attention cost a model, and save its samples?

  python -m experiments.block_models --config=configs/block_models.py \\
    --workdir=runs/block_models

The same small transformer is trained with full and with block-causal attention
(BD3-LM, https://arxiv.org/abs/2503.09573), as many steps from the same seeds,
on exact worlds and on a text. A row per model has its held-out NELBO; a row per
model and sampler the errors of samples, passes, and positions computed per
token: on the whole canvas and block by block with full attention, and block by
block with the exact cache. The latter is decoded once more without the cache:
`same` is the share of canvases that come out equal, `recomputed` what that
computes per token. Writes results.jsonl and the models' weights; a run that was
stopped goes on.
"""

import functools
import pathlib
import time

import jax
import numpy as np

import punt_jax
from experiments.block_models import models
from experiments.common import columns, subjects
from punt_jax import samplers
from punt_jax.checks import known
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.generation import options
from punt_jax.models import transformer
from punt_jax.oracles import named
from train import data, settings, step

LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'seeds': (0,), 'rows': (2,), 'draws': (2,),
} | {
  f'{kind}.{name}': limit for kind in ('training', 'text')
  for name, limit in settings.DENOISER.items()
  if name in (
    'steps', 'batch', 'warmup', 'clip', 'muon_rate', 'adam_rate',
    'weight_decay', 'final_share', 'ema', 'model.width', 'model.layers',
    'model.heads', 'model.taps',
  )
} | {'training.heldout': (2,)}
SECONDS = 60.0  # a row, CPU time, see sweep


def points(config):
  """Every Point of a config, those that share a compilation together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  subjects.check_numbers(config, LIMITS)
  for training in (config.training, config.text):
    step.warm_up(training)
    settings.network('model', training.model, settings.DENOISER, ())
  choices = [
    options.choose(name, chosen) for name, chosen in config.samplers.items()
  ]
  found = []
  for name, length, block_length in config.subjects:
    known('subject', name, (*named.NAMES, 'text'))
    if name != 'text':
      subjects.check(name, length, config.settings.to_dict())
    blocks = dict(attention='block_causal', block_length=block_length)
    settings.blocks(blocks, length)
    ways = (0, 0), (0, block_length), (block_length, block_length)
    about = lambda kind, seed, own, within: {
      'kind': kind, 'training_seed': seed, 'block_length': own,
      'within': within,
    }
    more = [
      Point(name, length, 'none', {}, about('training', seed, own, 0))
      for own in (0, block_length) for seed in config.seeds
    ]
    more += [
      Point(
        name, length, choice.name, choice.settings(),
        about('samples', seed, own, within),
      )
      for own, within in ways for choice in choices for seed in config.seeds
    ]
    found += [point for point in more if point not in found]
  return found


def writer(module, choice, within, cached):
  """(params, hyperparams, key, canvases) -> Decoded, compiled.

  Args:
    module: a Transformer.
    choice: options.Choice.
    within: positions of the blocks it writes in; 0: the whole canvas at once.
    cached: see transformer.denoiser.
  """

  def build(params, hyperparams):
    model = transformer.denoiser(module, params, cached=cached)
    sampler = choice.make(hyperparams)
    return model, samplers.blocks(sampler, within) if within else sampler

  return punt_jax.compile(build)


def samples(source, decoded):
  """What a row says about finished canvases, beside what they cost."""
  found = {
    **columns.cost(decoded),
    'positions': per_token(decoded),
    'pair_tv': subjects.pair_tv(decoded.tokens, source.exact),
    'pair_tv_floor': subjects.pair_tv(
      source.others[: len(decoded.tokens)], source.exact
    ),
  }
  if source.world is None:
    return found
  empty = np.full(decoded.tokens.shape, source.data.vocab)
  return found | columns.errors(source.world, decoded, empty)


def per_token(decoded):
  """Positions computed for a token, mean."""
  return float(decoded.meter.positions.mean() / decoded.tokens.shape[1])


def run(config, workdir):
  """Trains and samples. Returns the rows of results.jsonl."""
  workdir, several = pathlib.Path(workdir), len(config.seeds)
  asked = points(config)
  choices = {
    name: options.choose(name, chosen)
    for name, chosen in config.samplers.items()
  }

  def training_of(name, seed):
    training = config.text if name == 'text' else config.training
    return models.put(training, seed=seed)

  @functools.lru_cache(several)
  def source_of(name, length, seed):
    training = training_of(name, seed)
    if name == 'text':
      return models.of_text(training, length)
    return models.of_world(
      name, length, config.settings.to_dict(), config.seed, training
    )

  write = functools.lru_cache(2)(
    lambda module, sampler, within, cached: writer(
      module, choices[sampler], within, cached
    )
  )

  def measure(point):
    about, place = point.about, (point.subject, point.length)
    own, seed = about['block_length'], about['training_seed']
    training, source = training_of(place[0], seed), source_of(*place, seed)
    module = models.network(
      source.data.vocab, place[1], own, training.model, source.world is not None
    )
    file = '_'.join(map(str, (*place, own, seed)))
    params, facts = models.learn(
      training, module, source.data, workdir / f'{file}.safetensors'
    )
    if about['kind'] == 'training':
      return {
        **models.score(training, module, source.data, params, config.draws),
        'training_seconds': facts['training_seconds'],
        'training': training.to_dict(),
      }
    traced = {k: float(v) for k, v in choices[point.sampler].traced.items()}
    empty = np.full((config.rows, place[1]), source.data.vocab, np.int32)
    decode = lambda cached: jax.tree.map(np.asarray, write(
      module, point.sampler, about['within'], cached
    )(params, traced, jax.random.key(config.seed), empty))
    start = time.perf_counter()
    decoded = decode(True)
    found = {'seconds': time.perf_counter() - start, 'rows': config.rows}
    found |= samples(source, decoded) | {'same': None, 'recomputed': None}
    if own:
      again = decode(False)
      same = (again.tokens == decoded.tokens).all(-1)
      found |= {'same': float(same.mean()), 'recomputed': per_token(again)}
    return found

  rows = sweep(
    'block_models', workdir, config, asked, measure,
    ('nelbo', 'excess_nll', 'gap', 'pair_tv', 'positions', 'same'),
    ('subjects', 'samplers', 'seeds'), SECONDS,
    {'text.data.path': data.digests_of(
      config.text.data, data.read_text(config.text.data.path)
    )['corpus']},
  )
  print(f'in {workdir}: results.jsonl, and the weights')
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
