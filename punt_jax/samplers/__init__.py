"""The samplers, one file each. A name a user types is one of NAMES."""

from punt_jax.leap import Hit, leap
from punt_jax.samplers.adaptive_parallel import adaptive_parallel
from punt_jax.samplers.adas import adas, discounted
from punt_jax.samplers.ancestral import ancestral
from punt_jax.samplers.blocks import blocks
from punt_jax.samplers.credit import credit
from punt_jax.samplers.dapd import dapd
from punt_jax.samplers.dilated import dilated
from punt_jax.samplers.entropy_bound import entropy_bound
from punt_jax.samplers.euler import euler
from punt_jax.samplers.factor import factor
from punt_jax.samplers.first_hitting import first_hitting
from punt_jax.samplers.frechet import frechet
from punt_jax.samplers.halton import halton
from punt_jax.samplers.hierarchical import hierarchical
from punt_jax.samplers.influence import (
  Probes,
  explore,
  fit_influence,
  influence,
  thin,
)
from punt_jax.samplers.info_gain import info_gain
from punt_jax.samplers.klass import klass
from punt_jax.samplers.learned import Acts, learned
from punt_jax.samplers.lookahead import lookahead
from punt_jax.samplers.maskgit import maskgit
from punt_jax.samplers.one_by_one import one_by_one
from punt_jax.samplers.p2 import p2
from punt_jax.samplers.punt import punt
from punt_jax.samplers.random_order import random_order
from punt_jax.samplers.random_size import random_size
from punt_jax.samplers.remdm import remdm
from punt_jax.samplers.slowfast import slowfast
from punt_jax.samplers.smc import smc
from punt_jax.samplers.speculative import speculative
from punt_jax.samplers.stop import stop
from punt_jax.samplers.threshold import threshold
from punt_jax.samplers.top_k import top_k
from punt_jax.samplers.uniform import uniform

__all__ = [
  'punt',
  'influence',
  'one_by_one',
  'top_k',
  'uniform',
  'random_order',
  'random_size',
  'maskgit',
  'entropy_bound',
  'dilated',
  'halton',
  'threshold',
  'factor',
  'hierarchical',
  'ancestral',
  'euler',
  'first_hitting',
  'remdm',
  'p2',
  'frechet',
  'credit',
  'klass',
  'slowfast',
  'lookahead',
  'info_gain',
  'dapd',
  'adas',
  'adaptive_parallel',
  'speculative',
  'learned',
]
NAMES = tuple(__all__)  # what a user may type
# `blocks` and `smc` wrap one of them, the rest are parts.
__all__ += [
  'Acts',
  'Hit',
  'NAMES',
  'Probes',
  'blocks',
  'discounted',
  'explore',
  'fit_influence',
  'leap',
  'smc',
  'stop',
  'thin',
]
