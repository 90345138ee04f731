"""What samplers cost beside their forward passes, at two vocabularies.

  python -m experiments.bench --config=configs/bench.py --workdir=runs/bench
"""

import ml_collections


def get_config():
  """Plain values; experiments/bench/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.vocab = (8192, 126464)
  config.batch = (1, 8)
  config.temperature = (0.0, 1.0)
  config.repeats = 3
  config.length = 160
  config.given = 32  # positions of each row
  config.steps = 6  # one_by_one and threshold are cut here, still near full
  # The others finish. PUNT accepts all, so every probe tests half of what is
  # masked: the most that its probes can read.
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(epsilon=1e9)
  config.samplers.one_by_one = dict()
  config.samplers.top_k = dict(k=32)
  config.samplers.uniform = dict(k=32)
  config.samplers.maskgit = dict(steps=4)
  config.samplers.entropy_bound = dict(gamma=270.0)
  config.samplers.dilated = dict(base=2.0)
  config.samplers.halton = dict(steps=4)
  config.samplers.threshold = dict(tau=2.0)
  config.samplers.factor = dict(f=33.0)
  return config
