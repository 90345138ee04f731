"""Threshold of Fast-dLLM (https://arxiv.org/abs/2505.22618), a pass a step."""

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def threshold(tau: Scalar) -> Sampler:
  """Writes every position of confidence >= tau, and always the surest.

  Args:
    tau: probability; above 1 it writes one by one. The paper's default is 0.9.

  Raises:
    ValueError: tau < 0 or NaN.
  """
  checks.in_range('tau', tau, 0)

  def rule(key, view):
    del key
    best = select.rank(view.confidence, view.masked) == 0
    return best | (view.confidence >= tau)

  return from_rule(rule, exact=dict(tau=2.0))
