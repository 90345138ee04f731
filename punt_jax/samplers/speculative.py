"""Any-subset speculative decoding (ASSD): drafts checked against the joint.

Guo and Ermon https://arxiv.org/abs/2504.20456. Needs a model that can score
tokens in a given order in one pass (Denoiser.in_order): exact worlds can, LLaDA
and Dream cannot. Two forward passes per step, one if a single position is left.
A step writes two tokens at least where two are masked, so no more passes than
one by one.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, rows, select
from punt_jax.denoiser import ordered
from punt_jax.sampler import look, reveal, spoiled
from punt_jax.types import Sampler, Scalar, ScoreFn, Traits


def speculative(
  k: Scalar = 10.0, score: str | ScoreFn = 'left_to_right'
) -> Sampler:
  """Keeps drafts while the joint agrees, then corrects one.

  The k first masked positions by `score` are drafted from their marginals q.
  One pass gives p, the conditionals in that order; draft y is kept with
  probability min(1, p(y) / q(y)), and the first that is not becomes a draw
  from max(p - q, 0). The first draft needs no check. What is written has
  exactly the distribution of one by one in that order, at any temperature and
  top-p.

  Args:
    k: drafts per step, >= 1; 10 as in the authors' code.
    score: order of the positions, see select.score_fn; ours. One that looks
      at the drafts bends the distribution.

  Raises:
    ValueError: k < 1 or NaN, an unknown score, or a model without in_order.
  """
  checks.in_range('k', k, 1)
  order = select.score_fn(score)

  def init(keys, canvas, model):
    del keys, canvas
    ordered(model)
    return ()

  def step(keys, t, canvas, carry, memo, model):
    memo, before, view = look(keys, t, canvas, memo, model)
    rank = jax.vmap(select.rank)(jax.vmap(order)(view), canvas.masked)
    drafted = canvas.masked & (rank < k)
    checked = drafted & (rank > 0)
    luck = [
      jax.vmap(rows.uniform_at)(rows.named(keys, name), view.position)
      for name in ('accept', 'correct')
    ]

    def verify(memo):
      tokens = jnp.where(drafted, view.drafts, canvas.tokens)
      place = jnp.where(canvas.masked, rank, -1)
      memo, after = ordered(model)(memo, tokens, place, checked.any(-1))
      return memo, readout.verify(
        model, before.features, after.features, view.drafts, checked, *luck
      )

    nothing = lambda memo: (
      memo,
      readout.Verdict(checked, view.drafts, view.draft_logp),
    )
    memo, verdict = jax.lax.cond(checked.any(), verify, nothing, memo)
    view = spoiled(view, jnp.isnan(verdict.logp))
    fine = drafted & (verdict.kept | ~checked)
    first = jnp.where(drafted & ~fine, rank, rank.shape[-1]).min(-1)
    view = view._replace(
      drafts=jnp.where(checked, verdict.tokens, view.drafts),
      draft_logp=jnp.where(checked, verdict.logp, view.draft_logp),
    )
    kept = drafted & (rank <= first[:, None])
    return reveal(canvas, view, kept), carry, memo

  return Sampler(init, step, Traits(exact={}, needs='in_order'))
