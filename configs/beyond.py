"""Every idea against PUNT, on exact worlds and on the shipped text model.

  python -m experiments.beyond --config=configs/beyond.py \\
    --workdir=runs/beyond

The default has 128 tokens, `--config=configs/beyond.py:short` 32 with a longer
warm-up, `:long` 256, `:full` all subjects, lengths and contenders with more
rows (hours).
"""

import ml_collections

from punt_jax.checks import known

BAR = ('punt', 'punt msb')
SHORT = (
  'punt', 'influence', 'one by one', 'entropy bound', 'threshold',
)
NAMES = (
  'permuted', 'permuted_tree', 'documents', 'shakespeare', 'hmm', 'strip',
  'code',
)


def get_config(size='small'):
  """Plain values; experiments/beyond/ reads every one of them."""
  sizes = 'small', 'short', 'long', 'full'
  full = known('size', size, sizes) == 'full'
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.settings = dict(
    vocab=8, beta=1.2, states=8, checks=0.25, weight=4,
    paragraphs=3, details=4, down=1.2, up=2.0,
  )
  config.rows = 2048 if full else 512  # canvases per setting
  config.text_rows = 128 if full else 32
  config.draws = 24  # masks per text when it is scored
  # Canvases. With 16, each pair of positions was probed some 8 times.
  config.warm_up = dict(explore=64 if size == 'short' else 16, punt=32)
  config.amortize = 1000  # canvases that share a warm-up
  grids = config.grids = ml_collections.ConfigDict()
  epsilon = (0.005, 0.02, 0.08, 0.3)
  grids['punt'] = dict(epsilon=epsilon)
  grids['punt msb'] = dict(epsilon=epsilon)
  grids['influence'] = dict(kappa=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3))
  if size == 'short':
    grids['influence'] = dict(kappa=(0.003, 0.01, 0.015, 0.02, 0.03, 0.06))
  grids["influence of PUNT's probes"] = dict(kappa=(0.001, 0.003, 0.01, 0.03))
  grids['influence, then probes'] = dict(
    kappa=(0.01, 0.03, 0.1), epsilon=0.02, rounds=(1, 2)
  )
  grids['sure untested'] = dict(epsilon=(0.02, 0.08), gamma=(0.3, 1.0))
  grids['break-even'] = dict(epsilon=(0.02, 0.08), gamma=(0.1, 1.0))
  grids['spaced'] = dict(epsilon=(0.02, 0.08), gap=(4,))
  grids['bits in pairs'] = dict(epsilon=(0.02, 0.08), gap=1)
  grids['one batched stage, spaced'] = dict(
    epsilon=(0.02, 0.08), width=7, gap=8
  )
  grids['votes'] = dict(
    epsilon=(0.02, 0.08), groups=8, share=0.5, gap=4
  )
  grids['memory'] = dict(epsilon=(0.02, 0.08), decay=(0.9,))
  grids['budget per step'] = dict(kappa=(0.02, 0.2), epsilon=0.3)
  grids['one by one'] = {}
  grids['one by one, random order'] = {}
  grids['entropy bound'] = dict(gamma=(1.0, 3.0, 8.0))
  grids['threshold'] = dict(tau=(0.5, 0.7))
  grids['dilated'] = dict(base=(1.5, 2.0))
  grids['halton'] = dict(steps=(8, 16))
  everything = tuple(grids)
  main = (*BAR, 'influence', "influence of PUNT's probes", 'one by one')
  probing = (
    'influence, then probes', 'sure untested', 'break-even', 'spaced', 'memory',
  )
  text = ('one by one, random order', 'punt', 'influence', 'halton')
  # (world or pretrained model, length, contenders)
  config.subjects = (
    ('permuted', 128, everything),
    ('permuted_tree', 128, main),
    ('documents', 128, (*main, *probing)),
    ('shakespeare', 128, text),
  )
  if size == 'short':
    config.subjects = tuple((name, 32, SHORT) for name in NAMES)
  if size == 'long':
    config.subjects = (
      *((name, 256, BAR + ('influence',)) for name in NAMES[:3]),
      ('shakespeare', 256, text),
    )
  if full:
    config.subjects = (
      *((name, n, everything) for n in (128, 256) for name in NAMES),
      *((name, n, SHORT) for n in (16, 32) for name in NAMES),
    )
  return config
