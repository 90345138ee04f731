"""Everything that was tried against PUNT, by the name a config gives it.

Each is (settings, tables) -> Sampler. Settings are numbers and may be traced,
except those in FIXED. tables['explore'] and tables['punt'] are influence tables
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


def probed(settings, tables):
  """Candidates thinned by the table, then a few of PUNT's rounds."""
  return samplers.punt(
    settings['epsilon'], first='lsb', rounds=settings['rounds'],
    admit=samplers.thin(tables['explore'], settings['kappa']),
  )


CONTENDERS = {
  'punt': lambda s, t: samplers.punt(s['epsilon'], first='lsb'),
  'punt msb': lambda s, t: samplers.punt(s['epsilon'], first='msb'),
  'influence': lambda s, t: samplers.influence(t['explore'], s['kappa']),
  "influence of PUNT's probes": lambda s, t: samplers.influence(
    t['punt'], s['kappa']
  ),
  'influence, then probes': probed,
  'sure untested': lambda s, t: rivals.sure(first='lsb', **s),
  'break-even': lambda s, t: rivals.break_even(first='lsb', **s),
  'spaced': lambda s, t: rivals.spaced(first='lsb', **s),
  'bits in pairs': lambda s, t: rivals.batched(first='lsb', width=2, **s),
  'one batched stage, spaced': lambda s, t: rivals.batched(first='lsb', **s),
  'votes': lambda s, t: rivals.votes(**s),
  'memory': lambda s, t: rivals.memory(first='lsb', **s),
  'budget per step': lambda s, t: variants.budgeted(first='lsb', **s),
  'one by one': lambda s, t: samplers.one_by_one('entropy'),
  'one by one, random order': lambda s, t: samplers.uniform(1),
  'entropy bound': lambda s, t: samplers.entropy_bound(s['gamma']),
  'threshold': lambda s, t: samplers.threshold(s['tau']),
  'dilated': lambda s, t: samplers.dilated(s['base']),
  'halton': lambda s, t: samplers.halton(s['steps']),
}
