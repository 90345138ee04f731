"""A model that offers attention, for samplers that read it."""

import jax.numpy as jnp


def attending(model, table):
  """`model` with the same attention, table (K, L, L), about every canvas.

  It belongs to places among the valid positions, so padding moves it along.
  """

  def ask(memo, tokens, rows):
    memo, answer = model.ask(memo, tokens, rows)
    place = jnp.cumsum(memo.valid, -1) - 1
    attention = jnp.asarray(table)[:, place[:, :, None], place[:, None]]
    return memo, answer._replace(extra=attention.swapaxes(0, 1))

  return model._replace(ask=ask)
