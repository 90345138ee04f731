"""Threshold of Fast-dLLM (https://arxiv.org/abs/2505.22618), a pass a step.

SDAR (https://arxiv.org/abs/2510.06303) and LLaDA2 write what is above tau, not
at it, which is the same but for ties.
"""

import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def threshold(tau: Scalar, of: str = 'confidence') -> Sampler:
  """Writes every position of confidence >= tau, and always the surest.

  Args:
    tau: probability; above 1 it writes one by one. The paper's default is 0.9.
    of: whose probability: 'confidence', the most likely token's, or 'draft',
      that of the token that has been drawn, as in SDAR; the same at
      temperature 0.

  Raises:
    ValueError: tau < 0 or NaN, or the probability of something else.
  """
  checks.in_range('tau', tau, 0)
  drawn = checks.known('of', of, ('confidence', 'draft')) == 'draft'

  def rule(key, view):
    del key
    sure = jnp.exp(view.draft_score) if drawn else view.confidence
    return (select.rank(sure, view.masked) == 0) | (sure >= tau)

  return from_rule(rule, exact=dict(tau=2.0))
