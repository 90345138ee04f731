"""DAPD: an independent set of the attention graph.

Kim, Jeon, Jeon and No https://arxiv.org/abs/2603.12996. One forward pass per
step, of a model whose Answer.extra holds attention (models.denoiser(...,
attention=True)).
"""

import jax.numpy as jnp

from punt_jax import checks, select
from punt_jax.sampler import from_rule
from punt_jax.types import Sampler, Scalar


def dapd(tau: Scalar, late: Scalar = 0.5, sure: Scalar = 0.9) -> Sampler:
  """Writes masked positions that do not attend to each other, hubs first.

  Two masked positions are joined if the attention between them, mean of both
  ways, of heads and of the last 30 % of the layers, is above tau. Positions
  are visited by confidence times their summed attention and taken if not
  joined to one that was. Once less than `late` of the canvas is masked, every
  position of confidence >= `sure` is written instead, and always the surest.

  Args:
    tau: of attention, in [0, 1]; task-specific in the paper, so no default.
    late: share of masked positions, 0.5 in the paper.
    sure: probability, 0.9 in the paper.

  Raises:
    ValueError: a hyperparameter out of range, or a model that gives no
      attention.
  """
  checks.in_range('tau', tau)
  checks.in_range('late', late, 0, 1)
  checks.in_range('sure', sure, 0)

  def rule(key, view):
    del key
    layers = select.attention(view)
    last = -(-layers.shape[0] * 3 // 10)
    mean = layers[-last:].mean(0)
    pairs = view.masked[:, None] & view.masked & ~jnp.eye(len(mean), dtype=bool)
    tie = jnp.where(pairs, (mean + mean.T) / 2, 0.0)
    hubs = select.rank(tie.sum(-1) * view.confidence, view.masked)
    joined = (tie > tau).astype(jnp.float32)
    early = select.thin(joined, 0.5, hubs, view.masked)
    best = select.rank(view.confidence, view.masked) == 0
    few = view.masked.sum() < late * view.total
    return jnp.where(few, best | (view.confidence >= sure), early)

  exact = dict(tau=-1.0, late=0.0)
  return from_rule(rule, exact, needs='attention')
