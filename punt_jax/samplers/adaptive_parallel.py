"""Adaptive parallel decoding (APD): a left-to-right judge cuts the draft.

Israel, Van den Broeck and Grover https://arxiv.org/abs/2506.00413. Writes from
left to right. Two forward passes per step, one of the model and one of the
judge; one if a single position is drafted.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, readout, rows, select
from punt_jax.denoiser import left_to_right
from punt_jax.sampler import beside, consult, position_of
from punt_jax.types import Array, Denoiser, Move, Sampler, Scalar, Traits


def adaptive_parallel(
  mix: Scalar = 0.5, window: Scalar = 200.0, judge: Denoiser | None = None
) -> Sampler:
  """Keeps the leftmost drafts that the judge would also have drawn.

  Drafts and judge share their Gumbel noise: y = argmax(log p + G) and y' =
  argmax(mix log p + (1 - mix) log judge + G) under temperature and top-p. The
  longest prefix with y = y' is written, the first draft always.

  Args:
    mix: weight of the model in [0, 1], 1 trusts all drafts; 0.5 is an example
      of the authors.
    window: positions drafted per step, >= 1; 1 is one by one. 200 as in an
      example of the authors. Their sliding KV window is not part of this.
    judge: Denoiser whose answer at i is about token i given those to its
      left, of the same vocabulary; None asks the model itself for that, if it
      can (Denoiser.in_order).

  Raises:
    ValueError: mix or window out of range, no judge and a model that cannot
      be one, or a judge of another vocabulary.
  """
  checks.in_range('mix', mix, 0, 1)
  checks.in_range('window', window, 1)
  if judge is not None:
    contract.is_a(judge, Denoiser)

  def judge_of(model):
    if judge is None:
      return left_to_right(model)
    if judge.vocab != model.vocab:
      raise ValueError(
        f'the judge has {judge.vocab} tokens, the model {model.vocab}: both'
        ' need the same vocabulary'
      )
    return beside(model, judge)

  def init(keys, canvas, model):
    del keys, canvas
    judge_of(model)
    return ()

  def step(keys, t, canvas, carry, memo, model):
    del t
    other = judge_of(model)
    memo, answer = model.ask(memo, canvas.tokens, canvas.masked.any(-1))
    position = position_of(canvas)
    rank = jax.vmap(select.rank)(-position, canvas.masked)
    drafted = canvas.masked & (rank < window)
    noise = jax.vmap(rows.fold_rows)(rows.named(keys, 'gumbel'), position)
    drafts, logp = readout.gumbel_drafts(
      model, drafted, noise, answer.features
    )
    checked = drafted & (rank > 0)

    def ask_judge(memo):
      tokens = jnp.where(drafted, drafts, canvas.tokens)
      memo, said = consult(other, tokens, checked.any(-1), memo)
      both = model._replace(
        read=lambda f: mixed(model.read(f[0]), other.read(f[1]), mix)
      )
      features = answer.features, said.features
      return memo, readout.gumbel_drafts(both, checked, noise, features)

    nothing = lambda memo: (memo, jax.tree.map(jnp.zeros_like, (drafts, logp)))
    memo, (judged, fits) = jax.lax.cond(
      checked.any(), ask_judge, nothing, memo
    )
    broken = (jnp.isnan(logp) | jnp.isnan(fits)).any(-1, keepdims=True)
    logp = jnp.where(broken, jnp.nan, logp)
    differ = jnp.where(checked & (drafts != judged), rank, rank.shape[-1])
    kept = drafted & (rank < differ.min(-1, keepdims=True))
    move = Move(
      tokens=jnp.where(kept, drafts, canvas.tokens),
      logp=jnp.where(kept, logp, 0.0),
      done=~(canvas.masked & ~kept).any(-1),
    )
    return move, carry, memo

  needs = 'in_order' if judge is None else None
  return Sampler(init, step, Traits(exact=dict(window=1.0), needs=needs))


def mixed(a: Array, b: Array, weight: Scalar) -> Array:
  """log of a^weight b^(1 - weight), normalized; 0 log 0 is 0.

  b where the two have no token in common.
  """
  part = lambda w, x: jnp.where(w > 0, w * x, 0.0)
  both = part(weight, a) + part(1 - weight, b)
  nothing = jnp.isneginf(both).all(-1, keepdims=True)
  return jax.nn.log_softmax(jnp.where(nothing, b, both))
