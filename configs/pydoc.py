"""Characters of pydoc_data.topics, a text that every CPython has.

  python -m train.main --config=configs/pydoc.py --workdir=runs/pydoc

Hardware: a share of one core of a Xeon with AVX-512. Time: 14 minutes so.
Held-out NELBO (last tenth of CPython 3.11's text): 2.726 +- 0.019 bits per
character. Interpolated Kneser-Ney n-grams with full left context on the same
text (experiments.shipped_model.ngram): 3.341 (bigram), 2.453 (trigram), 1.786
(5-gram); a quick start, then, and not a good model: raise --config.steps for
that.
"""

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
  config.model.attention = 'full'  # or block_causal
  config.model.block_length = 0  # of block_causal, a divisor of data.length
  config.batch = 64
  config.steps = 400
  config.loss_weight = 'unweighted'
  config.optimizer = 'muon'
  config.muon_rate = 0.025
  config.adam_rate = 0.006
  config.weight_decay = 0.0
  config.warmup = 50
  config.decay = 0  # steps over which the rate falls; 0: all of them
  config.final_share = 0.01  # of the rate, in the end; 1: it does not fall
  config.clip = 1.0
  config.ema = 0.99
  config.log_every = 20
  config.eval_every = 100
  config.eval_rows = 128
  config.save_every = 100
  return config
