"""Is the mask id the right one, and are outputs shifted or not?

A wrong mask id in config.json, or a family that is not what the file says,
raises no error: texts are merely bad. So a sentence that the model knows is
scored (the masked-diffusion bound on -log p, with the same masks every time)
under the model's own mask and shift, and under wrong ones, which must lose.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from punt_jax import rows
from punt_jax.generation import likelihood
from punt_jax.models.layout import Layout
from punt_jax.types import Array, Denoiser, Tree
from punt_jax.viz import table

SENTENCE = 'To be, or not to be, that is the question:'
MOST = 8  # masks that are tried


class Trial(NamedTuple):
  """How a sentence scores under one mask and shift."""

  mask: int
  name: str  # of the mask
  shifted: bool
  own: bool  # whether the model says so itself
  nats: np.ndarray  # (draws,) per token
  blocks: int | None = None  # their length; 0: there are none. None: not asked


def candidates(
  plan: Layout, tokens: Mapping[str, int], used: Collection[int]
) -> dict[int, str]:
  """{id: name} of the masks to try, the model's own first.

  Args:
    plan: Layout.
    tokens: {name: id} of the special tokens that are known.
    used: ids that the sentence holds.
  """
  names = {i: name for name, i in tokens.items()}
  likely = sorted(names, key=lambda i: ('mask' not in names[i].lower(), i))
  rest = [plan.vocab - 1, plan.vocab - 2, 0, 1]
  found = [plan.mask, *likely, *(i for i in rest if i not in names)]
  low = min(plan.module.vocab, plan.vocab + 1)
  fine = [i for i in dict.fromkeys(found) if 0 <= i < low or i == plan.mask]
  fine = [i for i in fine if i not in used or i == plan.mask]
  return {i: names.get(i, '') for i in fine[:MOST]}


def denoiser(
  plan: Layout, params: Tree, mask: Array | int, shifted: Array | bool
) -> Denoiser:
  """As huggingface.denoiser without padding; mask and shift may be traced."""
  apply = lambda method, *arrays: plan.module.apply(
    {'params': params}, *arrays, method=method
  )

  def features(tokens, valid):
    found = apply('features', jnp.where(tokens == plan.vocab, mask, tokens))
    moved = jnp.concatenate([found[:, :1], found[:, :-1]], 1)
    return jnp.where(shifted, moved, found)

  def head(features):
    logits = apply('head', features)
    return jnp.where(jnp.arange(logits.shape[-1]) == mask, -jnp.inf, logits)

  return punt_jax.from_features(features, head, plan.vocab)


def trials(
  plan: Layout, params: Tree, ids: np.ndarray, tokens: Mapping[str, int],
  draws: int = 8,
) -> list[Trial]:
  """[Trial, ...], the best first.

  Args:
    plan: Layout.
    params: tree.
    ids: (n,) of the sentence.
    tokens: {name: id} of the special tokens that are known.
    draws: masks of the sentence, the same for each Trial.
  """
  tokens_in = jnp.asarray(np.tile(ids, (draws, 1)))
  whole = jnp.ones(tokens_in.shape, bool)
  keys = rows.fold_rows(jax.random.key(0), jnp.arange(draws))
  share = (jnp.arange(draws) + 0.5) / draws

  @jax.jit
  def score(params, mask, shifted):
    model = denoiser(plan, params, mask, shifted)
    nats = likelihood.draw(model, keys, share, tokens_in, whole, whole)
    return nats / len(ids)

  found = [
    Trial(
      mask, name, shifted, (mask, shifted) == (plan.mask, plan.shifted),
      np.asarray(score(params, mask, shifted), np.float64),
    )
    for mask, name in candidates(plan, tokens, set(ids.tolist())).items()
    for shifted in (plan.shifted, not plan.shifted)
  ]
  return sorted(found, key=lambda trial: trial.nats.mean())


def verdict(found: Sequence[Trial], vocab: int) -> str:
  """A sentence: whether the model's own mask, shift and blocks win.

  Another one wins if it is better by two standard errors of the difference.
  """
  own = next(trial for trial in found if trial.own)
  chance = np.log(vocab)
  if found[0].nats.mean() > 0.9 * chance:
    return (
      f'nothing is much better than chance, {chance:.2f} nats per token: the'
      ' weights are not trained, or not on such a text'
    )
  better = []
  for trial in found:
    gain = own.nats - trial.nats
    if gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain)) + 0.01:
      better.append(trial)
  if better:
    best = better[0]
    wrong = [f'mask id {best.mask} {best.name}'] * (best.mask != own.mask)
    said = 'shifted' if best.shifted else 'not shifted'
    wrong += [f'outputs that are {said}'] * (best.shifted != own.shifted)
    if best.blocks != own.blocks:
      some = f'blocks of {best.blocks} positions'
      wrong.append(some if best.blocks else 'attention without blocks')
    return (
      f'WARNING: {" and ".join(x.strip() for x in wrong)} would fit better,'
      f' {best.nats.mean():.2f} nats per token in place of'
      f' {own.nats.mean():.2f}: look at mask_token_id'
      f'{", block_length" * (own.blocks is not None)} and model_type in'
      ' config.json'
    )
  what = 'mask and shift' if own.blocks is None else 'mask, shift and blocks'
  return f"the model's own {what} are the best"


def shown(found: Sequence[Trial]) -> str:
  """The table of trials."""
  blocks = found[0].blocks is not None
  heads = 'mask', 'id', 'outputs', *['blocks'] * blocks, 'nats per token', ''
  return table.table(heads, [
    (
      trial.name or '-', str(trial.mask),
      'shifted' if trial.shifted else 'in place',
      *[str(trial.blocks or 'none')] * blocks,
      f'{trial.nats.mean():.3f}', "the model's own" if trial.own else '',
    ) for trial in found
  ])
