"""P2, path planning: the surest positions stay, whoever wrote them.

Peng et al. https://arxiv.org/abs/2502.03540. One forward pass per step, and one
of the planner if there is one. With T > L, give the loop max_steps = T, in
blocks T for each.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, readout, schedules, select
from punt_jax.sampler import beside, consult, look, reveal, spoiled
from punt_jax.types import Denoiser, Sampler, Scalar


def p2(
  steps: Scalar, eta: Scalar = 1.0, planner: Denoiser | None = None
) -> Sampler:
  """Masks the floor((1 - t/T) N) positions of the lowest score after step t.

  The score of a masked position is the log-probability of its draft, that of a
  committed one eta times the log-probability of its token. Drafts outside that
  set are written, tokens inside it are remasked; given tokens are neither. N
  counts all open positions.

  Ends: step T masks nothing. It may end before, once (1 - t/T) N < 1.

  Never exact: what is written and what is taken back depend on the drafts.

  Args:
    steps: T >= 1.
    eta: >= 0. 0 never remasks, writes at least one position per step and so
      ends in min(T, L) steps; 1, the paper's, puts drafts and tokens on equal
      footing; more remasks more.
    planner: Denoiser of the same vocabulary that gives the log-probabilities
      of the committed tokens, asked about the canvas with every draft filled
      in; None: the model itself, from the same answer as the drafts. It is not
      asked where nothing could be remasked.

  Raises:
    ValueError: a number out of range, or a planner of another vocabulary.
  """
  checks.in_range('steps', steps, 1, 2**24)
  checks.in_range('eta', eta, 0)

  if planner is not None:
    contract.is_a(planner, Denoiser)

  def init(keys, canvas, model):
    del keys, canvas
    if planner is not None and planner.vocab != model.vocab:
      raise ValueError(
        f'the planner has {planner.vocab} tokens, the model {model.vocab}:'
        ' both need the same vocabulary'
      )
    return ()

  def step(keys, t, canvas, carry, memo, model):
    other = model if planner is None else beside(model, planner)
    memo, answer, view = look(keys, t, canvas, memo, model)
    total, left = canvas.open.sum(-1), canvas.masked.sum(-1)
    rest = jnp.maximum(1 - (t + 1) / steps, 0.0)
    goal = jnp.floor(rest * total + schedules.SLACK).astype(jnp.int32)
    # Without remasking a step that writes nothing would be asked in vain.
    goal = jnp.where(eta > 0, goal, jnp.minimum(goal, left - 1))
    committed = canvas.open & ~canvas.masked
    rescored = committed & (goal > 0)[:, None] & (eta > 0)

    def ask(memo):
      filled = jnp.where(canvas.masked, view.drafts, canvas.tokens)
      memo, said = consult(other, filled, rescored.any(-1), memo)
      return memo, readout.log_prob(
        other, said.features, canvas.tokens, rescored
      )

    if planner is None:
      logp = readout.log_prob(
        model, answer.features, canvas.tokens, rescored
      )
    else:
      nothing = lambda memo: (memo, jnp.zeros(rescored.shape))
      memo, logp = jax.lax.cond(rescored.any(), ask, nothing, memo)
    view = spoiled(view, jnp.isnan(logp))
    logp = jnp.where(rescored, eta * logp, jnp.inf)
    score = jnp.where(canvas.masked, view.draft_score, logp)
    rank = jax.vmap(select.rank)(score, canvas.open)
    hidden = canvas.open & (rank >= (total - goal)[:, None])
    written = canvas.masked & ~hidden
    move = reveal(canvas._replace(masked=written), view, written)
    broken = jnp.isnan(view.draft_logp).any(-1, keepdims=True)  # writes nothing
    return move._replace(
      tokens=jnp.where(hidden, model.vocab, move.tokens),
      logp=jnp.where(broken, jnp.nan, move.logp),
      done=~hidden.any(-1),
    ), carry, memo

  return Sampler(init, step)
