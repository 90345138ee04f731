"""Learned orders: a policy says of each masked position whether it is written.

Every position is decided on its own, so that many are written in one step: a
Bernoulli vector. Policies are trained beside a frozen denoiser, by variational
inference (Fox et al. https://arxiv.org/abs/2602.23968) or by reinforcement
(Jazbec et al. https://arxiv.org/abs/2512.09106), see train/orders/. One pass
per step and a small network.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, rows, select
from punt_jax.sampler import look, no_carry, reveal, spoiled
from punt_jax.types import Array, PolicyFn, Sampler, Scalar, Traits, View


class Acts(NamedTuple):
  """What was decided, and on what."""

  view: View  # of B rows, without features and attention
  left: Array  # (B,) steps left in the budget, this one included
  action: Array  # (B, L) bool, as drawn: an empty one wrote one position


def learned(
  policy: PolicyFn, budget: Scalar = math.inf, temperature: Scalar = 1.0,
  bias: Scalar = 0.0,
) -> Sampler:
  """Writes each masked position with the probability that the policy gives it.

  An empty action writes the position of the largest logit. The last step of
  the budget writes all that is left.

  Args:
    policy: (View of one row, steps left ()) -> logits (L,), traced or not, such
      as models.orders.policy.
    budget: steps a canvas (or block) takes at most, >= 1; a fraction is
      rounded down.
    temperature: of the Bernoulli draws, >= 0; 0 takes what is above 1/2.
    bias: added to the logits: larger is faster; -inf writes one by one, until
      the budget's last step.

  Raises:
    ValueError: a hyperparameter out of range, or a policy that is no function
      or returns anything else.
  """
  checks.in_range('budget', budget, 1)
  checks.in_range('temperature', temperature, 0)
  checks.in_range('bias', bias)

  def decide(view, left):
    checks.function('policy', policy)
    what = f'the policy {contract.name_of(policy)}'
    return contract.array(what, policy(view, left), view.masked.shape)

  def step(keys, t, canvas, carry, memo, model):
    memo, _, view = look(keys, t, canvas, memo, model)
    left = jnp.floor(jnp.asarray(budget, jnp.float32)) - t
    logits = jax.vmap(decide)(view, left)
    view = spoiled(view, canvas.masked & jnp.isnan(logits))
    uniforms = jax.vmap(rows.uniform_at)(rows.named(keys, 'act'), view.position)
    noise = jax.scipy.special.logit(jnp.clip(uniforms, 1e-7, 1 - 1e-7))
    action = (logits + bias > temperature * noise) & canvas.masked
    kept = jax.vmap(select.act)(action, logits, canvas.masked, left <= 1)
    seen = view._replace(features=(), extra=())
    return reveal(canvas, view, kept, Acts(seen, left, action)), carry, memo

  exact = dict(bias=-math.inf, budget=math.inf)
  return Sampler(no_carry, step, Traits(exact))
