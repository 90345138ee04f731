"""How likely a model finds an answer, given what stands before it.

A masked diffusion model has no chain rule that one pass could follow, so the
number is a bound: the NELBO of punt_jax/corruption.py, with masks among the
answer's tokens alone and everything before them known. With n of them,

  -log p(answer | before) <= n E_{k ~ U{1..n}} E_{|M| = k} [
      1/k  sum_{i in M} -log p(token i | before, answer without M) ],

which is the conditional likelihood of LLaDA (Nie et al., 2025, arXiv
https://arxiv.org/abs/2502.09992, equation 6) in the form whose variance is low.
The draws of one answer have stratified k.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import readout, rows, sampler
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import prompts
from punt_jax.types import Array, Canvas, Denoiser


class Bound(NamedTuple):
  """Of one answer."""

  nats: float  # upper bound on -log p, in expectation over the draws
  error: float  # its standard error as if k were not stratified; 0 with one
  # draw


def scorer(
  settings: Any, loaded: Pretrained, draws: int
) -> Callable[..., Iterator[list[tuple[int, Bound]]]]:
  """score(list of (n,) ids, where answers start, row numbers).

  It yields lists of (row number, Bound) as they are finished. What an answer
  draws depends on the seed, its row number and its tokens, as in the generator.

  Args:
    settings: generator.Settings: its batch, bucket and seed.
    loaded: checkpoints.Pretrained.
    draws: masks per answer.
  """

  @jax.jit
  def nats(params, keys, number, turn, tokens, valid, answer):
    keys = rows.fold_rows(keys, number)
    shift = jax.vmap(jax.random.uniform)(keys)
    share = (shift + turn / draws) % 1.0
    keys = rows.fold_rows(keys, turn)
    return draw(
      loaded.denoiser(params), keys, share, tokens, valid, answer
    )

  def score(lines, starts, numbers):
    key = jax.random.key(settings.seed)
    pairs = [(i, turn) for i in range(len(lines)) for turn in range(draws)]
    size = lambda line: prompts.padded(settings, loaded, len(line))
    lengths = [size(lines[i]) for i, _ in pairs]
    found = {i: [] for i in range(len(lines))}
    for length, batch in prompts.batches(lengths, settings.batch):
      spare = [batch[0]] * (settings.batch - len(batch))
      i, turn = np.array([pairs[b] for b in batch + spare]).T
      tokens, valid = prompts.lay([lines[j] for j in i], len(i), length)
      start = [length - len(lines[j]) + starts[j] for j in i]
      answer = np.arange(length) >= np.array(start)[:, None]
      number = np.array([numbers[j] for j in i])
      part = nats(loaded.params, key, number, turn, tokens, valid, answer)
      for j, value in zip(i[: len(batch)], np.asarray(part), strict=False):
        found[j].append(float(value))
      ready = [j for j in found if len(found[j]) == draws]
      yield [(numbers[j], bound(found.pop(j))) for j in ready]

  return score


def bound(values: Sequence[float]) -> Bound:
  """The Bound from the draws (n,) of one answer."""
  error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
  return Bound(float(np.mean(values)), float(error))


def draw(
  model: Denoiser, keys: Array, share: Array, tokens: Array, valid: Array,
  answer: Array,
) -> Array:
  """One unbiased draw of the bound of each row, nats (B,).

  Args:
    model: Denoiser.
    keys: (B,).
    share: (B,) uniform in [0, 1): how many tokens are masked.
    tokens: (B, L) int32 in [0, V).
    valid: (B, L) bool: not padding.
    answer: (B, L) bool: whose likelihood is wanted.
  """
  answer = answer & valid
  many = answer.sum(-1)
  count = jnp.minimum(1 + (share * many).astype(jnp.int32), many)
  position = sampler.position_of(Canvas(tokens, valid, valid, answer, many))
  noise = jax.vmap(rows.uniform_at)(keys, position)
  rank = jnp.argsort(jnp.argsort(jnp.where(answer, noise, 2.0)))
  hidden = answer & (rank < count[:, None])
  shown = jnp.where(hidden, model.vocab, tokens)
  asked = hidden.any(-1)
  _, said = model.ask(model.init(shown, valid), shown, asked)
  logp = readout.log_prob(model, said.features, tokens, hidden)
  return -logp.sum(-1) * many / jnp.maximum(count, 1)
