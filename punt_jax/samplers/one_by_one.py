"""One position per forward pass: exact in every order that ignores the drafts.

The order is LLaDA's low-confidence remasking (score 'confidence'), Dream's
maskgit_plus / entropy / topk_margin, or left to right.
"""

from punt_jax import select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, ScoreFn


def one_by_one(score: str | ScoreFn = 'confidence') -> Sampler:
  """Writes the best position by `score` (see select.score_fn). L passes."""
  order = select.score_fn(score)

  def rule(key, view):
    del key
    return select.rank(order(view), view.masked) < 1

  return from_rule(rule, exact=dict(score='confidence'))
