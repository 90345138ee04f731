"""Error against forward passes, on exact worlds and on text.

  python -m experiments.frontier --config=configs/frontier.py \\
    --workdir=runs/frontier
  python -m experiments.frontier --config=configs/frontier.py:family \\
    --workdir=runs/family
  python -m experiments.frontier --config=configs/frontier.py:full \\
    --workdir=runs/frontier_full

The default compares PUNT with what its paper does; `:family` has every sampler
there is, on two worlds and the text of the shipped model.

One world of them: --config.worlds="('permuted',)".

Hardware: one core of a Xeon with AVX-512, shared with other work. Time of the
shuffled chain alone: 2.9 minutes of CPU time, four fifths of it compilation.
"""

import ml_collections

from punt_jax import samplers
from punt_jax.checks import known
from punt_jax.oracles import named


def get_config(size='small'):
  """Plain values; experiments/frontier/ reads every one of them.

  Args:
    size: 'small', 'family' for every sampler, or 'full' for every sampler,
      world, more lengths and hyperparams.
  """
  full = known('size', size, ('small', 'family', 'full')) == 'full'
  family = size == 'family'
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.worlds = named.NAMES
  config.lengths = (32, 64, 128, 256) if full else (32, 128)
  if family:
    config.worlds = ('permuted', 'documents', 'shakespeare')
    config.lengths = (64,)
  if full:
    config.worlds += ('shakespeare',)
  # Of the worlds, see punt_jax/oracles/named.py; beta and up in nats.
  config.settings = dict(
    vocab=8, beta=1.2, states=8, checks=0.25, weight=3, paragraphs=3,
    details=4, down=1.0, up=2.0,
  )
  config.temperatures = {}  # 1 where none are named
  if not family:
    config.temperatures = {'documents': (1.0, 0.0)}
  config.rows = 512 if full else 256  # samples per point
  config.text_rows = 128 if full else 32  # of a text model
  config.draws = 24  # masks per text when it is scored
  config.warm_up = 16  # samples that `influence` and `random_order` learn from
  config.shown = 0.1  # share of a canvas given at temperatures other than 1
  config.scored = 32  # rows whose `agreement` is computed
  # One value or several of each hyperparameter; every combination is run. Where
  # an order can be chosen it is by entropy, so that samplers differ in how many
  # positions they write and not in which.
  order = dict(score='entropy')
  pick = lambda small, more: tuple(sorted(small + more)) if full else small
  count = pick((4, 16), (2, 8))
  steps = pick((1 / 4, 1 / 16), (1 / 2, 1 / 8))
  config.shares = ('steps',)  # hyperparameters given as shares of the length
  config.samplers = dict(
    punt=dict(
      epsilon=pick((0.005, 0.05, 0.5), (0.001, 0.02, 0.2)),
      first=('msb', 'lsb') if full else 'lsb', **order,
    ),
    influence=dict(
      kappa=pick((0.003, 0.03, 0.3), (0.001, 0.01, 0.1)), **order
    ),
    one_by_one=order,
    top_k=dict(k=count, **order),
    uniform=dict(k=count),
    maskgit=dict(steps=steps),
    entropy_bound=dict(gamma=pick((3.0, 16.0), (1.0, 8.0)), **order),
    dilated=dict(base=pick((1.5, 4.0), (1.3, 2.0))),
    halton=dict(steps=steps),
    threshold=dict(tau=pick((0.35, 0.6), (0.45, 0.9))),
    factor=dict(f=pick((2.0, 6.0), (1.5, 3.0))),
  )
  if full or family:
    sure = pick((0.35, 0.6), (0.45, 0.9))  # tau: exact worlds are unsure
    config.samplers.uniform.particles = (1, 4)
    config.samplers.update(
      random_order=dict(steps=steps),
      random_size=dict(steps=steps, scheme=('dtc', 'tc')),
      ancestral=dict(steps=steps, path=('linear', 'cosine')),
      euler=dict(steps=steps, path='cosine'),  # linear: ancestral
      first_hitting={},
      remdm=dict(steps=steps),
      p2=dict(steps=steps),
      frechet=dict(delta=pick((-0.65, -0.4), (-0.55, -0.1))),
      hierarchical=dict(low=pick((0.0, 0.4), (0.2, 0.6))),
      credit=dict(tau=sure),
      klass=dict(tau=sure),
      slowfast=dict(tau=sure),
      lookahead=dict(k=count),
      info_gain=dict(k=count),
      adaptive_parallel=dict(mix=pick((0.5, 0.9), (0.1, 0.7))),
      speculative=dict(k=count),
      dapd=dict(tau=pick((0.01, 0.05), (0.02, 0.1)), sure=0.35),
      adas=dict(k=count),
    )
    trained = {'learned'}  # beside one model: experiments/learned_orders
    for name in set(samplers.NAMES) - trained - set(config.samplers):
      config.samplers[name] = {}  # by its defaults
  return config
