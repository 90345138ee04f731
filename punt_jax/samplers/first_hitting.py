"""First-hitting sampler: the continuous time limit, without time steps.

Zheng et al. https://arxiv.org/abs/2409.02908. One position per forward pass, L
passes.
"""

import jax
import jax.numpy as jnp

from punt_jax import rows
from punt_jax.leap import Hit
from punt_jax.sampler import any_of, look, position_of, reveal
from punt_jax.types import Sampler, Traits


def first_hitting() -> Sampler:
  """Writes a uniformly random masked position at the next hitting time.

  With m masks left at time t the next time is t u ** (1 / m), u uniform (the
  linear path of `ancestral`). Move.info is Hit: the time of the step. The
  models here ignore time, so the samples are those of one by one in uniformly
  random order.
  """

  def init(keys, canvas, model):
    del keys, model
    return jnp.ones(canvas.masked.shape[:1])

  def step(keys, t, canvas, time, memo, model):
    kept = jax.vmap(any_of, (0, 0, 0, None))(
      rows.named(keys, 'rule'), position_of(canvas), canvas.masked, 1
    )
    left = jnp.maximum(canvas.masked.sum(-1), 1)
    time *= jax.vmap(jax.random.uniform)(rows.named(keys, 'time')) ** (1 / left)
    now = canvas._replace(masked=kept)  # the only one that is read
    memo, _, view = look(keys, t, now, memo, model)
    return reveal(canvas, view, kept, Hit(time)), time, memo

  return Sampler(init, step, Traits(exact={}))
