"""EB-Sampler: the longest prefix of an order within an entropy budget.

Ben-Hamu et al. https://arxiv.org/abs/2505.24857. The joint dependence of a set
is at most the sum of its entropies minus the largest. One pass per step.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar, ScoreFn


def entropy_bound(gamma: Scalar, score: str | ScoreFn = 'entropy') -> Sampler:
  """Writes the longest prefix with sum(H) - max(H) <= gamma.

  Args:
    gamma: budget in nats, >= 0; with 0 only tokens of entropy 0 join the first.
    score: order of the positions, see select.score_fn.

  Raises:
    ValueError: gamma < 0 or NaN, or an unknown score.
  """
  checks.in_range('gamma', gamma, 0)
  order = select.score_fn(score)

  def rule(key, view):
    del key
    rank = select.rank(order(view), view.masked)
    entropy = select.by_rank(jnp.where(view.masked, view.entropy, 0.0), rank)
    spread = jnp.cumsum(entropy) - jax.lax.cummax(entropy)
    return rank < select.prefix(spread <= gamma, view.masked)

  return from_rule(rule, exact=dict(gamma=0.0))
