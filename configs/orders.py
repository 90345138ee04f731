"""Learned orders of generation: which positions are written when.

  python -m train.orders --config=configs/orders.py:variational --workdir=DIR

See train/orders/ for the other names.

Hardware: a Xeon core with two hyperthreads, three to five processes on it.
Time, compilation included, data not: variational 12 to 15 minutes, reinforce 3
to 8, pairs half a minute, variational_text 12. Results:
docs/results/learned_orders.md.
"""

import ml_collections

from punt_jax.checks import known

NAMES = (
  'variational', 'reinforce', 'pairs', 'variational_text', 'pairs_text'
)
# Of a policy: one layer that starts as a soft threshold at confidence 0.9.
THRESHOLD = dict(layers=1, start=-0.9, slope=1.0, temperature=0.1)


def get_config(name='variational'):
  """Plain values; train/ reads every one of them.

  Args:
    name: one of NAMES.
  """
  method = known('order', name, NAMES).removesuffix('_text')
  config = ml_collections.ConfigDict()
  config.method = method
  config.seed = 0
  config.task = dict(model='sudoku', clues=8)
  if name.endswith('_text'):
    config.task = dict(model='shakespeare', length=128, rows=1)
  config.rate = 0.003 if method == 'pairs' else 0.005
  config.warmup = 20
  config.decay = 0  # steps over which the rate falls; 0: all of them
  config.clip = 1.0
  config.log_every = 10
  config.eval_every = 100
  config.save_every = 20
  if method == 'variational':
    config.module = dict(sees='features', width=32, heads=4, **THRESHOLD)
    config.budgets = (4, 8, 16)
    config.batch = 16
    config.samples = 4
    config.tests = 256
    config.steps = 800
    if name == 'variational_text':
      config.budgets = (8, 16, 32)
      config.task.rows = 48
      config.batch = 4
      config.tests = 8
      config.steps = 100
  if method == 'reinforce':
    config.module = dict(sees='confidence', width=16, heads=2, **THRESHOLD)
    config.step_cost = 0.03
    config.temperature = 1.0
    config.batch = 16
    config.samples = 8
    config.epochs = 2
    config.clip_ratio = 0.2
    config.normalize = False  # GRPO's, see train/orders/reinforce.py
    config.tests = 256
    config.steps = 80
  if method == 'pairs':
    # Explains .388 of the variance on other rows; a table of all pairs .204.
    config.module = dict(width=32, hidden=64, reach=8, places=36)
    config.probes = 'punt'
    config.epsilon = 0.02
    config.rows = 1536
    config.tests = 128
    config.batch = 64
    config.steps = 2000
    config.log_every = 50
    config.eval_every = 500
    config.save_every = 500
  if name == 'pairs_text':
    # Explains .590; a table by distance .567, of all pairs .530.
    config.module = dict(width=32, hidden=64, reach=32, places=0)
    config.rows = 48
    config.tests = 8
    config.batch = 16
    config.rate = 0.02
    config.steps = 800
    config.eval_every = 200
    config.save_every = 200
  return config
