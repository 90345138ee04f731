"""Positions, time and deviations of block decoding with a KV cache.

  python -m experiments.bench.cache --config=configs/bench_cache.py \\
      --workdir=runs/bench_cache

Two CPU threads, three minutes of processor time.
"""

import ml_collections


def get_config():
  """Plain values; experiments/bench/cache.py reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model_shape = 'llada_mini'
  config.dtype = 'float32'
  config.rows = 1
  config.length = 512
  config.block_length = 64
  config.prompt = (0, 64)
  config.temperature = 1.0
  config.repeats = 1
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(epsilon=0.004)
  config.samplers.top_k = dict(k=8)  # costs what threshold does
  config.refresh = ml_collections.ConfigDict()  # steps between commits
  config.refresh.punt = (1.0, float('inf'))
  config.refresh.top_k = (4.0, float('inf'))
  return config
