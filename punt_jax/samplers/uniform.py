"""k uniformly random positions per forward pass (Dream's `origin` order)."""

from punt_jax import select
from punt_jax.sampler import any_of, from_rule
from punt_jax.types import CountFn, Sampler, Scalar


def uniform(k: Scalar | CountFn) -> Sampler:
  """Writes k random masked positions.

  Args:
    k: at least 1, or a count schedule (punt_jax.schedules).

  Raises:
    ValueError: k < 1 or NaN.
  """
  select.check_count(k)

  def rule(key, view):
    count = select.count_of(k, view)
    return any_of(key, view.position, view.masked, count)

  return from_rule(rule, exact=dict(k=1))
