"""Speed and memory of samplers on a model of a real one's shape.

  python -m experiments.bench --config=configs/bench_model.py \\
      --model_shape=llada8b --workdir=runs/bench_llada8b

Weights are random and drawn on the device, parameter by parameter. How many
tokens a pass writes depends on the weights, so read passes per second; tokens
per second are those of this run, cut after config.steps.

* overhead: wall / (device forwards x forward alone), see experiments/bench/
* MFU: FLOP/s of the forward alone / FLOP/s of the device's own largest matrix
  products, measured in the same run
* memory: what the compiled decode holds, beside what it is allowed: the
  features' program + 1.2 x (two feature canvases + one readout chunk); and the
  device's own peak where it tells one and no earlier setting's was higher

Writes results.jsonl (a run that was stopped goes on) and bench_model.png.
"""

import functools
import itertools
import math
import pathlib

import flax
import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import plot, timing
from punt_jax import readout
from punt_jax.checkpoints import huggingface
from punt_jax.checks import known, numbers
from punt_jax.cli.random_checkpoint import describe
from punt_jax.cli.sweep import Point, sweep
from punt_jax.models.layout import STACKED

MIB = 2**20
SHAPES = {  # config.json
  'llada8b': describe('llada', '8b', 126464),
  'llada1b': describe('llada', '1b', 126464),
  'llada_small': describe('llada', 'small', 8192),
  'llada_mini': describe('llada', 'tiny', 512) | dict(
    d_model=256, n_layers=4, n_kv_heads=4, mlp_hidden_size=768
  ),
  'llada_tiny': describe('llada', 'tiny', 512),
  'dream7b': describe('dream', '8b', 152064) | dict(
    hidden_size=3584, num_hidden_layers=28, num_attention_heads=28,
    num_key_value_heads=4, intermediate_size=18944,
  ),
  'dream_small': describe('dream', 'small', 8192),
  'dream_tiny': describe('dream', 'tiny', 512),
}
# Of the config: they choose rows.
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'batch': (1,), 'length': (1,), 'temperature': (0.0,),
  'repeats': (1,), 'steps': (1,),
}
FREE = ('model_shape', 'dtype', 'samplers', 'batch', 'length', 'temperature')
TABLE = {
  'sampler': '{sampler}', 'L': '{length}', 'B': '{batch}',
  'forwards': '{forwards[0]}', 'tokens/s': '{tokens_per_second:.3g}',
  'NFE/s': '{nfe_per_second:.3g}', 'overhead': '{overhead:.2f}',
  'MFU': '{mfu:.2f}', 'memory': '{memory_mib:.0f}',
  'allowed': '{allowed_mib:.0f}',
}


def make_model(shape, dtype, seed=0):
  """(Layout, random parameters on the device) of one of SHAPES."""
  known('model_shape', shape, SHAPES)
  plan = huggingface.layout(SHAPES[shape])
  plan = plan._replace(module=plan.module.clone(dtype=dtype))
  # The largest first, so that its scratch finds the device empty.
  likes = huggingface.shapes(plan).items()
  likes = sorted(likes, key=lambda item: -math.prod(item[1].shape))
  flat = {
    path: draw(jax.random.fold_in(jax.random.key(seed), i), path, like.shape,
               like.dtype.name)
    for i, (path, like) in enumerate(likes)
  }
  return plan, flax.traverse_util.unflatten_dict(flat, sep='/')


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draw(key, path, shape, dtype):
  """A random parameter, layer by layer. Deviations keep features near 1."""
  if path.endswith('scale'):
    return jnp.ones(shape, dtype)
  deviation = shape[-2] ** -0.5 if path.endswith('kernel') else 1.0
  deviation = 0.1 if path.endswith('bias') else deviation
  one = lambda key, shape: deviation * jax.random.normal(key, shape, dtype)
  if not path.startswith(STACKED):
    return one(key, shape)
  keys = jax.random.split(key, shape[0])
  return jax.lax.map(lambda key: one(key, shape[1:]), keys)


def forward_flops(module, batch, length):
  """FLOP of a forward pass: its matrix products, two per multiply-add.

  B L (layers (2 D (2 Q + 2 P + 3 F) + 4 L Q) + 2 D V') with Q = heads x size
  (query and out), P = groups x size (key and value), F = hidden (gate, up and
  down), 4 L Q for scores and their sums, V' rows of the head.
  """
  m = module
  q, p = m.heads * m.size, m.groups * m.size
  layer = 2 * m.width * (2 * q + 2 * p + 3 * m.hidden) + 4 * length * q
  return batch * length * (m.layers * layer + 2 * m.width * m.vocab)


def canvas(plan, batch, length, given):
  """(B, L) MASK, save `given` tokens at the left of each row."""
  tokens = np.full((batch, length), plan.vocab, np.int32)
  some = np.random.default_rng(0).integers(plan.mask, size=(batch, given))
  tokens[:, :given] = some
  return tokens


def measure_forward(plan, params, tokens):
  """(runs the forward alone, what is known of it)."""
  apply = lambda params, tokens, method: plan.module.apply(
    {'params': params}, tokens, method=method
  )
  alone = jax.jit(lambda *x: apply(*x, method='__call__').sum())
  # All weights count, the readout's too.
  network = jax.jit(
    functools.partial(apply, method='features'), keep_unused=True
  )
  size = jnp.dtype(plan.module.dtype).itemsize
  parts = dict(
    features_mib=timing.program_bytes(network.lower(params, tokens).compile()),
    canvas_mib=tokens.size * plan.module.width * size,
    chunk_mib=readout.chunk_size(plan.vocab, tokens.size) * plan.vocab * 4,
  )
  parts = {name: value / MIB for name, value in parts.items()}
  allowed = parts['features_mib'] + 1.2 * (
    2 * parts['canvas_mib'] + parts['chunk_mib']
  )
  flops = forward_flops(plan.module, *tokens.shape)
  return lambda: alone(params, tokens), parts | dict(
    allowed_mib=allowed, forward_tflop=flops / 1e12
  )


def fill(choice, plan, params, tokens, repeats, peak, **how):
  """The measured columns; how: see timing.decode_of."""
  forward, about = measure_forward(plan, params, tokens)
  before = timing.device_peak()
  denoiser = functools.partial(huggingface.denoiser, plan)
  decode, lowered = timing.decode_of(choice, denoiser, params, tokens, **how)
  out = decode()
  after = timing.device_peak()
  peak_mib = after / MIB if after and after > before else None
  compiled = timing.program_bytes(lowered.compile()) / MIB
  found = timing.overhead(forward, decode, out, repeats)
  wrote, nfe = int((np.asarray(out.when) >= 0).sum()), int(out.meter.nfe.sum())
  return about | found | dict(
    nfe_per_second=nfe / found['seconds'],
    tokens_per_second=wrote / found['seconds'],
    mfu=about['forward_tflop'] * 1e12 / found['forward_seconds'] / peak,
    tokens_per_nfe=wrote / nfe,
    peak_mib=peak_mib,
    decode_mib=compiled,
    memory_mib=peak_mib or compiled,
    within=(peak_mib or compiled) <= about['allowed_mib'],
    peak_tflops=peak / 1e12,
  )


def run(config, workdir):
  """The whole job. Returns the rows of results.jsonl."""
  known('model_shape', config.model_shape, SHAPES)
  known('dtype', config.dtype, ('bfloat16', 'float32'))
  numbers(config, LIMITS)
  numbers(config, {'given': (0, min(config.length))})
  choices = timing.choices(config.samplers, config.repeats)
  sizes = sorted(  # so that the device's peak can only rise
    itertools.product(config.length, config.batch), key=math.prod
  )
  points = [
    Point(
      config.model_shape, length, choice.name, choice.settings(), {
        'dtype': config.dtype, 'batch': batch,
        'temperature': config.temperature,
      },
    )
    for length, batch in sizes for choice in choices.values()
  ]

  @functools.lru_cache(1)
  def model():
    made = make_model(config.model_shape, config.dtype, config.seed)
    return *made, timing.matmul_peak(config.dtype)

  def measure(point):
    plan, params, peak = model()
    tokens = canvas(plan, point.about['batch'], point.length, config.given)
    return fill(
      choices[point.sampler], plan, params, tokens, config.repeats, peak,
      temperature=config.temperature, steps=config.steps, seed=config.seed,
    )

  rows = sweep(
    'bench_model', workdir, config, points, measure, ('overhead', 'mfu'), FREE
  )
  plot.models(pathlib.Path(workdir) / 'bench_model.png', rows)
  print('\noverhead: wall / (device forwards x forward alone); memory in MiB\n')
  print(timing.table(TABLE, rows))
  print(f'\nin {workdir}: bench_model.png, results.jsonl')
  return rows
