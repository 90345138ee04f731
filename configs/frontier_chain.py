"""Error against forward passes of every sampler, on two exact worlds.

  python -m experiments.frontier --config=configs/frontier_chain.py \\
    --workdir=runs/frontier
"""

import ml_collections


def get_config():
  """Plain values; experiments/frontier.py reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.worlds = ('chain', 'permuted')
  config.length = 64
  config.vocab = 8
  config.beta = 1.2  # scale of the chain's potentials in nats
  config.rows = 1024  # samples per setting
  # One value or several of each knob; every combination is run. All orders
  # are by entropy, so that the samplers differ in how many they write.
  order = dict(score='entropy')
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(
    epsilon=(0.001, 0.005, 0.02, 0.08, 0.3, 1.0), first=('msb', 'lsb'), **order
  )
  config.samplers.one_by_one = order
  config.samplers.top_k = dict(k=(2, 4, 8, 16), **order)
  config.samplers.uniform = dict(k=(2, 4, 8, 16))
  config.samplers.maskgit = dict(steps=(4, 8, 16, 32))
  config.samplers.entropy_bound = dict(gamma=(1.0, 3.0, 8.0, 16.0), **order)
  config.samplers.dilated = dict(base=(1.3, 1.5, 2.0, 4.0))
  config.samplers.halton = dict(steps=(4, 8, 16, 32))
  config.samplers.threshold = dict(tau=(0.3, 0.35, 0.4, 0.5))
  config.samplers.factor = dict(f=(1.5, 2.0, 3.0, 6.0))
  return config
