"""How good samples are, as far as the model that wrote them can tell.

Two numbers that belong together. The score of a text is the model's own bound
on its information (the NELBO of punt_jax/corruption.py); text that repeats
itself scores low, so the share of distinct 4-grams stands beside it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import corruption
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import likelihood
from punt_jax.rows import fold_rows


def scorer(
  loaded: Pretrained, draws: int, seed: int
) -> Callable[[np.ndarray], tuple[float, float]]:
  """score(tokens (B, L)) -> (bits per token, standard error).

  Every text is scored with the same random masks. The error is that of the
  mean over the rows, masks included; NaN for one row.

  Args:
    loaded: a pretrained model.
    draws: masks per row.
    seed: of the masks.
  """

  @jax.jit
  def draw(params, key, tokens):
    model = loaded.denoiser(params)
    whole = jnp.ones(tokens.shape, bool)
    count, length = tokens.shape
    rows = jnp.arange(count)
    if model.windows is not None:
      keys = fold_rows(key, rows)
      share = (jax.random.uniform(key) + rows / count) % 1.0
      nats = likelihood.draw(model, keys, share, tokens, whole, whole)
      return nats / length

    def log_probs(hidden):
      memo = model.init(hidden, whole)
      return model.read(model.ask(memo, hidden, whole[:, 0])[1].features)

    return corruption.nelbo_draw(
      key, rows, count, tokens, log_probs, model.vocab
    )

  def score(tokens):
    keys = jax.random.split(jax.random.key(seed), draws)
    nats = np.mean([draw(loaded.params, key, tokens) for key in keys], 0)
    bits, rows = nats / math.log(2), len(nats)
    error = bits.std(ddof=1) / math.sqrt(rows) if rows > 1 else math.nan
    return float(bits.mean()), float(error)

  return score


def distinct(tokens: np.ndarray, n: int = 4) -> float:
  """Distinct n-grams as a share of all n-grams of tokens (B, L), n <= L."""
  n = min(n, tokens.shape[1])
  grams = np.lib.stride_tricks.sliding_window_view(tokens, n, axis=1)
  grams = grams.reshape(-1, n)
  return len(np.unique(grams, axis=0)) / len(grams)
