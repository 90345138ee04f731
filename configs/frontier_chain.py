"""Error against forward passes of every sampler, on two exact worlds.

  python -m experiments.frontier --config=configs/frontier_chain.py \\
    --workdir=runs/frontier

Hardware: one core of a Xeon with AVX-512. Time: 3.5 minutes. On the shuffled
chain PUNT needs 28 forward passes for a gap of 0.04 +- 0.01 nats per canvas at
epsilon 0.02, one by one 64 for 0; no other sampler gets below 0.3. PUNT bends
the law a little: unigram TV 0.034 to 0.038 at epsilon <= 0.08, where exact
samples show 0.030. MaskGIT bends it most: 0.087 to 0.126. On the chain itself
the dilated comb is exact in 6 passes; shuffled, its gap is 13 nats.
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
  # One value or several of each knob; every combination is run. Where an
  # order can be chosen it is by entropy, so that samplers differ in how many
  # positions they write and not in which.
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
