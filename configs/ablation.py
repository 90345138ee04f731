"""PUNT with one detail changed at a time, and other ideas beside it.

  python -m experiments.ablation --config=configs/ablation.py \\
    --workdir=runs/ablation
"""

import ml_collections

EPSILON = (0.001, 0.0025, 0.006, 0.016, 0.04, 0.1, 0.25, 0.64)  # nats


def get_config():
  """Plain values; experiments/ablation/ reads every one of them."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.worlds = ('permuted', 'documents')
  config.length = 64
  config.settings = dict(  # of the worlds, see punt_jax/oracles/named.py
    vocab=8, beta=1.2, paragraphs=3, details=4, down=1.0, up=2.0
  )
  config.rows = 512  # samples per setting
  config.scored = 64  # rows whose agreement is computed
  config.gaps = (0.05, 0.2, 0.8)  # nats per canvas: where values are compared
  config.loss = 0.02  # the same at other temperatures, nats per token
  # Numbers with a point are traced, a tuple is swept.
  config.base = dict(
    sampler='punt', epsilon=EPSILON, early=1.0, late=1.0, score='entropy',
    divergence='kl', first='msb', codes='plain', temperature=1.0, judged=False,
  )
  cool = dict(temperature=0.7)
  fewer = EPSILON[2:-1]
  # {factor: {value: what is changed}}; both are shown by their names.
  config.factors = {
    'score: who is surest': {
      'entropy': dict(score='entropy'),
      'confidence': dict(score='confidence'),
      'margin': dict(score='margin'),
      'draft': dict(score='draft'),
    },
    'order of the bits, codes': {
      'msb, plain': dict(first='msb', codes='plain'),
      'lsb, plain': dict(first='lsb', codes='plain'),
      'msb, balanced': dict(first='msb', codes='balanced'),
      'lsb, balanced': dict(first='lsb', codes='balanced'),
    },
    'epsilon over the run': {
      'constant': dict(early=1.0, late=1.0),
      'strict, then loose': dict(early=0.2, late=1.8),
      'loose, then strict': dict(early=1.8, late=0.2),
    },
    'what the limit is on': {
      'each token': {},
      'sum of a step': dict(
        sampler='budgeted', epsilon=0.2,
        kappa=(0.02, 0.06, 0.2, 0.6, 2.0),
      ),
      'sum of the run': dict(
        sampler='run_budgeted', epsilon=0.2,
        kappa=(0.1, 0.4, 1.6, 6.4),
      ),
    },
    'divergence': {
      'kl': dict(divergence='kl'),
      'jsd': dict(divergence='jsd', epsilon=tuple(e / 4 for e in EPSILON)),
      'tv': dict(
        divergence='tv', epsilon=tuple((e / 2) ** 0.5 for e in EPSILON)
      ),
    },
    'rounds': {
      'plain': {},
      're-ranked': dict(sampler='reranked'),
      'verified': dict(sampler='verified'),
    },
    'other ideas': {
      'PUNT': {},
      'sure tokens untested': dict(sampler='sure', gamma=1.0, epsilon=fewer),
      'break even': dict(sampler='break_even', gamma=1.0, epsilon=fewer),
      'spaced candidates': dict(sampler='spaced', gap=4.0, epsilon=fewer),
      'spaced, one stage': dict(
        sampler='batched', gap=4.0, width=4, epsilon=fewer
      ),
      'pairs of rounds': dict(sampler='batched', width=2, epsilon=fewer),
      'votes of 8 groups': dict(
        sampler='votes', groups=8, share=0.6, gap=4.0, epsilon=fewer
      ),
      'memory': dict(sampler='memory', decay=0.9, epsilon=fewer),
    },
    'distribution the KL is read from': {
      'raw': cool,
      'of the drafts': dict(judged=True, **cool),
      'one by one': dict(sampler='one_by_one', **cool),
    },
  }
  return config
