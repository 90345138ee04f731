"""LookUM: looks one step ahead and writes what leaves the least doubt.

Lee, Kim, Park, Park, "Lookahead Unmasking" (https://arxiv.org/abs/2511.05563).
A step draws n sets of positions, shows each with its drafts, and writes the set
after which the model is surest (punt_jax/search.py). n passes per step, in one
question, one more in the first step (of a block), none in a step that leaves
nothing masked.
"""

from punt_jax.search import search
from punt_jax.types import CountFn, Sampler, Scalar


def lookahead(
  k: Scalar | CountFn, paths: int = 3, heat: Scalar = 0.2
) -> Sampler:
  """Writes the k positions that leave the least mean entropy.

  Exact with k = 1 at heat 0 only: elsewhere it looks at what drafts lead to.

  Args:
    k: at least 1, or a count schedule (punt_jax.schedules).
    paths: n >= 1, see `search`; with 1 it is top_k. The paper needs 2 or 3.
    heat: see `search`; the paper's is not known to us.

  Raises:
    ValueError: a number out of range or NaN.
  """
  exact = dict(k=1.0, heat=0.0)
  return search(k, paths, heat, 2.0, lambda spent, left: -left, exact)
