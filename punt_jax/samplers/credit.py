"""CreditDecoding: a token predicted again and again gains credit.

Wang et al. https://arxiv.org/abs/2510.06133, with the defaults of dInfer's
decoder. One pass per step, read twice. The carry holds a few credits per
position, never one per token of the vocabulary.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, select
from punt_jax.sampler import read, reveal
from punt_jax.types import Array, Sampler, Scalar, Traits


def credit(
  tau: Scalar = 0.9, alpha: Scalar = 0.7, gamma: Scalar = 0.2,
  beta: Scalar = 0.8, entries: int = 8,
) -> Sampler:
  """Threshold rule on a distribution that credits boost.

  Per position and token C <- beta C + [the most likely token] p ** gamma, then
  logits + alpha log(1 + C): the credit of this step counts in this step.
  Confidence and drafts follow the boosted distribution, and so do the
  log-probabilities of a run. At alpha = 0 this is `threshold`.

  Args:
    tau: probability; writes what has at least this confidence and always the
      surest, so above 1 it writes one by one.
    alpha: strength of the boost, >= 0.
    gamma: >= 0; 0 gives every step the same credit.
    beta: what is left of a credit after a step, in [0, 1].
    entries: E >= 1 credits kept per position, the largest; ours (dInfer keeps
      all of them). At most 256, and no more than there are tokens.

  Raises:
    ValueError: a number out of range or NaN.
  """
  checks.in_range('tau', tau, 0)
  checks.in_range('alpha', alpha, 0)
  checks.in_range('gamma', gamma, 0)
  checks.in_range('beta', beta, 0, 1)
  checks.whole('entries', entries, 1, 256)

  def init(keys, canvas, model):
    del keys
    shape = (*canvas.masked.shape, min(entries, model.vocab))
    nobody = jnp.full(shape, model.vocab, jnp.int32)
    return nobody, jnp.zeros(shape)

  def step(keys, t, canvas, carry, memo, model):
    ids, amounts = carry
    memo, answer = model.ask(memo, canvas.tokens, canvas.masked.any(-1))

    def best(features):
      logp = model.read(features)
      return logp.argmax(-1).astype(jnp.int32), jnp.exp(logp.max(-1))

    def boosted(features):
      features, ids, amounts = features
      boost = alpha * jnp.log1p(amounts)
      logits, place = model.read(features), jnp.arange(model.vocab)
      for e in range(ids.shape[-1]):  # fuses; a scatter or one-hot would not
        here = place == ids[..., e, None]
        logits += jnp.where(here, boost[..., e, None], 0.0)
      return jax.nn.log_softmax(logits)

    token, p = readout.in_chunks(
      best, canvas.masked, model.vocab, answer.features
    )
    gain = jnp.where(canvas.masked, p**gamma, 0.0)
    ids, amounts = earn(ids, amounts, token, gain, beta)
    answer = answer._replace(features=(answer.features, ids, amounts))
    boosted_model = model._replace(read=boosted)
    view = read(keys, t, canvas, answer, boosted_model)
    surest = jax.vmap(select.rank)(view.confidence, canvas.masked) == 0
    kept = canvas.masked & (surest | (view.confidence >= tau))
    return reveal(canvas, view, kept), (ids, amounts), memo

  return Sampler(init, step, Traits(exact=dict(tau=2.0, alpha=0.0)))


def earn(
  ids: Array, amounts: Array, token: Array, gain: Array, beta: Scalar
) -> tuple[Array, Array]:
  """Decays all credits and adds `gain` to one; the smallest makes room.

  Args:
    ids: (..., E) int32, no id twice but V, which is nobody's.
    amounts: (..., E) >= 0.
    token: (...) int32, who earns.
    gain: (...) >= 0; a new one must be more than the smallest credit.
    beta: what is left of a credit.

  Returns:
    ids and amounts after the step.
  """
  earns = ids == token[..., None]
  amounts = beta * amounts + jnp.where(earns, gain[..., None], 0.0)
  place = jnp.arange(ids.shape[-1])
  smallest = place == amounts.argmin(-1)[..., None]
  new = ~earns.any(-1, keepdims=True) & smallest & (gain[..., None] > amounts)
  return (
    jnp.where(new, token[..., None], ids),
    jnp.where(new, gain[..., None], amounts),
  )
