"""KLASS: sure and stable (https://arxiv.org/abs/2511.05664, NeurIPS 2025).

A position is ready if its prediction has stopped moving from step to step. One
pass per step; the carry holds the features of the last one, (B, L, D).
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, select
from punt_jax.sampler import look, no_features, reveal
from punt_jax.types import CountFn, Sampler, Scalar, Traits


def klass(
  tau: Scalar = 0.9, epsilon: Scalar = 0.01, history: Scalar = 2.0,
  k: Scalar | CountFn = 1.0,
) -> Sampler:
  """Writes every ready position, or the k surest if none is.

  Ready: confidence > tau, and KL(now || one step before) < epsilon in each of
  the last `history` steps. So the first `history` steps (of a block) write the
  k surest.

  Args:
    tau: probability; above 1 nothing is ever ready. 0.9 is the authors'.
    epsilon: nats, >= 0; 0.01 is the authors'.
    history: steps, >= 0; 2 is the authors'.
    k: at least 1, or a count schedule (punt_jax.schedules). The authors' is
      schedules.even(steps); 1 is ours.

  Raises:
    ValueError: a number out of range or NaN.
  """
  checks.in_range('tau', tau, 0)
  checks.in_range('epsilon', epsilon, 0)
  checks.in_range('history', history, 0)
  select.check_count(k)

  def init(keys, canvas, model):
    del keys
    stable = jnp.zeros(canvas.masked.shape, jnp.int32)
    return no_features(canvas, model), stable

  def rule(view, stable):
    ready = view.masked & (stable >= history) & (view.confidence > tau)
    rank = select.rank(view.confidence, view.masked)
    return jnp.where(ready.any(), ready, rank < select.count_of(k, view))

  def step(keys, t, canvas, carry, memo, model):
    before, stable = carry
    memo, answer, view = look(keys, t, canvas, memo, model)
    tests = canvas.masked & (t > 0)[:, None]
    moved = readout.divergence(model, answer.features, before, tests)
    stable = jnp.where(tests & (moved < epsilon), stable + 1, 0)
    kept = jax.vmap(rule)(view, stable) & canvas.masked
    return reveal(canvas, view, kept), (answer.features, stable), memo

  return Sampler(init, step, Traits(exact=dict(tau=2.0, k=1.0)))
