"""Full and block-causal attention: the same small models, trained and sampled.

  python -m experiments.block_models --config=configs/block_models.py \\
    --workdir=runs/block_models

Hardware: two CPU cores, shared with several times as much other work. Time: 43
minutes so, 17 of them training (text with one seed, see
docs/results/block_models.md). Held-out NELBO of the text, nats per character:
2.340 +- 0.003 in blocks of 16, 2.350 +- 0.005 with full attention.
"""

import ml_collections


def get_config():
  """Plain values; experiments/block_models/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # of the worlds and of sampling
  config.seeds = (0, 1)  # of training
  # (world of punt_jax/oracles/named.py or text, length, block_length)
  config.subjects = (('chain', 16, 4), ('hmm', 16, 4), ('text', 64, 16))
  config.settings = dict(vocab=4, beta=1.2, states=4)  # of the worlds
  config.samplers = dict(
    one_by_one=dict(score='confidence'), top_k=dict(k=2, score='confidence'),
    punt=dict(epsilon=0.02),
  )
  config.rows = 256  # canvases per row
  config.draws = 16  # masks of every row that is scored
  config.training = dict(  # on worlds
    heldout=1024, batch=32, steps=400,
    model=dict(width=32, layers=2, heads=2, taps=3),
    loss_weight='unweighted', optimizer='muon', muon_rate=0.02, adam_rate=0.01,
    weight_decay=0.0, warmup=20, final_share=0.02, clip=1.0, ema=0.99,
  )
  config.text = dict(  # on text; the recipe of configs/shakespeare.py, smaller
    data=dict(path='pydoc', tokens='characters', heldout=0.1),
    batch=32, steps=300, model=dict(width=64, layers=3, heads=4, taps=5),
    loss_weight='unweighted', optimizer='muon', muon_rate=0.025,
    adam_rate=0.006, weight_decay=0.0, warmup=20, final_share=0.02, clip=1.0,
    ema=0.99,
  )
  return config
