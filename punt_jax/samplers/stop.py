"""Early exit at the end-of-sequence token, for any sampler.

A row is finished once every position left of its first written EOS is filled;
what is still masked to the right becomes EOS at no cost, as in Fast-dLLM
(https://arxiv.org/abs/2505.22618). Around blocks, not inside:
stop(blocks(inner, length), eos).
"""

import jax.numpy as jnp

from punt_jax import checks, contract
from punt_jax.types import ArrayLike, Sampler


def stop(inner: Sampler, eos: ArrayLike) -> Sampler:
  """Ends rows at EOS.

  Never exact as a whole: the tail is not drawn from the model and adds 0 to
  log_q. Up to the first EOS the canvas is what `inner` writes.

  Args:
    inner: Sampler.
    eos: token id, or several: any of them ends a row, the first fills it. -1
      is no token: nothing ends.

  Raises:
    ValueError: no id at all, or what is no token of the model.
  """
  contract.is_a(inner, Sampler)
  checks.in_range('eos', eos, -1, shape=None)
  ends = jnp.ravel(jnp.asarray(eos))
  if not ends.size or not jnp.issubdtype(ends.dtype, jnp.integer):
    said = checks.shown(eos)
    raise ValueError(f'eos = {said} must be a token id, or several')

  def init(keys, canvas, model):
    checks.in_range('eos', eos, -1, model.vocab - 1, shape=None)
    return inner.init(keys, canvas, model)

  def step(keys, t, canvas, carry, memo, model):
    move, carry, memo = inner.step(keys, t, canvas, carry, memo, model)
    ended = jnp.cumsum(canvas.open & jnp.isin(move.tokens, ends), -1) > 0
    masked = canvas.open & (move.tokens == model.vocab)
    complete = ended.any(-1) & ~(masked & ~ended).any(-1)
    tail = complete[:, None] & masked
    tokens = jnp.where(tail, ends[0], move.tokens)
    done = move.done | complete
    return move._replace(tokens=tokens, done=done), carry, memo

  traits = inner.traits._replace(exact=None)
  return Sampler(init, step, traits, inner.settled)
