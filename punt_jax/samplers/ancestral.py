"""Ancestral sampling (tau-leaping) of masked diffusion.

MDLM (Sahoo et al. https://arxiv.org/abs/2406.07524). Time t runs from 1 to 0 in
T steps; at time t a position is masked with probability 1 - alpha(t). A time
step that writes nothing costs nothing: at most min(T, L) forward passes.
"""

from punt_jax import checks
from punt_jax.leap import PATHS, leap
from punt_jax.types import Sampler, Scalar


def ancestral(steps: Scalar, path: str = 'linear') -> Sampler:
  """Writes each masked position with probability (alpha_s - alpha_t) / (1 -
  alpha_t) as time goes from t to s, independently of all others.

  Never exact: positions of one time step are drawn independently. The error
  vanishes as T grows, and more than L passes are never made.

  Args:
    steps: T >= 1 time steps.
    path: 'linear', alpha = 1 - t (MDLM's log-linear noise), or 'cosine',
      alpha = 1 - sin(pi t / 2): MaskGIT's share of masks.

  Raises:
    ValueError: steps out of range, or an unknown path.
  """
  level = PATHS[checks.known('path', path, PATHS)]

  def rates(t, s, sure, committed):
    del sure, committed
    return (level(t) - level(s)) / level(t), 0.0

  return leap(steps, rates)
