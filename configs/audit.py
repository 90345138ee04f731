"""PUNT's tests audited on exact worlds and on transformers trained on two.

  python -m experiments.audit --config=configs/audit.py --workdir=runs/audit

`--config=configs/audit.py:full` adds lengths, thresholds, rows, training.

Hardware: a third of one core of a Xeon with AVX-512. Time: 20 minutes so, 7 of
them training. False accepts at epsilon 0.02, bits msb first, 64 tokens: 0.05
+- 0.03 % of the tokens on the permuted chain, 4.2 +- 0.2 % on documents, 1.5
+- 0.2 % on parity checks, where half of the canvases are impossible for it.
"""

import ml_collections

from punt_jax.checks import known


def get_config(size='small'):
  """Plain values; experiments/audit/ reads every one of them.

  Args:
    size: 'small', or 'full'.
  """
  full = known('size', size, ('small', 'full')) == 'full'
  config = ml_collections.ConfigDict()
  config.seed = 0
  # Of the worlds, see punt_jax/oracles/named.py; beta and up in nats.
  config.settings = dict(
    vocab=8, beta=1.2, states=8, checks=0.25, weight=3, paragraphs=3,
    details=4, down=1.0, up=2.0,
  )
  names = ('permuted', 'permuted_tree', 'documents', 'code', 'strip')
  # (model, world, length)
  config.subjects = (
    *(('exact', name, 64) for name in names),
    *(('exact', name, 128) for name in names if full),
    *((model, name, 32) for name in ('permuted', 'documents')
      for model in ('exact', 'trained')),
  )
  config.epsilons = (
    (0.001, 0.005, 0.02, 0.08, 0.3) if full else (0.005, 0.02, 0.08)
  )
  config.first = ('msb', 'lsb')
  config.rows = 512 if full else 128  # canvases per point
  config.bins = 8  # of the share revealed
  config.sets = 16 if full else 6  # sets per row and kind
  config.cuts = 2  # ways to cut each of them in two
  config.chunk = 1024  # canvases that are asked about at once
  config.training = dict(
    seed=0, heldout=512, batch=64, steps=8000 if full else 1000,
    model=dict(width=64, layers=3, heads=4, taps=1), loss_weight='unweighted',
    optimizer='muon', muon_rate=0.02, adam_rate=0.01, weight_decay=0.0,
    warmup=50, final_share=0.02, clip=1.0, ema=0.995,
  )
  return config
