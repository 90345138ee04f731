"""Learned orders against heuristics, on Sudoku or on text.

  python -m experiments.learned_orders --config=configs/learned_orders.py \\
    --workdir=runs/learned_orders

`--config=configs/learned_orders.py:text` compares on the shipped text model.
Orders are names of those that ship, or paths of what train/orders/ has written.
"""

import ml_collections

from punt_jax.checks import known

SEEDS = (0, 1, 2)
REWARDED = 'reinforce', 'reinforce, biased'  # text has no judge


def get_config(task='sudoku'):
  """Plain values; experiments/learned_orders/ reads every one of them.

  Args:
    task: 'sudoku' or 'text'.
  """
  text = known('task', task, ('sudoku', 'text')) == 'text'
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.seeds = SEEDS  # of decoding, for those that were not trained
  config.temperature = 1.0  # of the drafts
  config.rows = 1024  # puzzles
  config.text_rows = 32
  config.draws = 24  # masks per text when it is scored
  config.batch = 16 if text else 256  # rows at a time
  config.task = dict(model='sudoku', clues=8)
  config.columns = (4, 8, 16)  # passes at which the table compares
  grids = {}
  steps = (4, 8, 16)
  grids['independent'] = dict(steps=steps)
  grids['one by one'] = {}
  grids['top probability'] = dict(steps=steps)
  grids['margin'] = dict(steps=steps)
  grids['threshold'] = dict(tau=(0.5, 0.6, 0.7, 0.8, 0.9))
  grids['entropy bound'] = dict(gamma=(1e-3, 0.1, 0.5, 1.0, 3.0))
  epsilon = (0.02, 1.0, 10.0)
  grids['punt'] = dict(epsilon=epsilon)
  grids['punt by confidence'] = dict(epsilon=epsilon)
  grids['variational'] = dict(budget=(4, 8, 12, 16, 28))
  grids['reinforce'] = dict(bias=0.0)
  grids['reinforce, biased'] = dict(bias=(-2.0, 2.0, 4.0))
  kappa = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
  grids['pairs'] = dict(kappa=kappa)
  probed = dict(kappa=(0.1, 1.0, 3.0), epsilon=0.3)
  grids['pairs, 1 probe'] = grids['pairs, 2 probes'] = probed
  config.orders = dict(
    variational=each('variational'),
    reinforce=(
      'reinforce_0.003_0', *each('reinforce_0.03'), 'reinforce_0.1_0'
    ),
    biased=each('reinforce_0.03'),
    pairs=each('pairs'),
  )
  if text:
    config.task = dict(model='shakespeare', length=128)
    config.seeds = (0,)
    config.columns = (8, 16, 32)
    config.orders = dict(
      variational=('variational_text_0',), pairs=('pairs_text_0',)
    )
    steps = (8, 16, 32)
    for name in ('independent', 'top probability'):
      grids[name] = dict(steps=steps)
    grids['variational'] = dict(budget=steps)
    grids['threshold'] = dict(tau=(0.35, 0.6))
    grids['entropy bound'] = dict(gamma=(3.0, 8.0, 16.0))
    grids['punt'] = dict(epsilon=(0.1, 1.0))
    grids['pairs'] = dict(kappa=(0.03, 0.1, 0.3, 1.0))
    probed = dict(kappa=(0.1, 0.5), epsilon=0.3)
    grids['pairs, 1 probe'] = grids['pairs, 2 probes'] = probed
    for name in ('margin', 'punt by confidence', *REWARDED):
      del grids[name]
  config.contenders = tuple(grids)
  config.grids = grids
  return config


def each(name):
  """An order's files, one for each training seed."""
  return tuple(f'{name}_{seed}' for seed in SEEDS)
