"""MaskGIT: keep the drafts of the highest probability, plus noise.

Chang et al. https://arxiv.org/abs/2202.04200. The number kept follows a cosine
over `steps`; the probability of each draft gets Gumbel noise that fades out.
One pass per step.
"""

import jax.numpy as jnp

from punt_jax import checks, rows, schedules, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def maskgit(steps: Scalar, noise: Scalar = 4.5) -> Sampler:
  """Writes by noisy draft probability until the cosine quota is met.

  Never exact: choosing positions by the probability of their drafts lowers
  the temperature of what is written, at any number of steps.

  Args:
    steps: T >= 1 forward passes (fewer if the canvas has fewer positions).
    noise: >= 0, scale of the Gumbel noise at the start, times 1 - t/T. What
      the paper used is not certain to us; 4.5 is a common choice for images.

  Raises:
    ValueError: steps or noise out of range.
  """
  checks.in_range('steps', steps, 1)
  checks.in_range('noise', noise, 0)
  quota = schedules.cosine(steps)

  def rule(key, view):
    gumbel = rows.gumbel_at(key, view.position)
    fade = jnp.maximum(1 - (view.step + 1) / steps, 0)
    rank = select.rank(view.draft_score + noise * fade * gumbel, view.masked)
    return rank < select.count_of(quota, view)

  return from_rule(rule)
