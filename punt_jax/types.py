"""The nouns: what a canvas, a denoiser, a sampler and a result are made of.

Letters used in every docstring: B rows, L positions, V real tokens, D
features. Token ids are 0 .. V - 1; the id V is MASK and is not in the
vocabulary. Log-probabilities, entropies and divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
FEW = 8  # numbers that a repr shows


def short(nouns: NamedTuple) -> str:
  """A repr that fits a screen: shapes for arrays, values of small ones."""

  def say(x):
    if isinstance(x, tuple) and hasattr(x, '_fields'):
      return short(x)
    if not hasattr(x, 'dtype'):
      leaves = len(jax.tree.leaves(x))
      return f'<{leaves} leaves>' if leaves > 1 else repr(x)
    hidden = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    if x.size <= FEW and not hidden and not isinstance(x, jax.core.Tracer):
      return np.array2string(np.asarray(x), precision=4, separator=', ')
    return f'{x.dtype}[{", ".join(map(str, x.shape))}]'

  fields = zip(nouns._fields, nouns, strict=True)
  said = ', '.join(f'{name}={say(x)}' for name, x in fields)
  return f'{type(nouns).__name__}({said})'


class Canvas(NamedTuple):
  """What a sampler step is given to write on."""

  tokens: Array  # (B, L) int32 in [0, V]
  valid: Array  # (B, L) bool: not padding
  open: Array  # (B, L) bool: the sampler may write here in this step
  masked: Array  # (B, L) bool: open and still MASK
  total: Array  # (B,) int32: how many were masked when the run began; within
  # samplers.blocks, when the block began

  __repr__ = short


class Meter(NamedTuple):
  """What a run has cost so far."""

  nfe: Array  # (B,) int32 forward passes charged to the row
  depth: Array  # (B,) int32 questions asked one after another for the row
  positions: Array  # (B,) int32 positions computed for the row
  forwards: Array  # (1,) int32 forward passes this device ran, (devices,)
  # in Decoded: a pass over a batch counts once, idle rows included

  __repr__ = short


class Memo(NamedTuple):
  """What a model remembers between questions."""

  meter: Meter
  valid: Array  # (B, L) bool: not padding
  cache: Any = ()

  __repr__ = short


class Answer(NamedTuple):
  """What a model says about a canvas, before the readout."""

  features: Array  # (B, ..., L, D); for an oracle its logits, D = V
  extra: Any = ()  # (B, ..., K, L, L) attention of K layers, mean over heads,
  # each row of it (.., i, :) sums to 1; () if the model does not offer it

  __repr__ = short


class DraftDistribution(NamedTuple):
  """What drafts are drawn from, beside the raw one. None: a part is off."""

  temperature: Any = None  # scalar; 0 is argmax
  top_p: Any = None  # scalar in (0, 1]
  bias: Any = None  # (V,) added to the log-probabilities; -inf bans
  judged: bool = False  # scores and divergences read this distribution, not the
  # raw


class Denoiser(NamedTuple):
  """What a sampler sees of a model."""

  vocab: int  # V
  init: Callable  # (tokens (B, L), valid (B, L)) -> Memo
  ask: Callable  # (memo, tokens (B, ..., L), rows (B, ...) bool)
  # -> (memo, Answer); axes between B and L are probes; charges `rows`
  read: Callable  # features (..., D) -> log-probabilities (..., V) float32
  commit: Callable  # (memo, tokens (B, L), rows (B,) bool, open (B, L) bool)
  # -> memo: until the next commit these rows change at `open` alone (a KV
  # cache remembers the rest); charges `rows`; a model without one does nothing
  drafts: DraftDistribution = DraftDistribution()
  mask: int | None = None  # the network's own id of MASK, where that is not V:
  # on a canvas it is read as MASK, and it is never drafted
  in_order: Any = None  # (memo, tokens (B, L), rank (B, L) int32, rows (B,))
  # -> (memo, Answer): position i predicted from the tokens of lower rank
  # alone, all in one forward pass; None: the model cannot (most cannot)


class View(NamedTuple):
  """What a rule sees: one row, reduced over the vocabulary."""

  tokens: Array  # (L,) int32
  masked: Array  # (L,) bool
  open: Array  # (L,) bool
  position: Array  # (L,) int32: index among the valid positions
  drafts: Array  # (L,) int32: one token drawn per position
  draft_logp: Array  # (L,) log-probability under the distribution it was drawn
  # from
  draft_score: Array  # (L,) log-probability of the draft, as judged
  confidence: Array  # (L,) largest probability
  margin: Array  # (L,) largest minus second largest probability
  entropy: Array  # (L,) nats
  total: Array  # (): masked positions at the start (of the block), see Canvas
  step: Array  # (): steps since then
  extra: Any = ()  # (K, L, L) attention, see Answer; or ()
  features: Any = ()  # (L, D), see Answer

  __repr__ = short


class Move(NamedTuple):
  """What one step did."""

  tokens: Array  # (B, L) the canvas after the step; V remasks
  logp: Array  # (B, L) log-probability of what was written; 0 elsewhere
  done: Array  # (B,) bool
  info: Any = ()  # what happened; film and watch keep it, decode drops it

  __repr__ = short


class Traits(NamedTuple):
  """What a sampler promises, and what it needs."""

  exact: dict | None = None  # arguments under which it reproduces the model's
  # joint exactly at temperature 1; None: it never does
  needs: str | None = None  # of a model beyond log-probabilities: 'attention'
  # (Answer.extra) or 'in_order' (Denoiser.in_order)
  rewrites: bool = False  # log_q is not that of the finished tokens alone, even
  # if the model is sure of what it sees


class Sampler(NamedTuple):
  """A pair of pure functions; see punt_jax/sampler.py for the short way."""

  init: Callable  # (keys (B,), canvas, model) -> carry, leaves (B, ...)
  step: Callable  # (keys (B,), t (B,), canvas, carry, memo, model)
  # -> (Move, carry, memo)
  traits: Traits = Traits()


class Decoded(NamedTuple):
  """A finished run."""

  tokens: Array  # (B, L) int32
  log_q: Array  # (B,) sum of Move.logp, nats
  meter: Meter
  steps: Array  # (B,) int32
  when: Array  # (B, L) int32: step that last wrote the position, -1 if given
  done: Array  # (B,) bool; False: max_steps ran out

  __repr__ = short
