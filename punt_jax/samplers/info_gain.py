"""Info-Gain Sampler: doubt removed, less doubt accepted.

Yang et al. https://arxiv.org/abs/2602.18176. The search of `lookahead`, and its
cost: n passes per step with n paths, in one question, one more in the first
step (of a block), and none in a step that leaves nothing masked.
"""

from punt_jax.search import search
from punt_jax.types import CountFn, Sampler, Scalar


def info_gain(
  k: Scalar | CountFn, paths: int = 8, heat: Scalar = 0.2, skip: Scalar = 0.8
) -> Sampler:
  """Writes the k positions of the largest information gain less cost.

  The cost of a set is the sum of its entropies, the gain what the mean entropy
  of the masked positions falls by: -(sum of entropies) - (mean of those that
  remain after) in the same order.

  Exact with k = 1, heat 0 and skip > 1 only: elsewhere it looks at what drafts
  lead to, or writes many tokens together.

  Args:
    k: at least 1, or a count schedule (punt_jax.schedules).
    paths: n >= 1, see `search`; 8 is the authors'.
    heat: see `search`; 0.2 is the authors'. Theirs draws other tokens
      for each path and perturbs the probability of the drawn ones.
    skip: see `search`; 0.8 is the authors', above 1 never.

  Raises:
    ValueError: a number out of range or NaN.
  """
  exact = dict(k=1.0, heat=0.0, skip=2.0)
  value = lambda spent, left: -spent - left
  return search(k, paths, heat, skip, value, exact)
