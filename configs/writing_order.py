"""The writing order on documents and on text, over both couplings.

  python -m experiments.writing_order --config=configs/writing_order.py \\
    --workdir=runs/writing_order

`--config=configs/writing_order.py:full` has more couplings, rows and samplers.
"""

import ml_collections

from punt_jax.checks import known


def get_config(size='small'):
  """Plain values; experiments/writing_order/ reads every one of them."""
  full = known('size', size, ('small', 'full')) == 'full'
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.length = 128
  config.rows = 512 if full else 128
  config.text_rows = 64 if full else 16
  config.texts = ('shakespeare',)
  # Of the documents: how strongly structure governs details, and how
  # strongly the sum of the details governs structure (nats).
  config.down = (0.0, 0.5, 1.0, 2.0) if full else (0.0, 1.0, 2.0)
  config.up = (0.0, 2.0, 4.0) if full else (0.0, 4.0)
  config.settings = dict(vocab=8, beta=1.2, paragraphs=3, details=4)
  order = dict(score='entropy')
  config.samplers = dict(
    punt=dict(epsilon=0.02, first='lsb', **order),
    one_by_one=order,
    entropy_bound=dict(gamma=3.0, **order),
    uniform=dict(k=4),
  )
  if full:
    config.samplers.update(
      top_k=dict(k=4, **order), threshold=dict(tau=0.5), halton=dict(steps=32),
      maskgit=dict(steps=32), dilated=dict(base=1.3),
    )
  return config
