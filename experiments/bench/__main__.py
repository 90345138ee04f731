"""What a sampler costs beside its forward passes.

  python -m experiments.bench --config=configs/bench.py --workdir=runs/bench

Overhead = wall / (device forwards x forward alone). "Forward alone" is the
model's features and its readout matmul at all positions, reduced to a sum, in
the same dtype; it is timed on both sides of each decode, in the same process,
and the median of the ratios is reported. Weights are random, 6 layers x 256.
Writes results.jsonl (a run that was stopped goes on) and bench.png.

With --config=configs/bench_model.py, and --model_shape for another shape than
its own, the model has the shape of a real one: see experiments/bench/model.py.
"""

import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import model as bench_model
from experiments.bench import plot, timing
from punt_jax.checks import numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.models import transformer

LIMITS = {  # of the config's numbers, see checks.numbers
  'seed': (0,), 'vocab': (2,), 'batch': (1,), 'temperature': (0.0,),
  'repeats': (1,), 'length': (1,), 'steps': (1,),
}
SECONDS = 15.0  # a row, CPU time, see sweep
TABLE = {
  'sampler': '{sampler}', 'subject': '{subject}', 'B': '{batch}',
  'T': '{temperature:g}', 'overhead': '{overhead:.3f}',
  'range': '{overhead_lowest:.2f} - {overhead_highest:.2f}',
  'scratch': '{scratch_mib:.0f}', 'B x L x V': '{log_probs_mib:.0f}',
}


def make_model(vocab):
  """(module, random params): no layer is left at its zero initialization."""
  module = transformer.Transformer(vocab, width=256, layers=6, heads=4)
  like = module.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
  leaves, tree = jax.tree.flatten(like['params'])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  draw = lambda k, x: jax.random.normal(k, x.shape) * x.shape[0] ** -0.5
  return module, jax.tree.unflatten(tree, map(draw, keys, leaves))


def canvas(vocab, batch, length, given):
  """(B, L) MASK, save `given` tokens at the left of each row."""
  tokens = np.full((batch, length), vocab, np.int32)
  tokens[:, :given] = np.arange(batch * given).reshape(batch, -1) % vocab
  return tokens


def forward_of(module, params, tokens):
  """(forward, lowered): features and readout at all positions, summed."""
  alone = jax.jit(
    lambda params, tokens: module.apply({'params': params}, tokens).sum()
  )
  return lambda: alone(params, tokens), alone.lower(params, tokens)


def fill(choice, model, tokens, repeats, **how):
  """The measured columns; how: see timing.decode_of."""
  module, params = model
  denoiser = functools.partial(transformer.denoiser, module)
  decode, lowered = timing.decode_of(choice, denoiser, params, tokens, **how)
  forward, forward_lowered = forward_of(module, params, tokens)
  scratch = lambda x: x.compile().memory_analysis().temp_size_in_bytes / 2**20
  return timing.overhead(forward, decode, decode(), repeats) | dict(
    scratch_mib=scratch(lowered),
    forward_scratch_mib=scratch(forward_lowered),
    log_probs_mib=4 * tokens.size * module.vocab / 2**20,
  )


def run(config, workdir, model_shape=None):
  """The whole job. Returns the rows of results.jsonl."""
  if 'model_shape' in config:
    config.model_shape = model_shape or config.model_shape
    return bench_model.run(config, workdir)
  if model_shape:
    raise ValueError(
      '--model_shape goes with --config=configs/bench_model.py: this config'
      ' has a model of its own'
    )
  numbers(config, LIMITS | {'given': (0, config.length)})
  choices = timing.choices(config.samplers, config.repeats)
  points = [
    Point(
      f'vocab_{vocab}', config.length, choice.name, choice.settings(),
      {'batch': batch, 'temperature': heat},
    )
    for vocab, batch, heat, choice in itertools.product(
      config.vocab, config.batch, config.temperature, choices.values()
    )
  ]
  model_of = functools.lru_cache(1)(make_model)

  def measure(point):
    vocab = int(point.subject.removeprefix('vocab_'))
    return fill(
      choices[point.sampler], model_of(vocab),
      canvas(vocab, point.about['batch'], point.length, config.given),
      config.repeats, temperature=point.about['temperature'],
      steps=config.steps, seed=config.seed,
    )

  rows = sweep(
    'bench', workdir, config, points, measure, ('overhead',),
    ('samplers', 'vocab', 'batch', 'temperature', 'length'), SECONDS,
  )
  plot.samplers(pathlib.Path(workdir) / 'bench.png', rows)
  print('\noverhead: wall / (device forwards x forward alone); 1 is free')
  print('scratch: MiB of the compiled decode; B x L x V: a float32 canvas\n')
  print(timing.table(TABLE, rows))
  print(f'\nin {workdir}: bench.png, results.jsonl')
  return rows


if __name__ == '__main__':
  command.run_config(
    run, model_shape='One of bench_model.SHAPES, for configs/bench_model.py.'
  )
