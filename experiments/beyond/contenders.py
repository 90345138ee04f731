"""Everything that was tried against PUNT, by the name a config gives it.

Each is (knobs, tables) -> Sampler. Knobs are numbers and may be traced, except
those in FIXED. tables['explore'] and tables['punt'] are influence tables
learned from one-by-one sampling and from PUNT's own probes; TABLES says who
reads which.
"""

from experiments.punt_variants import rivals, variants
from punt_jax import samplers

FIXED = ('width', 'gap', 'groups')  # whole numbers that shape the program

TABLES = {
  'influence': 'explore',
  "influence of PUNT's probes": 'punt',
  'influence, then probes': 'explore',
}


def probed(knobs, tables):
  """Candidates thinned by the table, then a few of PUNT's rounds."""
  return samplers.punt(
    knobs['epsilon'], first='lsb', rounds=knobs['rounds'],
    admit=samplers.thin(tables['explore'], knobs['kappa']),
  )


CONTENDERS = {
  'punt': lambda k, t: samplers.punt(k['epsilon'], first='lsb'),
  'punt msb': lambda k, t: samplers.punt(k['epsilon'], first='msb'),
  'influence': lambda k, t: samplers.influence(t['explore'], k['kappa']),
  "influence of PUNT's probes": lambda k, t: samplers.influence(
    t['punt'], k['kappa']
  ),
  'influence, then probes': probed,
  'sure untested': lambda k, t: rivals.sure(first='lsb', **k),
  'break-even': lambda k, t: rivals.break_even(first='lsb', **k),
  'spaced': lambda k, t: rivals.spaced(first='lsb', **k),
  'bits in pairs': lambda k, t: rivals.batched(first='lsb', width=2, **k),
  'one batched stage, spaced': lambda k, t: rivals.batched(first='lsb', **k),
  'votes': lambda k, t: rivals.votes(**k),
  'memory': lambda k, t: rivals.memory(first='lsb', **k),
  'budget per step': lambda k, t: variants.budgeted(first='lsb', **k),
  'one by one': lambda k, t: samplers.one_by_one('entropy'),
  'one by one, random order': lambda k, t: samplers.uniform(1),
  'entropy bound': lambda k, t: samplers.entropy_bound(k['gamma']),
  'threshold': lambda k, t: samplers.threshold(k['tau']),
  'dilated': lambda k, t: samplers.dilated(k['base']),
  'halton': lambda k, t: samplers.halton(k['steps']),
}
