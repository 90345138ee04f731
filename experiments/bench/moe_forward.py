"""A mixture of experts beside torch's, on the same weights, in one run.

  python -m experiments.bench.moe_forward \\
      --config=configs/bench_moe_forward.py --workdir=runs/bench_moe_forward

One layer of a real model's shape. torch's is the transformers library's
Qwen3MoeSparseMoeBlock, in the faster of its two ways on this machine (`way`).
Clocks are those of experiments/bench/torch_forward.py. In bfloat16 torch's
router takes other experts for some tokens: its logits are rounded, see
`differ`. Needs the extra: pip install 'punt-jax[torch]'; llada2_mini 13 GB of
memory. Writes results.jsonl; a run that was stopped goes on.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing, torch_forward
from punt_jax.checks import known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.models import moe

SHAPES = {  # D, E, K, I
  'llada_moe': (2048, 64, 8, 1024), 'llada2_mini': (2048, 256, 8, 512),
  'small': (256, 16, 4, 128), 'tiny': (64, 8, 2, 32),
}
WAYS = 'eager', 'grouped_mm'  # transformers' names
TABLE = {
  'layer': '{subject}', 'dtype': '{dtype}', 'tokens': '{length}',
  'ours': '{ours_wall:.4f}', 'torch': '{torch_wall:.4f}', 'way': '{way}',
  'wall': '{wall_ratio:.2f}', 'cpu': '{cpu_ratio:.2f}',
  'differ': '{difference:.0e}',
}


def pair(shape, dtype, seed, threads):
  """(ours, theirs): functions (1, L, D) -> (1, L, D) float32, NumPy's.

  `theirs` takes the name of a way besides.
  """
  import torch
  from transformers.models import qwen3_moe

  torch.set_num_threads(threads)
  torch.manual_seed(seed)
  width, experts, chosen, hidden = SHAPES[shape]
  settings = qwen3_moe.Qwen3MoeConfig(
    hidden_size=width, num_experts=experts, num_experts_per_tok=chosen,
    moe_intermediate_size=hidden, norm_topk_prob=True,
  )
  kind = qwen3_moe.modeling_qwen3_moe.Qwen3MoeSparseMoeBlock
  block = kind(settings).eval().requires_grad_(False)
  for part in block.parameters():
    part.normal_(0, part.shape[-1] ** -0.5)
  block.to(getattr(torch, dtype))
  as_ours = lambda x: jnp.asarray(x.float().numpy(), dtype)
  params = {
    'router': {'kernel': as_ours(block.gate.weight.T)},
    'gate': as_ours(block.experts.gate_up_proj[:, :hidden]),
    'up': as_ours(block.experts.gate_up_proj[:, hidden:]),
    'down': as_ours(block.experts.down_proj),
  }
  module = moe.Experts(
    moe.Settings(experts, chosen, hidden, 'softmax', True), dtype
  )
  run = jax.jit(
    lambda params, x: jnp.float32(module.apply({'params': params}, x))
  )

  def theirs(x, way):
    settings._experts_implementation = way
    with torch.inference_mode():
      return block(torch.from_numpy(x).to(block.gate.weight)).float().numpy()

  return lambda x: run(params, x).block_until_ready(), theirs


def compare(networks, shape, length, seed, rounds):
  """The measured columns, those of torch_forward.compare and torch's way."""
  ours, theirs = networks
  x = jax.random.normal(jax.random.key(seed), (1, length, SHAPES[shape][0]))
  x = np.array(x.astype(jnp.bfloat16).astype(jnp.float32))
  ways = {way: functools.partial(theirs, way=way) for way in WAYS}
  for run in ways.values():
    run(x)
  way = min(WAYS, key=lambda way: timing.seconds(lambda: ways[way](x)))
  return {'way': way, **torch_forward.clocks(ours, ways[way], x, rounds)}


def run(config, workdir):
  """The whole job. Returns the rows of results.jsonl."""
  for shape in config.shapes:
    known('shape', shape, SHAPES)
  for dtype in config.dtypes:
    known('dtype', dtype, ('float32', 'bfloat16'))
  numbers(config, {
    'seed': (0,), 'rounds': (1,), 'threads': (0,), 'lengths': (1,)
  })
  version = torch_forward.torch_version()
  here = sorted(os.sched_getaffinity(0))
  here = here[: config.threads or None]
  os.sched_setaffinity(0, here)
  points = [
    Point(
      shape, length, 'forward', {}, {'dtype': dtype, 'threads': config.threads}
    )
    for shape in config.shapes for dtype in config.dtypes
    for length in config.lengths
  ]
  networks = functools.lru_cache(1)(pair)

  def measure(point):
    shape, dtype = point.subject, point.about['dtype']
    both = networks(shape, dtype, config.seed, len(here))
    found = compare(both, shape, point.length, config.seed, config.rounds)
    return {**found, 'torch': version}

  rows = sweep(
    'bench_moe_forward', workdir, config, points, measure,
    ('wall_ratio', 'cpu_ratio'), ('shapes', 'dtypes', 'lengths', 'threads'),
  )
  print('\nseconds; ratios are ours / theirs\n')
  print(timing.table(TABLE, rows))
  return rows


if __name__ == '__main__':
  command.run_config(run)
