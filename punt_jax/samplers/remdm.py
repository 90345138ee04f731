"""ReMDM: ancestral sampling that takes tokens back.

Wang, Schiff, Sahoo, Kuleshov, "Remasking Discrete Diffusion Models with
Inference-Time Scaling" (https://arxiv.org/abs/2503.00307). One forward pass per
time step that writes something: at most T. With T > L, give the loop max_steps
= T, in blocks T for each.
"""

import jax.numpy as jnp

from punt_jax import checks
from punt_jax.leap import PATHS, leap
from punt_jax.types import PathFn, Sampler, Scalar, Traits

STRATEGIES = ('cap', 'rescale', 'conf', 'loop')


def remdm(
  steps: Scalar, eta: Scalar = 0.02, strategy: str = 'cap',
  path: str = 'linear', t_on: Scalar = 0.55, t_off: Scalar = 0.05,
  alpha_on: Scalar = 0.9,
) -> Sampler:
  """Remasks a committed token with probability sigma as time goes from t to s,
  and writes a masked one with (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t).

  So the share of masks stays 1 - alpha, for any sigma up to sigma_max = min(1,
  (1 - alpha_s) / alpha_t). With eta = 0 it is `ancestral` (on the path of
  'loop', where that is chosen). Given tokens are never remasked.

  Never exact: positions of one time step are drawn independently, as in
  `ancestral`.

  Args:
    steps: T >= 1 time steps.
    eta: in [0, 1], how much is remasked. No default of the paper is certain to
      us; 0.02 is common in public code for 'loop'.
    strategy: 'cap': sigma = min(eta, sigma_max). 'rescale': eta sigma_max.
      'conf': eta sigma_max times the softmax, over the committed positions, of
      minus the probability that each had when written; masked ones have weight
      0 and are written as in `ancestral`, so slightly more than 1 - alpha are
      masked. (The factor eta is ours; 1 gives the published rule.) 'loop': no
      remasking up to t_on and after t_off, and in between alpha stays alpha_on
      and sigma is that of 'cap'.
    path: see `ancestral`; 'loop' goes through it up to alpha_on and from there.
    t_on: in [0, 1], for 'loop' alone, like the next two. Their defaults are
      common in public code.
    t_off: in [0, t_on].
    alpha_on: share of committed positions in [0, 1].

  Raises:
    ValueError: a number out of range, or an unknown strategy or path.
  """
  hyperparams = dict(eta=eta, t_on=t_on, t_off=t_off, alpha_on=alpha_on)
  for name, value in hyperparams.items():
    checks.in_range(name, value, 0, 1)
  checks.in_range('t_on - t_off', t_on - t_off, 0)
  checks.known('strategy', strategy, STRATEGIES)
  level = PATHS[checks.known('path', path, PATHS)]
  if strategy == 'loop':
    level = held(level, t_on, t_off, alpha_on)

  def rates(t, s, sure, committed):
    before, after = level(t), level(s)  # 1 - alpha
    most = jnp.minimum(after / jnp.maximum(1 - before, 1e-9), 1.0)
    sigma = eta * most
    if strategy in ('cap', 'loop'):
      sigma = jnp.minimum(eta, most)
    if strategy == 'loop':
      sigma = jnp.where((t_off < t) & (t <= t_on), sigma, 0.0)
    if strategy == 'conf':
      weight = jnp.where(committed, jnp.exp(-sure), 0.0)
      sigma *= weight / jnp.maximum(weight.sum(), 1e-9)
    return (before - after + sigma * (1 - before)) / before, sigma

  return leap(steps, rates)._replace(traits=Traits(rewrites=True))


def held(
  level: PathFn, t_on: Scalar, t_off: Scalar, alpha_on: Scalar
) -> PathFn:
  """A path that rests at alpha_on from t_on to t_off."""

  t_on = jnp.minimum(t_on, 1 - 1e-6)  # so that all is masked at t = 1

  def rise(t, low, high):
    return level(jnp.clip((t - low) / jnp.maximum(high - low, 1e-6), 0, 1))

  return lambda t: (
    alpha_on * rise(t, t_on, 1.0) + (1 - alpha_on) * rise(t, 0.0, t_off)
  )
