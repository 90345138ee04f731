"""Which features predict influence on the shipped text model.

  python -m experiments.influence_features \\
    --config=configs/influence_features.py --workdir=runs/influence_features
"""

import ml_collections


def get_config():
  """Plain values; experiments/influence_features/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model = 'shakespeare'
  config.rows = 16
  config.length = 128
  config.bins = 12  # per feature that is no whole number
  config.features = (
    ('distance',),
    ('attention',),
    ('hidden',),
    ('entropy_shown', 'entropy_moved'),
    ('distance', 'entropy_moved'),
    ('distance', 'entropy_shown', 'entropy_moved'),
    ('distance', 'attention'),
    ('distance', 'hidden'),
    ('attention', 'hidden'),
    ('attention', 'entropy_moved'),
  )
  return config
