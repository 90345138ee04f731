"""What the window cache saves, and what it changes.

  python -m experiments.bench.cache --config=configs/bench_cache.py \\
      --workdir=runs/bench_cache

Each sampler runs in blocks, with and without the KV cache of
punt_jax/kv_cache.py, with the same random numbers:

* positions computed, and wall time, as ratios of the run with the cache to the
  run without (alternating, median)
* tokens written that differ, all of what follows a first difference included
* mean KL(without || with), nats, over the masked positions of the block, at
  every question that the run with the cache asked

Weights are random (a shape of experiments/bench/model.py): positions and wall
time are those of a trained model that writes as many tokens per step, the
deviations are not. Writes results.jsonl; a run that was stopped goes on.
"""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from experiments.bench import model as bench_model
from experiments.bench import timing
from punt_jax import samplers, scores
from punt_jax.checkpoints import huggingface
from punt_jax.checks import known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.types import Denoiser

LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'rows': (1,), 'length': (1,), 'block_length': (1,),
  'temperature': (0.0,), 'repeats': (1,),
}
SECONDS = 22.5  # a row, CPU time, see sweep
# Of the config: they choose rows.
FREE = (
  'model_shape', 'dtype', 'samplers', 'refresh', 'prompt', 'length',
  'block_length', 'temperature',
)
TABLE = {
  'sampler': '{sampler}', 'prompt': '{prompt}', 'refresh': '{refresh}',
  'steps': '{plain_steps}/{fast_steps}', 'NFE': '{plain_nfe}/{fast_nfe}',
  'positions': '{positions_ratio:.2f}', 'wall': '{wall_ratio:.2f}',
  'written/step': '{tokens_per_step:.2f}', 'differ': '{differ:.3f}',
  'KL, nats': '{kl:.1e}',
}


class Bill(NamedTuple):
  """A Meter, and how far the answers were from those without a cache."""

  meter: Any  # Meter
  moved: Any  # (B,) sum of KL, nats
  compared: Any  # (B,) int32 positions


def compared(fast, plain) -> Denoiser:
  """`fast`, also asking `plain` each question; the meter becomes a Bill.

  A sampler may drop what a probe leaves in the cache, but never the meter.
  """

  def init(tokens, valid):
    memo = fast.init(tokens, valid)
    bill = Bill(memo.meter, jnp.zeros(len(tokens)), memo.meter.nfe)
    return memo._replace(meter=bill, cache=(memo.cache, valid))

  def inside(memo):
    return memo._replace(meter=memo.meter.meter, cache=memo.cache[0])

  def outside(memo, bill, open_):
    return memo._replace(
      meter=bill._replace(meter=memo.meter), cache=(memo.cache, open_)
    )

  def commit(memo, tokens, rows, open_):
    told = fast.commit(inside(memo), tokens, rows, open_)
    return outside(told, memo.meter, open_)

  def ask(memo, tokens, rows):
    told, answer = fast.ask(inside(memo), tokens, rows)
    whole = plain.init(tokens, memo.valid)
    wanted = plain.ask(whole, tokens, rows)[1].features
    far = scores.kl(plain.read(wanted), fast.read(answer.features))
    where = memo.cache[1] & (tokens == fast.vocab) & rows[:, None]
    bill = memo.meter._replace(
      moved=memo.meter.moved + jnp.where(where, far, 0).sum(-1),
      compared=memo.meter.compared + where.sum(-1, dtype=jnp.int32),
    )
    return outside(told, bill, memo.cache[1]), answer

  return fast._replace(init=init, ask=ask, commit=commit)


def runners(choice, plan, block, temperature):
  """{'plain', 'fast', 'compared': run} of a sampler; `refresh` is traced."""
  plain = lambda params: huggingface.denoiser(plan, params)
  fast = lambda params: huggingface.denoiser(plan, params, block)
  models = dict(
    plain=plain, fast=fast,
    compared=lambda params: compared(fast(params), plain(params)),
  )

  def compiled(model):
    def build(params, hyperparams):
      told = punt_jax.temper(model(params), temperature)
      inner = choice.make(hyperparams['sampler'])
      return told, samplers.blocks(inner, block, hyperparams['refresh'])

    return punt_jax.compile(build)

  return {name: compiled(model) for name, model in models.items()}


def fill(runs, params, hyperparams, tokens, repeats, seed):
  """The measured columns; hyperparameters: see runners."""
  key = jax.random.key(seed)
  go = lambda name, tokens: runs[name](params, hyperparams, key, tokens)
  almost = np.zeros_like(tokens)
  almost[:, -1] = tokens[:, -1]
  for name in runs:  # to compile them
    go(name, almost)
  outs, walls = {}, []
  for _ in range(repeats):
    wall = {}
    for name in ('plain', 'fast'):
      start = time.perf_counter()
      outs[name] = jax.block_until_ready(go(name, tokens))
      wall[name] = time.perf_counter() - start
    walls.append(wall)
  bill = go('compared', tokens).meter
  plain, fast = outs['plain'], outs['fast']
  written = np.asarray(plain.when) >= 0
  positions = lambda out: int(out.meter.positions.sum())
  return dict(
    positions_ratio=positions(fast) / positions(plain),
    wall_ratio=float(np.median([w['fast'] / w['plain'] for w in walls])),
    plain_seconds=float(np.median([w['plain'] for w in walls])),
    tokens_per_step=float(written.sum() / plain.steps.sum()),
    plain_steps=int(plain.steps.sum()),
    fast_steps=int(fast.steps.sum()),
    plain_nfe=int(plain.meter.nfe.sum()),
    fast_nfe=int(fast.meter.nfe.sum()),
    differ=float(np.mean((plain.tokens != fast.tokens)[written])),
    kl=float(bill.moved.sum() / bill.compared.sum()),
    rows=len(tokens),
    **timing.machine(),
  )


def run(config, workdir):
  """The whole job. Returns the rows of results.jsonl."""
  known('model_shape', config.model_shape, bench_model.SHAPES)
  known('dtype', config.dtype, ('bfloat16', 'float32'))
  numbers(config, LIMITS)
  numbers(config, {'prompt': (0, config.length - 1)})
  choices = timing.choices(config.samplers, config.repeats)
  every = {
    known('sampler of refresh:', name, config.refresh): (1.0, math.inf)
    for name in choices
  }
  numbers(config.refresh, every, 'refresh.')
  same = {'dtype': config.dtype, 'temperature': config.temperature}
  points = [
    Point(
      config.model_shape, config.length, name, choice.settings(), same | {
        'block_length': config.block_length, 'prompt': prompt,
        'refresh': str(refresh),  # JSON knows no infinity
      },
    )
    for name, choice in choices.items() for prompt in config.prompt
    for refresh in config.refresh[name]
  ]

  @functools.lru_cache(1)
  def model():
    return bench_model.make_model(
      config.model_shape, config.dtype, config.seed
    )

  @functools.lru_cache(1)
  def runs(name):
    plan, _ = model()
    return runners(
      choices[name], plan, config.block_length, config.temperature
    )

  def measure(point):
    plan, params = model()
    tokens = bench_model.canvas(
      plan, config.rows, point.length, point.about['prompt']
    )
    hyperparams = {
      'sampler': choices[point.sampler].traced,
      'refresh': float(point.about['refresh']),
    }
    return fill(
      runs(point.sampler), params, hyperparams, tokens, config.repeats,
      config.seed,
    )

  rows = sweep(
    'bench_cache', workdir, config, points, measure,
    ('positions_ratio', 'wall_ratio', 'differ', 'kl'), FREE, SECONDS,
  )
  print('\nratios: with the cache / without; written/step, without\n')
  print(timing.table(TABLE, rows))
  print(f'\nin {workdir}: results.jsonl')
  return rows


if __name__ == '__main__':
  command.run_config(run)
