"""The samplers, one file each. A name a user chooses is looked up here."""

from punt_jax.samplers.blocks import blocks as blocks
from punt_jax.samplers.dilated import dilated
from punt_jax.samplers.entropy_bound import entropy_bound
from punt_jax.samplers.factor import factor
from punt_jax.samplers.halton import halton
from punt_jax.samplers.influence import Probes as Probes
from punt_jax.samplers.influence import explore as explore
from punt_jax.samplers.influence import fit_influence as fit_influence
from punt_jax.samplers.influence import influence as influence
from punt_jax.samplers.influence import thin as thin
from punt_jax.samplers.maskgit import maskgit
from punt_jax.samplers.one_by_one import one_by_one
from punt_jax.samplers.punt import punt
from punt_jax.samplers.stop import stop as stop
from punt_jax.samplers.threshold import threshold
from punt_jax.samplers.top_k import top_k
from punt_jax.samplers.uniform import uniform

# By name; the wrappers `blocks` and `stop` take one of these.
__all__ = [
  'punt',
  'influence',
  'one_by_one',
  'top_k',
  'uniform',
  'maskgit',
  'entropy_bound',
  'dilated',
  'halton',
  'threshold',
  'factor',
]
