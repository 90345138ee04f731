"""The information curve of a model, and what schedules cost by it.

  python -m experiments.schedules --config=configs/schedules.py \\
    --workdir=runs/schedules

`--config.subject=hmm` (or another exact world, or a pretrained model);
`--config.path=FILE` for held-out text in place of the model's own.
"""

import ml_collections


def get_config():
  """Plain values; experiments/schedules/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.subject = 'shakespeare'  # or a name of punt_jax/oracles/named.py
  config.path = ''  # a text; empty: the model writes its own
  config.heldout = 0.1  # the last share of that text
  config.length = 64
  config.rows = 96  # the curve is estimated on
  config.tested = 96  # schedules are measured on
  config.orders = 4  # random orders per row, for the curve
  config.points = 17  # of the curve that are estimated, of `length`
  config.by = 'token'  # or 'entropy': less noise, right in exact worlds; see
  # schedules.estimate_profile
  config.steps = (2, 4, 8, 16, 32)
  config.distribution = 'uniform'  # of the random sizes
  config.draws = 1000  # of random sizes, to predict their mean
  config.at_once = 32  # rows per forward pass
  config.settings = dict(  # of a world
    vocab=8, beta=1.2, states=8, checks=0.4, weight=4, paragraphs=3, details=4,
    down=1.0, up=4.0,
  )
  return config
