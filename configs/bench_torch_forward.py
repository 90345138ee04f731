"""Our forward pass beside torch's, on the same random weights.

  python -m experiments.bench.torch_forward \\
      --config=configs/bench_torch_forward.py --workdir=runs/bench_torch_forward
"""

import ml_collections


def get_config():
  """Plain values; experiments/bench/torch_forward.py reads every one."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model = 'llada'  # or dream
  config.width = 512  # D; 8 layers, 8 heads, 4 key heads
  config.sizes = ((1, 256), (4, 256), (1, 1024))  # (B, L), each
  config.rounds = 7  # timed, after one to warm up
  config.threads = 0  # processors that are used; 0 for all
  return config
