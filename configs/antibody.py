"""Samplers on antibody models that were trained elsewhere.

  pip download --no-deps -d wheels antiberty==0.1.3 sapiens==1.0.5
  python -m experiments.antibody --config=configs/antibody.py \\
    --workdir=runs/antibody --wheels=wheels
  python -m experiments.antibody --config=configs/antibody.py:short \\
    --workdir=runs/antibody_short --wheels=wheels

The default writes with Sapiens (0.6 M parameters, heavy chains) and judges
with AntiBERTy. `:antiberty` writes with AntiBERTy (26 M, both chains) and
judges with Sapiens, `:short` does so with fewer rows.
"""

import ml_collections

from punt_jax.checks import known


def get_config(size='sapiens'):
  """Plain values; experiments/antibody/ reads every one of them."""
  known('size', size, ('sapiens', 'antiberty', 'short'))
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model = 'sapiens' if size == 'sapiens' else 'antiberty'
  # At 1 Sapiens, a small model, writes no good domains one by one either.
  config.temperature = 0.5 if size == 'sapiens' else 1.0
  config.rows = 32 if size == 'short' else 500  # domains per point
  config.chunk = 16 if size == 'short' else 25  # that are written together
  # Of whole domains: () for those of natural heavy chains. Between the two
  # chains' usual lengths AntiBERTy is not sure which one to write.
  config.lengths = () if size == 'sapiens' else (116, 118, 120, 122)
  # First residues of a whole domain that are given if lengths is (): Sapiens
  # was trained on many that lack the first 16 and leaves them out.
  config.shown = 4
  # See experiments/antibody/judge.py; AntiBERTy is the dear one.
  config.judged = 128 if size == 'sapiens' else config.rows
  config.groups = 6
  config.asked = 1 if size == 'sapiens' else 6
  # The order is by entropy where one can be chosen, as in configs/frontier.py:
  # samplers differ in how many positions they write and not in which.
  order = dict(score='entropy')
  domain = dict(
    one_by_one=order,
    punt=dict(epsilon=(0.1, 0.5, 2.0), **order),
    top_k=dict(k=(7, 29), **order),
    uniform=dict(k=(7, 29)),
    maskgit=dict(steps=(17, 4)),
    entropy_bound=dict(gamma=(3.0, 10.0), **order),
    dilated=dict(base=(1.5, 4.0)),
    halton=dict(steps=(17, 4)),
    threshold=dict(tau=0.6),
  )
  loops = domain | dict(
    top_k=dict(k=(2, 7), **order),
    uniform=dict(k=(2, 7)),
    maskgit=dict(steps=(14, 4)),
    halton=dict(steps=(14, 4)),
  )
  config.subjects = dict(domain=domain)
  if size == 'sapiens':
    config.subjects.loops = loops
  if size == 'short':
    del config.subjects.domain['threshold'], config.subjects.domain['dilated']
  return config
