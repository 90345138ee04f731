"""Masking for training, and the masked-diffusion loss.

The forward process hides each token independently: at time t in (0, 1] a
token is kept with probability alpha_t = 1 - t and is MASK otherwise (the
linear schedule). With a model p(x_i | what is left of x), the negative
evidence lower bound in continuous time is

  NELBO(x) = E_{t ~ U(0, 1)} [ 1/t  sum_{i masked at t} -log p(x_i | z_t) ],

because -alpha'_t / (1 - alpha_t) = 1 / t. It is the objective of Sahoo et al.,
Simple and Effective Masked Diffusion Language Models (MDLM, 2024, arXiv
https://arxiv.org/abs/2406.07524), and of Shi et al., Simplified and Generalized
Masked Diffusion for Discrete Data (MD4, 2024,
https://arxiv.org/abs/2406.04329), at the linear schedule.

Training draws t (stratified over the batch, not below T_MIN: the variance of
1/t is infinite at 0). Evaluation integrates t out: with n tokens of which k
are masked, the integral over t of t^(k-1) (1-t)^(n-k) gives every subset of
size k the weight 1 / (k C(n, k)), so

  NELBO(x) = n E_{k ~ U{1..n}} E_{|M| = k} [ 1/k  sum_{i in M} -log p ],

the same number with no cut at T_MIN and a smaller variance (the any-order form
of Ou et al., 2024, https://arxiv.org/abs/2406.03736).

Each row has its own key, so that no result depends on how rows are split
over devices. Everything here is pure; nats throughout.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

T_MIN = 1e-3
WEIGHTS = ('nelbo', 'unweighted')


class Loss(NamedTuple):
  """Per row, nats per token; the mean over rows is the batch's loss."""

  loss: Array  # (B,) what is minimized
  nelbo: Array  # (B,) the 1/t-weighted bound, always


def times(key: Array, rows: Array, count: int) -> Array:
  """Stratified mask rates (https://arxiv.org/abs/2107.00630, I.1).

  Args:
    key: the key of the step; the same on all devices.
    rows: (B,) int32, the number of each row in the whole batch.
    count: rows in the whole batch.

  Returns:
    (B,) float32 in [T_MIN, 1): one uniform shifted by rows / count.
  """
  shifted = (jax.random.uniform(key) + rows / count) % 1.0
  return T_MIN + (1.0 - T_MIN) * shifted


def hide(
  keys: Array, tokens: Array, rate: Array, mask_id: int
) -> tuple[Array, Array]:
  """Masks each token of row b with probability rate[b].

  Args:
    keys: (B,) one key per row.
    tokens: (B, L) int32.
    rate: (B,) probabilities t.
    mask_id: V.

  Returns:
    tokens (B, L) with MASK, and masked (B, L) bool.
  """
  uniform = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:]))
  masked = uniform(keys) < rate[:, None]
  return jnp.where(masked, mask_id, tokens), masked


def hide_count(
  keys: Array, tokens: Array, count: Array, mask_id: int
) -> tuple[Array, Array]:
  """Masks exactly count[b] tokens of row b, a uniformly random subset."""
  uniform = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:]))
  rank = jnp.argsort(jnp.argsort(uniform(keys), axis=1), axis=1)
  masked = rank < count[:, None]
  return jnp.where(masked, mask_id, tokens), masked


def token_nats(logits: Array, tokens: Array) -> Array:
  """-log p(token): logits (..., V), tokens (...) -> (...) float32 nats."""
  logits = logits.astype(jnp.float32)
  picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def diffusion_loss(
  key: Array, rows: Array, count: int, tokens: Array,
  logits_fn: Callable[[Array], Array], mask_id: int, weight: str,
) -> Loss:
  """The masked-diffusion loss of a batch (see the top of this file).

  Args:
    key: the key of the step.
    rows: (B,) int32 row numbers within the whole batch of `count` rows.
    count: rows in the whole batch, over all devices.
    tokens: (B, L) int32 in [0, V).
    logits_fn: (B, L) tokens with MASK -> (B, L, V).
    mask_id: V.
    weight: 'nelbo' (1/t) or 'unweighted' (2, which has the same mean weight
      per token: the integral of t w(t) is 1 for both).

  Returns:
    Loss with leaves (B,), nats per token.
  """
  time_key, row_key = jax.random.split(key)
  rate = times(time_key, rows, count)
  keys = jax.vmap(lambda row: jax.random.fold_in(row_key, row))(rows)
  hidden, masked = hide(keys, tokens, rate, mask_id)
  nats = token_nats(logits_fn(hidden), tokens)
  mean = jnp.where(masked, nats, 0.0).mean(axis=1)
  nelbo = mean / rate
  return Loss({'nelbo': nelbo, 'unweighted': 2.0 * mean}[weight], nelbo)


def nelbo_draw(
  key: Array, rows: Array, count: int, tokens: Array,
  logits_fn: Callable[[Array], Array], mask_id: int,
) -> Array:
  """One unbiased draw of the NELBO of each row, t integrated out.

  Arguments as in `diffusion_loss`; the number of masked tokens is stratified
  over the rows.

  Returns:
    (B,) float32 nats per token.
  """
  length = tokens.shape[1]
  time_key, row_key = jax.random.split(key)
  shifted = (jax.random.uniform(time_key) + rows / count) % 1.0
  number = jnp.minimum(1 + (shifted * length).astype(jnp.int32), length)
  keys = jax.vmap(lambda row: jax.random.fold_in(row_key, row))(rows)
  hidden, masked = hide_count(keys, tokens, number, mask_id)
  nats = token_nats(logits_fn(hidden), tokens)
  return jnp.where(masked, nats, 0.0).sum(axis=1) / number


def nelbo_mean(draws: ArrayLike) -> tuple[float, float]:
  """Mean and Monte-Carlo standard error of NELBO draws.

  The error is that of the random masks alone, for this held-out text: the
  text is fixed, so differences between its windows are not noise.

  Args:
    draws: (n, rows) with n >= 2 independent draws for each row, any unit.

  Returns:
    (mean, standard error), floats.
  """
  draws = np.asarray(draws, np.float64)
  n, rows = draws.shape
  error = np.sqrt(draws.var(axis=0, ddof=1).sum() / n) / rows
  return float(draws.mean()), float(error)
