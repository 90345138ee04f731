"""Speed and memory of samplers on a model of the size of LLaDA 8B.

  python -m experiments.bench --config=configs/bench_model.py \\
      --model_shape=llada8b --workdir=runs/bench_llada8b
  python -m experiments.bench --config=configs/bench_model.py:cpu \\
      --workdir=runs/bench_cpu

The first needs an accelerator with 32 GiB and has not been run on one; the
second is the same at a size for two CPU threads (three minutes of processor
time). Shapes: SHAPES in experiments/bench/model.py. How many tokens a pass of
random weights writes says nothing: here PUNT accepts all, and tokens per second
are its best case.
"""

import ml_collections

from punt_jax.checks import known


def get_config(size='full'):
  """Plain values: `full`, or `cpu` for a small float32 model."""
  known('size', size, ('full', 'cpu'))
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model_shape = 'llada8b'
  config.dtype = 'bfloat16'
  config.batch = (1, 8)
  config.length = (256, 1024)
  config.given = 32  # positions of each row
  config.temperature = 0.0
  config.repeats = 3
  config.steps = 6  # each decode is cut here, still near full
  # PUNT accepts all: its probes then read the most that they can.
  config.samplers = ml_collections.ConfigDict()
  config.samplers.threshold = dict(tau=2.0)
  config.samplers.punt = dict(epsilon=1e9)
  if size == 'cpu':
    config.model_shape, config.dtype = 'llada_small', 'float32'
    config.batch, config.length = (1, 4), (64, 256)
  return config
