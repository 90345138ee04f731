"""Numbers that stand in signatures: those of the papers, and our choices."""

import inspect
import math

from punt_jax import samplers

# Every default that is a number, a sampler's own beside its paper's name.
DEFAULTS = {
  'punt': dict(rounds=32),
  'maskgit': dict(noise=4.5),
  'dilated': dict(base=2.0),
  'hierarchical': dict(low=0.4, high=math.inf, remask=0.4),
  'remdm': dict(eta=0.02, t_on=0.55, t_off=0.05, alpha_on=0.9),
  'p2': dict(eta=1.0),
  'frechet': dict(delta=0.25),
  'credit': dict(tau=0.9, alpha=0.7, gamma=0.2, beta=0.8, entries=8),
  'klass': dict(tau=0.9, epsilon=0.01, history=2.0, k=1.0),
  'slowfast': dict(slow=6.0, reach=0.3, spread=1.0, tau=0.9, k=3.0),
  'lookahead': dict(paths=3, heat=0.2),
  'info_gain': dict(paths=8, heat=0.2, skip=0.8),
  'dapd': dict(late=0.5, sure=0.9),
  'adas': dict(alpha=40.0),
  'adaptive_parallel': dict(mix=0.5, window=200.0),
  'speculative': dict(k=10.0),
  'learned': dict(budget=math.inf, temperature=1.0, bias=0.0),
  'blocks': dict(refresh=1.0, aligned=False),
  'smc': dict(particles=4, every=1.0),
}


def test_numbers_of_signatures():
  for name in (*samplers.NAMES, 'blocks', 'stop', 'smc'):
    arguments = inspect.signature(getattr(samplers, name)).parameters
    numbers = {
      key: p.default for key, p in arguments.items()
      if isinstance(p.default, (int, float))
    }
    assert numbers == DEFAULTS.get(name, {}), name


def test_exact_settings_that_no_exact_world_can_tell():
  """A world is sure of what it sees, and its independence is exact."""
  assert samplers.hierarchical().traits.exact['remask'] == 0
  assert samplers.punt(0.1).traits.exact['epsilon'] < 0
