"""Sudoku of 6 x 6: the model that ships as 'sudoku'.

  python -m train.main --config=configs/sudoku.py --workdir=runs/sudoku

Hardware: one Xeon core with AVX-512. Time: 2 minutes 50 seconds. Size: 85,776
parameters, 0.35 MB. NELBO on 1,024 held-out grids: 0.802 +- 0.015 bits per
cell; the exact distribution has log2(28,200,960) / 36 = 0.687.
"""

import ml_collections


def get_config():
  """Plain values; train/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = ml_collections.ConfigDict()
  config.data.puzzle = 'sudoku'
  config.data.heldout = 1024  # grids
  config.model = ml_collections.ConfigDict()
  config.model.width = 48
  config.model.layers = 3
  config.model.heads = 4
  config.model.taps = 1
  config.model.places = 36
  config.model.attention = 'full'  # or block_causal
  config.model.block_length = 0  # of block_causal, a divisor of 36
  config.batch = 128
  config.steps = 1500
  config.loss_weight = 'unweighted'
  config.optimizer = 'muon'
  config.muon_rate = 0.03
  config.adam_rate = 0.006
  config.weight_decay = 0.0
  config.warmup = 100
  config.decay = 0  # steps over which the rate falls; 0: all of them
  config.final_share = 0.01  # of the rate, in the end; 1: it does not fall
  config.clip = 1.0
  config.ema = 0.998
  config.log_every = 20
  config.eval_every = 200
  config.eval_rows = 128
  config.save_every = 200
  return config
