"""What a sampler costs beside its forward passes.

  python -m experiments.bench --config=configs/bench.py --workdir=runs/bench

Overhead = wall / (device forwards x forward alone). "Forward alone" is the
model's features and its readout matmul at all positions, reduced to a sum, in
the same dtype; it is timed on both sides of each decode, in the same process,
and the median of the ratios is reported. Weights are random, 6 layers x 256.
Writes results.jsonl (a run that was stopped goes on) and overhead.png.

With --config=configs/bench_model.py, and --model_shape for another shape than
its own, the model has the shape of a real one: see experiments/bench/model.py.
"""

import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
import numpy as np

from experiments.bench import model as bench_model
from experiments.bench import timing
from punt_jax import jsonl
from punt_jax.checks import in_range
from punt_jax.cli import command, records
from punt_jax.generation import options
from punt_jax.models import transformer


def make_model(vocab):
  """(module, random params): no layer is left at its zero initialization."""
  module = transformer.Transformer(vocab, width=256, layers=6, heads=4)
  like = module.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
  leaves, tree = jax.tree.flatten(like['params'])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  draw = lambda k, x: jax.random.normal(k, x.shape) * x.shape[0] ** -0.5
  return module, jax.tree.unflatten(tree, map(draw, keys, leaves))


def forward_of(module, params, tokens):
  """(forward, lowered): features and readout at all positions, summed."""
  alone = jax.jit(
    lambda params, tokens: module.apply({'params': params}, tokens).sum()
  )
  return lambda: alone(params, tokens), alone.lower(params, tokens)


def measure(config, choice, model, batch, temperature):
  """The numbers of a row."""
  module, params = model
  tokens = np.full((batch, config.length), module.vocab, np.int32)
  tokens[:, : config.given] = np.arange(batch * config.given).reshape(batch, -1)
  decode, decode_lowered = timing.decode_of(
    config, choice, functools.partial(transformer.denoiser, module), params,
    tokens, temperature,
  )
  forward, forward_lowered = forward_of(module, params, tokens)
  forwards = int(decode().meter.forwards[0])
  scratch = lambda x: x.compile().memory_analysis().temp_size_in_bytes / 2**20
  return timing.overhead(forward, decode, forwards, config.repeats) | dict(
    scratch_mib=scratch(decode_lowered),
    forward_scratch_mib=scratch(forward_lowered),
    canvas_mib=4 * tokens.size * module.vocab / 2**20,
  )


def line(*cells):
  """A line of the table."""
  form = '{:14}{:>8}{:>3}{:>4}{:>10}{:>14}{:>9}{:>11}'
  return form.format(*cells)


def show(row):
  """A row of results.jsonl as a line."""
  span = f'{row["overhead_lowest"]:.2f} - {row["overhead_highest"]:.2f}'
  return line(
    row['sampler'], row['vocab'], row['batch'], f'{row["temperature"]:g}',
    f'{row["overhead"]:.3f}', span, f'{row["scratch_mib"]:.0f}',
    f'{row["canvas_mib"]:.0f}',
  )


def draw(path, rows):
  """Writes the PNG: a panel per vocabulary, a line per sampler."""
  vocabs = list(dict.fromkeys(row['vocab'] for row in rows))
  names = list(dict.fromkeys(row['sampler'] for row in rows))
  figure, axes = plt.subplots(
    1, len(vocabs), figsize=(5 * len(vocabs), 1.5 + 0.35 * len(names)),
    sharex=True, sharey=True, squeeze=False, layout='constrained',
  )
  for axis, vocab in zip(axes[0], vocabs, strict=True):
    mine = [row for row in rows if row['vocab'] == vocab]
    kinds = dict.fromkeys((r['batch'], r['temperature']) for r in mine)
    for kind in kinds:
      some = [r for r in mine if (r['batch'], r['temperature']) == kind]
      axis.plot(
        [r['overhead'] for r in some],
        [names.index(r['sampler']) for r in some],
        'o', alpha=0.7, label='B = {}, T = {:g}'.format(*kind),
      )
    axis.axvline(1, color='gray', linewidth=1)
    axis.set_title(f'V = {vocab:,}')
    axis.set_xlabel('wall / (forwards x forward alone)')
  axes[0, 0].set_yticks(range(len(names)), names)
  axes[0, 0].invert_yaxis()
  axes[0, -1].legend(fontsize=8)
  figure.savefig(path, dpi=130)
  plt.close(figure)


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
  in_range('repeats', config.repeats, 1)
  listed = config.samplers.to_dict().items()
  choices = [options.choose(name, knobs) for name, knobs in listed]
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  keys = ('vocab', 'batch', 'temperature', 'sampler')
  done = {tuple(row[k] for k in keys) for row in rows}
  print('overhead: wall / (device forwards x forward alone); 1 is free')
  print('scratch: MiB of the compiled decode; B x L x V: a float32 canvas')
  head = 'sampler', 'V', 'B', 'T', 'overhead', 'range', 'scratch', 'B x L x V'
  print('\n' + line(*head))
  for row in rows:
    print(show(row))
  for vocab in config.vocab:
    model = make_model(vocab)
    settings = itertools.product(config.batch, config.temperature, choices)
    for batch, heat, choice in settings:
      about = dict(zip(keys, (vocab, batch, heat, choice.name), strict=True))
      if tuple(about.values()) in done:
        continue
      found = measure(config, choice, model, batch, heat)
      label = {'label': str(choice)}
      row = about | label | found | records.origin(config.seed)
      jsonl.append(workdir / 'results.jsonl', row)
      rows.append(row)
      print(show(row), flush=True)
  draw(workdir / 'overhead.png', rows)
  print(f'\nin {workdir}: overhead.png, results.jsonl')
  return rows


if __name__ == '__main__':
  command.run_config(
    run, model_shape='One of bench_model.SHAPES, for configs/bench_model.py.'
  )
