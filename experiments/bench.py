"""What a sampler costs beside its forward passes.

  python -m experiments.bench --workdir=runs/bench

Overhead = wall / (device forwards x forward alone). "Forward alone" is the
model's features and its readout matmul at all positions, reduced to a sum, in
the same dtype; it is timed next to every decode, in the same process, and the
number reported is the median of the ratios. Weights are random, 6 layers x 256;
the canvas has 160 positions, 32 of them given. Runs are cut after 8 steps, when
the canvas is still the fullest; PUNT accepts everything (epsilon 1e9), so that
each of its probes tests half of the canvas, which is its dearest case.
"""

import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import punt_jax
from punt_jax import samplers
from punt_jax.models.transformer import Transformer

VOCAB = flags.DEFINE_list('vocab', ['8192', '126464'], 'vocabulary sizes')
BATCH = flags.DEFINE_list('batch', ['1', '8'], 'rows')
REPEATS = flags.DEFINE_integer('repeats', 5, 'timed runs of each')
ONLY = flags.DEFINE_list('only', [], 'samplers to time, all by default')
WORKDIR = flags.DEFINE_string('workdir', None, 'where bench.jsonl goes')

LENGTH, GIVEN, STEPS = 160, 32, 8
KNOBS = {
  'punt': dict(epsilon=1e9),
  'one_by_one': {},
  'top_k': dict(k=16),
  'uniform': dict(k=16),
  'maskgit': dict(steps=8),
  'entropy_bound': dict(gamma=0.0),
  'dilated': dict(base=2.0),
  'halton': dict(steps=8),
  'threshold': dict(tau=2.0),
  'factor': dict(f=0.0),
}


def make_model(vocab):
  """(module, random params): no layer is left at its zero initialization."""
  module = Transformer(vocab, width=256, layers=6, heads=4)
  params = module.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
  leaves, tree = jax.tree.flatten(params['params'])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  draw = lambda k, x: jax.random.normal(k, x.shape) * x.shape[0] ** -0.5
  return module, jax.tree.unflatten(tree, map(draw, keys, leaves))


def denoiser(module, params):
  apply = lambda method: lambda *x: module.apply(
    {'params': params}, *x, method=method
  )
  return punt_jax.from_features(
    apply('features'), apply('head'), module.vocab
  )


def seconds(run):
  start = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - start


def measure(name, module, params, batch, temperature, repeats):
  """One row of results."""

  def build(params, knobs):
    model = denoiser(module, params)
    model = punt_jax.temper(model, knobs['temperature'])
    return model, getattr(samplers, name)(**knobs['sampler'])

  def forward(params, tokens):
    model = denoiser(module, params)
    memo = model.init(tokens, jnp.ones(tokens.shape, bool))
    _, answer = model.ask(memo, tokens, jnp.ones(batch, bool))
    return module.apply(
      {'params': params}, answer.features, method='head'
    ).sum()

  tokens = np.full((batch, LENGTH), module.vocab, np.int32)
  tokens[:, :GIVEN] = np.arange(batch * GIVEN).reshape(batch, GIVEN)
  knobs = dict(sampler=KNOBS[name], temperature=temperature)
  run = punt_jax.compile(build, STEPS)
  decode = lambda: run(params, knobs, jax.random.key(2), tokens)
  alone = jax.jit(forward)
  once = lambda: alone(params, tokens)
  forwards = int(decode().meter.forwards[0])
  once()

  ratios = []
  for _ in range(repeats):
    # The machine may be busy: time the forward on both sides of the decode.
    before = seconds(once)
    wall = seconds(decode)
    forward_s = min(before, seconds(once))
    ratios.append(wall / (forwards * forward_s))
  batch_args = (np.arange(batch), tokens, tokens < 0, tokens >= 0)
  lowered = run.lower(params, knobs, jax.random.key(2), *batch_args)
  memory = lambda x: x.compile().memory_analysis().temp_size_in_bytes
  return dict(
    sampler=name,
    vocab=module.vocab,
    batch=batch,
    temperature=temperature,
    forwards=forwards,
    overhead=float(np.median(ratios)),
    low=float(np.min(ratios)),
    high=float(np.max(ratios)),
    forward_ms=1e3 * forward_s,
    temp_mb=memory(lowered) / 2**20,
    forward_temp_mb=memory(alone.lower(params, tokens)) / 2**20,
    canvas_mb=4 * batch * LENGTH * module.vocab / 2**20,
  )


def main(_):
  head = '{:14}{:>8}{:>4}{:>5}{:>10}{:>16}{:>12}{:>9}'
  print(
    head.format(
      'sampler', 'V', 'B', 'T', 'overhead', 'range', 'temp MB', '(B,L,V)'
    )
  )
  rows = []
  for vocab in map(int, VOCAB.value):
    module, params = make_model(vocab)
    for batch in map(int, BATCH.value):
      for temperature in (0.0, 1.0):
        for name in ONLY.value or samplers.__all__:
          row = measure(
            name, module, params, batch, temperature, REPEATS.value
          )
          rows.append(row)
          span = f'{row["low"]:.2f} - {row["high"]:.2f}'
          print(
            head.format(
              name, vocab, batch, temperature, f'{row["overhead"]:.3f}', span,
              f'{row["temp_mb"]:.0f}', f'{row["canvas_mb"]:.0f}',
            ),
            flush=True,
          )
  return rows


if __name__ == '__main__':
  app.run(main)
