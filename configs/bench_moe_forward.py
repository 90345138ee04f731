"""A mixture of experts beside torch's, on the same random weights.

  python -m experiments.bench.moe_forward \\
      --config=configs/bench_moe_forward.py --workdir=runs/bench_moe_forward
"""

import ml_collections


def get_config():
  """Plain values; experiments/bench/moe_forward.py reads every one."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.shapes = 'llada_moe', 'llada2_mini', 'tiny'
  config.dtypes = 'float32', 'bfloat16'
  config.lengths = 1024, 32  # tokens: a canvas, a block
  config.rounds = 5  # timed, after one to warm up
  config.threads = 0  # processors that are used; 0 for all
  return config
