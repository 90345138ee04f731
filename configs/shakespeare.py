"""Characters of tinyshakespeare: the model that ships as 'shakespeare'.

  python -m train.main --config=configs/shakespeare.py \
    --config.data.path=input.txt --workdir=runs/shakespeare

Hardware: one core (taskset -c 0) of a two-core Xeon with AVX-512, the other
one busy. Time: 59 minutes (3,400 steps; a step takes 0.6 s when the machine
is idle). Size: 1,004,416 parameters, 4.0 MB.

Held-out NELBO (last tenth of the text, all windows, EMA parameters): 2.694
+- 0.021 bits per character, 1.867 nats per token. Interpolated Kneser-Ney
n-grams with full left context on the same text
(experiments.shipped_model.ngram): 3.584 (bigram), 2.950 (trigram), 2.278
(5-gram).

Words that occur in the training text (experiments.shipped_model.text_quality,
written one by one, most confident position first, 32 canvases): 97 % at
temperature 0.3, 94 % at 0.4, 89 % at 0.5, 65 % at 1.0; of held-out text: 97 %.
Distinct 1-, 2- and 3-grams of words at 0.4: 0.23, 0.71, 0.94; held-out text:
0.45, 0.93, 0.99.
"""

import ml_collections


def get_config():
  """Plain values; train/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = ml_collections.ConfigDict()
  config.data.path = ''  # a UTF-8 file or folder
  config.data.tokens = 'characters'
  config.data.length = 128
  config.data.heldout = 0.1  # the last tenth of the text
  config.model = ml_collections.ConfigDict()
  config.model.width = 128
  config.model.layers = 5
  config.model.heads = 4
  config.model.taps = 5
  config.model.attention = 'full'  # or block_causal
  config.model.block_length = 0  # of block_causal, a divisor of data.length
  config.batch = 32
  config.steps = 3400
  config.loss_weight = 'unweighted'
  config.optimizer = 'muon'
  config.muon_rate = 0.025
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
