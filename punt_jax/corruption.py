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

Block models (Arriola et al., 2025, BD3-LM, arXiv
https://arxiv.org/abs/2503.09573) predict a block from what is left of it and
from clean earlier blocks. Their NELBO is the sum over blocks of the NELBO of a
block given the clean ones before it: the chain rule over blocks, the bound
within. One block is the NELBO above, blocks of one token are the exact
likelihood, left to right. A block has a time, or a number of masks, of its
own; those of a row are spread evenly, too.

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


def spread(rows: Array, count: int, blocks: int) -> Array:
  """Row numbers (B,) -> those of their blocks (B, n), for `times`.

  The blocks of a row lie about count / n apart, a block and that of the next
  row 1: times are stratified over the blocks of a row, over the rows for each
  block, and over all.
  """
  return rows[:, None] + jnp.arange(blocks) * ((count + 1) / blocks)


def hide(
  keys: Array, tokens: Array, rate: Array, mask_id: int
) -> tuple[Array, Array]:
  """Masks each token of row b with probability rate[b].

  Args:
    keys: (B,) one key per row.
    tokens: (B, L) int32.
    rate: (B,) probabilities t, or (B, n) of as many blocks of each row.
    mask_id: V.

  Returns:
    tokens (B, L) with MASK, and masked (B, L) bool.
  """
  uniform = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:]))
  cut = _in_blocks(uniform(keys), rate)
  masked = (cut < rate[..., None]).reshape(tokens.shape)
  return jnp.where(masked, mask_id, tokens), masked


def hide_count(
  keys: Array, tokens: Array, count: Array, mask_id: int
) -> tuple[Array, Array]:
  """Masks exactly count[b] tokens of row b, a uniformly random subset.

  Or count[b, i] tokens of its block i.
  """
  uniform = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:]))
  cut = _in_blocks(uniform(keys), count)
  rank = jnp.argsort(jnp.argsort(cut, axis=-1), axis=-1)
  masked = (rank < count[..., None]).reshape(tokens.shape)
  return jnp.where(masked, mask_id, tokens), masked


def _in_blocks(x, like):
  """x (B, L) -> (B, L) for `like` (B,), (B, n, L / n) for (B, n)."""
  return x.reshape(like.shape + (-1,))


def token_nats(logits: Array, tokens: Array) -> Array:
  """-log p(token): logits (..., V), tokens (...) -> (...) float32 nats."""
  logits = logits.astype(jnp.float32)
  picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def diffusion_loss(
  key: Array, rows: Array, count: int, tokens: Array,
  logits_fn: Callable[[Array], Array], mask_id: int, weight: str,
  block_length: int = 0,
) -> Loss:
  """The masked-diffusion loss of a batch (see the top of this file).

  Args:
    key: the key of the step.
    rows: (B,) int32 row numbers within the whole batch of `count` rows.
    count: rows in the whole batch, over all devices.
    tokens: (B, L) int32 in [0, V).
    logits_fn: (B, L) tokens with MASK -> (B, L, V); of a block model, logits
      of each block given `tokens` in the blocks before it.
    mask_id: V.
    weight: 'nelbo' (1/t) or 'unweighted' (2, which has the same mean weight
      per token: the integral of t w(t) is 1 for both).
    block_length: of a block model, a divisor of L; 0: there are no blocks.

  Returns:
    Loss with leaves (B,), nats per token.
  """
  time_key, row_key = jax.random.split(key)
  rate = times(time_key, _strata(rows, count, tokens, block_length), count)
  keys = jax.vmap(lambda row: jax.random.fold_in(row_key, row))(rows)
  hidden, masked = hide(keys, tokens, rate, mask_id)
  nats = jnp.where(masked, token_nats(logits_fn(hidden), tokens), 0.0)
  mean = _in_blocks(nats, rate).mean(axis=-1)
  over = lambda x: x if x.ndim == 1 else x.mean(axis=1)
  nelbo = over(mean / rate)
  return Loss({'nelbo': nelbo, 'unweighted': over(2.0 * mean)}[weight], nelbo)


def nelbo_draw(
  key: Array, rows: Array, count: int, tokens: Array,
  logits_fn: Callable[[Array], Array], mask_id: int, block_length: int = 0,
) -> Array:
  """One unbiased draw of the NELBO of each row, t integrated out.

  Arguments as in `diffusion_loss`; the number of masked tokens is stratified
  over the rows and the blocks.

  Returns:
    (B,) float32 nats per token.
  """
  length = block_length or tokens.shape[1]
  time_key, row_key = jax.random.split(key)
  strata = _strata(rows, count, tokens, block_length)
  shifted = (jax.random.uniform(time_key) + strata / count) % 1.0
  number = jnp.minimum(1 + (shifted * length).astype(jnp.int32), length)
  keys = jax.vmap(lambda row: jax.random.fold_in(row_key, row))(rows)
  hidden, masked = hide_count(keys, tokens, number, mask_id)
  nats = jnp.where(masked, token_nats(logits_fn(hidden), tokens), 0.0)
  draw = _in_blocks(nats, number).sum(axis=-1) / number
  return draw if draw.ndim == 1 else draw.mean(axis=1)


def _strata(rows, count, tokens, block_length):
  """rows (B,) where there are no blocks, else (B, n): see `spread`."""
  if not block_length:
    return rows
  return spread(rows, count, tokens.shape[1] // block_length)


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
