"""ADAS: positions that attend to unsure chosen ones come later.

Sahin et al. https://arxiv.org/abs/2606.10829. A new order for any sampler with
a `score`; one forward pass per step, of a model whose Answer.extra holds
attention.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import CountFn, Sampler, Scalar, ScoreFn


def adas(k: Scalar | CountFn, alpha: Scalar = 40.0) -> Sampler:
  """top_k in the order of `discounted`.

  Args:
    k: positions per step, at least 1, or a count schedule.
    alpha: see `discounted`.

  Raises:
    ValueError: k < 1, alpha < 0, or a model that gives no attention.
  """
  rule = select.best(k, discounted(alpha))
  return from_rule(rule, exact=dict(k=1), needs='attention')


def discounted(alpha: Scalar = 40.0) -> ScoreFn:
  """A score: confidence less the attention to unsure positions before it.

  Greedily the position of the largest c_i - alpha sum_{s chosen} A_is (1 - c_s)
  comes next; A is the attention of the last layer, mean over heads, from i to
  s. For example entropy_bound(gamma, score=discounted()).

  Args:
    alpha: >= 0; 40 in the paper. 0 orders by confidence.

  Returns:
    View -> (L,), minus the place in that order.

  Raises:
    ValueError: alpha < 0 or NaN; when used, a model that gives no attention.
  """
  checks.in_range('alpha', alpha, 0)

  def score(view):
    attention = select.attention(view)[-1]
    cost = alpha * attention * (1 - view.confidence)  # of s to i, (L, L)

    def choose(n, state):
      place, worth = state
      best = jnp.where(place < 0, worth, -jnp.inf).argmax()
      return place.at[best].set(n), worth - cost[:, best]

    # Masked ones first: others are placed behind, where nothing reads them.
    nowhere = jnp.where(view.masked, -1, view.masked.size)
    place, worth = jax.lax.fori_loop(
      0, view.masked.sum(), choose, (nowhere, view.confidence)
    )
    return jnp.where(jnp.isnan(worth), jnp.nan, -place)

  return score
