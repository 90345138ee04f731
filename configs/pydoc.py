"""Characters of pydoc_data.topics, a text that every CPython has."""

import ml_collections


def get_config():
  """Plain values; train/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = ml_collections.ConfigDict()
  config.data.path = 'pydoc'  # or a UTF-8 file or folder
  config.data.tokens = 'characters'  # or bytes, or a tokenizers file
  config.data.length = 64
  config.data.heldout = 0.1  # the last tenth of the text
  config.model = ml_collections.ConfigDict()
  config.model.width = 128
  config.model.layers = 4
  config.model.heads = 4
  config.model.taps = 5
  config.batch = 64
  config.steps = 400
  config.loss_weight = 'unweighted'
  config.optimizer = 'muon'
  config.muon_rate = 0.025
  config.adam_rate = 0.006
  config.weight_decay = 0.0
  config.warmup = 50
  config.final_share = 0.01
  config.clip = 1.0
  config.ema = 0.99
  config.log_every = 20
  config.eval_every = 100
  config.eval_rows = 128
  config.save_every = 100
  return config
