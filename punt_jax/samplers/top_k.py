"""The k best positions per forward pass, k fixed or from a schedule.

LLaDA's static quota is top_k(schedules.even(steps)).
"""

from punt_jax import select
from punt_jax.sampler import from_rule
from punt_jax.types import CountFn, Sampler, Scalar, ScoreFn


def top_k(k: Scalar | CountFn, score: str | ScoreFn = 'confidence') -> Sampler:
  """Writes the k best masked positions.

  Args:
    k: at least 1, or a count schedule (punt_jax.schedules).
    score: see select.score_fn.

  Raises:
    ValueError: k < 1 or NaN, or an unknown score.
  """
  return from_rule(select.best(k, score), exact=dict(k=1))
