"""How likely a model finds an answer, given what stands before it.

A masked diffusion model has no chain rule that one pass could follow, so the
number is a bound: the NELBO of punt_jax/corruption.py, with masks among the
answer's tokens alone and everything before them known. With n of them,

  -log p(answer | before) <= n E_{k ~ U{1..n}} E_{|M| = k} [
      1/k  sum_{i in M} -log p(token i | before, answer without M) ],

which is the conditional likelihood of LLaDA (Nie et al., 2025, arXiv
https://arxiv.org/abs/2502.09992, equation 6) in the form whose variance is low.
The draws of one answer have stratified k.

A model that is causal over blocks (BD3-LM, https://arxiv.org/abs/2503.09573) is
asked block by block, given the true tokens of all blocks before: the sum over
blocks of that bound with n the answer's tokens in the block. With its KV cache
that computes every position twice, once as it is and, of the answer, once
masked.

Whether an answer is the greedy one is asked of the model's own argmax: with as
many masks behind the text, the surest of them written, one a pass.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import api, places, readout, rows, sampler, samplers
from punt_jax import denoiser as wrappers
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import generator, prompts
from punt_jax.types import FAR, Array, Canvas, Denoiser, Sampler

GOLDEN = 0.6180339887  # how far apart the shares of two blocks are


class Bound(NamedTuple):
  """Of one answer."""

  nats: float  # upper bound on -log p, in expectation over the draws
  error: float  # its standard error as if k were not stratified; 0 with one
  # draw


class Greedy(NamedTuple):
  """Of one answer."""

  same: bool  # whether greedy decoding writes it
  passes: int  # what it took to know: it ends at the first token that differs


def scorer(
  settings: Any, loaded: Pretrained, draws: int
) -> Callable[..., Iterator[list[tuple[int, Bound]]]]:
  """score(list of (n,) ids, where answers start, row numbers).

  It yields lists of (row number, Bound) as they are finished. What an answer
  draws depends on the seed, its row number and its tokens, as in the generator.
  A ValueError names the first row whose likelihood is not finite. An answer of
  no tokens has 0 nats.

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
      denoiser(loaded, params), keys, share, tokens, valid, answer
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
      laid = lay(lines, starts, i, len(i), length)
      number = np.array([numbers[j] for j in i])
      part = nats(loaded.params, key, number, turn, *laid)
      for j, value in zip(i[: len(batch)], np.asarray(part), strict=False):
        if not np.isfinite(value):
          raise ValueError(
            f'the log-probability of the answer in row {numbers[j]} is'
            f' {-value}: the logits of the model are not finite there'
          )
        found[j].append(float(value))
      ready = [j for j in found if len(found[j]) == draws]
      yield [(numbers[j], bound(found.pop(j))) for j in ready]

  return score


def lay(
  lines: Sequence[np.ndarray], starts: Sequence[int], which: Iterable[int],
  count: int, length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Some of the lines -> tokens, valid, answer (count, length).

  As in prompts.lay; missing rows have no answer.
  """
  which = list(which)
  tokens, valid = prompts.lay([lines[i] for i in which], count, length)
  answer = np.zeros_like(valid)
  for r, i in enumerate(which):
    answer[r, length - len(lines[i]) + starts[i] :] = True
  return tokens, valid, answer


def denoiser(loaded: Pretrained, params: Any) -> Denoiser:
  """The model given that ids without a token do not occur."""
  model, text = loaded.denoiser(params), getattr(loaded, 'text', None)
  if text is None or not text.unused:
    return model
  return generator.without(model, text.unused)


def judge(
  settings: Any, loaded: Pretrained
) -> Callable[..., Iterator[list[tuple[int, Greedy]]]]:
  """Like `scorer`, (row number, Greedy): nothing is drawn."""

  @jax.jit
  def written(params, tokens, valid, answer):
    model = wrappers.temper(denoiser(loaded, params), 0.0)
    shown = jnp.where(answer, model.vocab, tokens)
    inner = samplers.top_k(1, 'draft')
    if model.windows is not None:
      inner = samplers.blocks(inner, model.windows.length, aligned=True)
    one_by_one = until_wrong(inner, tokens)
    out = api.sample(0, model, one_by_one, shown, valid=valid)
    return ((out.tokens == tokens) | ~answer).all(-1), out.meter.nfe

  def judged(lines, starts, numbers):
    lengths = [prompts.padded(settings, loaded, len(line)) for line in lines]
    for length, batch in prompts.batches(lengths, settings.batch):
      laid = lay(lines, starts, batch, settings.batch, length)
      out = map(np.asarray, written(loaded.params, *laid))
      yield [
        (numbers[i], Greedy(bool(same), int(passes)))
        for i, same, passes in zip(batch, *out, strict=False)
      ]

  return judged


def until_wrong(inner: Sampler, wanted: Array) -> Sampler:
  """Ends a row when it has written another token than `wanted` (B, L)."""

  def step(keys, t, canvas, carry, memo, model):
    move, carry, memo = inner.step(keys, t, canvas, carry, memo, model)
    whole = move.tokens != model.vocab
    wrong = canvas.open & whole & (move.tokens != wanted)
    return move._replace(done=move.done | wrong.any(-1)), carry, memo

  return Sampler(inner.init, step, inner.traits._replace(exact=None))


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
  if model.windows is not None:
    return _draw_blocks(model, keys, share, tokens, valid, answer)
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


def _draw_blocks(model, keys, share, tokens, valid, answer):
  """`draw` of a model that is causal over blocks: the sum over its blocks."""
  windows, length = model.windows, model.windows.length
  position = places.positions(valid)
  last = jnp.where(answer, position, -1).max(-1)
  first = jnp.where(last < 0, 0, jnp.where(answer, position, FAR).min(-1))
  rest = first % length if windows.anchored else jnp.zeros_like(first)
  # Anchored blocks begin where the answer does.
  memo = model.init(jnp.where(answer, model.vocab, tokens), valid)
  noise = jax.vmap(rows.uniform_at)(keys, position)

  def block(state):
    number, start, memo, nats = state
    memo = windows.fill(memo, tokens, start, start <= last)
    index = places.indices(valid, start, length)
    truth, wanted = places.take(tokens, index), places.take(answer, index)
    many = wanted.sum(-1)
    part = (share + GOLDEN * number) % 1.0
    count = jnp.minimum(1 + (part * many).astype(jnp.int32), many)
    order = jnp.where(wanted, places.take(noise, index), 2.0)
    hidden = wanted & (jnp.argsort(jnp.argsort(order)) < count[:, None])
    shown = jnp.where(hidden, model.vocab, truth)
    memo, said = windows.ask(memo, shown, start, hidden.any(-1))
    logp = readout.log_prob(model, said.features, truth, hidden)
    nats -= logp.sum(-1) * many / jnp.maximum(count, 1)
    return number + 1, start + length, memo, nats

  start = (first - rest) // length * length + rest
  state = jnp.zeros((), jnp.int32), start, memo, jnp.zeros(len(tokens))
  return jax.lax.while_loop(
    lambda state: (state[1] <= last).any(), block, state
  )[-1]
