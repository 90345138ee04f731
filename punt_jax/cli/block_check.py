"""Are the blocks as long as config.json says? mask_check for block models.

Bounds on a text are no judge of that: of any model they fall with the length of
blocks. So all settings are asked the same: a token, given the text before it
and nothing behind it but masks. They differ in which masks are seen, and in
what the text before has seen of itself; those of the training must win.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax.cli.mask_check import Trial, candidates
from punt_jax.models.layout import Layout
from punt_jax.types import FAR, Array, Tree

PASSAGE = (
  "To be, or not to be, that is the question: Whether 'tis nobler in the mind"
  ' to suffer The slings and arrows of outrageous fortune, Or to take arms'
  ' against a sea of troubles And by opposing end them. To die, to sleep, No'
  ' more; and by a sleep to say we end The heart-ache and the thousand natural'
  ' shocks That flesh is heir to: '
)
ROWS = 32  # that are computed at a time


def lengths(own: int) -> list[int]:
  """Block lengths to compare with a model's own; 0: no blocks."""
  several = {own // 4, own // 2, 2 * own, 4 * own} - {0}
  return [*sorted(several), 0]


def features(plan: Layout, params: Tree, tokens: Array, cuts: Array,
             blocks: int) -> Array:
  """(N, L, D) of canvases whose text ends before `cuts` (N,)."""
  module: Any = plan.module
  how: dict[str, Any] = dict(block_length=blocks)
  if hasattr(module, 'attention'):
    how['attention'] = 'block_causal' if blocks else 'full'
  apply = lambda *arrays, method: module.clone(**how).apply(
    {'params': params}, *arrays, method=method
  )
  if not blocks:
    return apply(tokens, method='features')
  place = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  cut = cuts[:, None]
  rest = cut % blocks if getattr(module, 'anchored', False) else 0 * cut
  block = (place - rest) // blocks
  reach = rest + (block + 1) * blocks - 1
  if getattr(module, 'causal', False):
    reach = jnp.where(block < (cut - rest) // blocks, place, reach)
  reach = jnp.minimum(reach, FAR - 1)
  return apply(None, None, None, tokens, place, reach, method='window')[0]


def trials(
  plan: Layout, params: Tree, ids: np.ndarray, tokens: Mapping[str, int],
  draws: int = 1024,
) -> list[Trial]:
  """[Trial, ...], the best first; arguments as of mask_check.trials.

  `draws` are places in the text, at random.
  """
  own = plan.module.block_length
  length = min(len(ids), plan.length, 4 * own + 32)
  if length < 2:
    raise ValueError('--text has fewer than two tokens: give a longer one')
  random = np.random.default_rng(0)
  draws = -(-draws // ROWS) * ROWS
  first = random.integers(0, len(ids) - length + 1, draws)
  cuts = random.integers(1, length, draws)
  lines = ids[first[:, None] + np.arange(length)]
  given = np.where(np.arange(length) < cuts[:, None], lines, -1)
  truth = lines[np.arange(draws), cuts]
  batches = [
    jnp.asarray(x.reshape(-1, ROWS, *x.shape[1:])) for x in (given, cuts, truth)
  ]

  def score(params, mask, shifted, blocks):

    def some(batch):
      given, cuts, truth = batch
      shown = jnp.where(given < 0, mask, given)
      found = features(plan, params, shown, cuts, blocks)
      at = cuts - shifted
      found = jnp.take_along_axis(found, at[:, None, None], 1)[:, 0]
      logits = plan.module.apply({'params': params}, found, method='head')
      logits = logits[..., : plan.vocab].astype(jnp.float32)
      known = jnp.arange(plan.vocab) != mask
      logp = jax.nn.log_softmax(jnp.where(known, logits, -jnp.inf))
      return -jnp.take_along_axis(logp, truth[:, None], 1)[:, 0]

    return jax.lax.map(some, tuple(batches)).ravel()

  run = jax.jit(score, static_argnums=3)
  masks = candidates(plan, tokens, set(ids.tolist()))
  name = masks[plan.mask]
  settings = [
    *((mask, masks[mask], plan.shifted, own) for mask in masks),
    (plan.mask, name, not plan.shifted, own),
    *((plan.mask, name, plan.shifted, blocks) for blocks in lengths(own)),
  ]
  found = [
    Trial(
      mask, name, shifted,
      (mask, shifted, blocks) == (plan.mask, plan.shifted, own),
      np.asarray(run(params, mask, int(shifted), blocks), np.float64), blocks,
    ) for mask, name, shifted, blocks in settings
  ]
  return sorted(found, key=lambda trial: trial.nats.mean())
