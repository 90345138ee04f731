"""The nouns: what a canvas, a denoiser, a sampler and a result are made of.

Letters used in every docstring: B rows, L positions, V real tokens, D
features. Token ids are 0 .. V - 1; the id V is MASK and is not in the
vocabulary. Log-probabilities, entropies and divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike as ArrayLike  # arrays, and lists of numbers

from punt_jax.files import FilePath as FilePath

Array = jax.Array
Scalar = Array | np.number | float  # one number, traced or not
Tree = Any  # a pytree of arrays
Device = Any  # jax.Device, which type checkers take for a variable
Messages = Sequence[dict[str, str]]  # [{'role': .., 'content': ..}, ..]
Result = TypeVar('Result', covariant=True)  # of a run: Decoded, or with moves
FEW = 8  # numbers that a repr shows
FAR = 2**30  # the position of padding: no query reaches it


def short(self: Any) -> str:
  """A repr that fits a screen: shapes for arrays, values of small ones."""

  def say(x):
    if hasattr(x, '_fields'):
      return short(x)
    if not hasattr(x, 'dtype'):
      leaves = len(jax.tree.leaves(x))
      return f'<{leaves} leaves>' if leaves > 1 else repr(x)
    hidden = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    if x.size <= FEW and not hidden and not isinstance(x, Tracer):
      return np.array2string(np.asarray(x), precision=4, separator=', ')
    return f'{x.dtype}[{", ".join(map(str, x.shape))}]'

  fields = zip(self._fields, self, strict=True)
  said = ', '.join(f'{name}={say(x)}' for name, x in fields)
  return f'{type(self).__name__}({said})'


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
  cache: Tree = ()

  __repr__ = short


class Answer(NamedTuple):
  """What a model says about a canvas, before the readout."""

  features: Array  # (B, ..., L, D); for an oracle its logits, D = V
  extra: Array | tuple[()] = ()  # (B, ..., K, L, L) attention of K layers, mean
  # over heads, each row of it (.., i, :) sums to 1; () if the model does not
  # offer it

  __repr__ = short


class DraftDistribution(NamedTuple):
  """What drafts are drawn from, beside the raw one. None: a part is off."""

  temperature: Scalar | None = None  # 0 is argmax
  top_p: Scalar | None = None  # in (0, 1]
  bias: Array | None = None  # (V,) added to the log-probabilities; -inf bans
  judged: bool = False  # scores and divergences read this distribution, not the
  # raw


class Windows(NamedTuple):
  """How a model that is causal over blocks is asked about one block.

  Positions are counted in the row, 0 is the first that is not padding.
  """

  length: int  # of a block
  anchored: bool  # whether blocks are counted from the first MASK of the run,
  # not from position 0
  fill: FillFn  # (memo, tokens, start, rows) -> memo
  ask: WindowAskFn  # (memo, tokens, start, rows) -> (memo, Answer)


class Denoiser(NamedTuple):
  """What a sampler sees of a model."""

  vocab: int  # V
  init: InitFn  # (tokens, valid) -> Memo
  ask: AskFn  # (memo, tokens, rows) -> (memo, Answer)
  read: ReadFn  # features -> log-probabilities
  commit: CommitFn  # (memo, tokens, rows, open) -> memo
  drafts: DraftDistribution = DraftDistribution()
  mask: int | None = None  # the network's own id of MASK, where that is not V:
  # on a canvas it is read as MASK, and it is never drafted
  in_order: InOrderFn | None = None  # None: the model cannot (most cannot)
  windows: Windows | None = None  # None: every position sees all others
  beside: BesideFn | None = None  # of a model that samplers.blocks has narrowed
  # to a block: narrows a second model to the same block


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
  extra: Array | tuple[()] = ()  # (K, L, L) attention, see Answer; or ()
  features: Array | tuple[()] = ()  # (L, D), see Answer

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

  exact: dict[str, Any] | None = None  # arguments under which it reproduces
  # the model's joint exactly at temperature 1; None: it never does
  needs: str | None = None  # of a model beyond log-probabilities: 'attention'
  # (Answer.extra) or 'in_order' (Denoiser.in_order)
  rewrites: bool = False  # log_q is not that of the finished tokens alone, even
  # if the model is sure of what it sees


class Sampler(NamedTuple):
  """A pair of pure functions; see punt_jax/sampler.py for the short way."""

  init: SamplerInitFn  # (keys, canvas, model) -> carry
  step: SamplerStepFn  # (keys, t, canvas, carry, memo, model)
  # -> (Move, carry, memo)
  traits: Traits = Traits()
  settled: SettledFn | None = None  # (canvas, carry) -> (B, L) bool. None:
  # nothing is before the row is done


class Decoded(NamedTuple):
  """A finished run."""

  tokens: Array  # (B, L) int32
  log_q: Array  # (B,) sum of Move.logp, nats; not finite where fault >= 0
  meter: Meter
  steps: Array  # (B,) int32
  when: Array  # (B, L) int32: step that last wrote the position, -1 if given
  done: Array  # (B,) bool; False: max_steps ran out
  fault: Array  # (B,) int32: the first step whose log-probability was no finite
  # number, -1 if all were; +inf: nothing was chosen to be written

  __repr__ = short



# Protocols: the functions that the nouns hold, and those that a user passes.


class InitFn(Protocol):
  """Denoiser.init: tokens (B, L) and valid (B, L) of a run that begins."""

  def __call__(self, tokens: Array, valid: Array, /) -> Memo: ...


class AskFn(Protocol):
  """Denoiser.ask: one question, tokens (B, ..., L).

  Axes between B and L are probes. Charges rows (B, ...) bool.
  """

  def __call__(
    self, memo: Memo, tokens: Array, rows: Array, /
  ) -> tuple[Memo, Answer]: ...


class ReadFn(Protocol):
  """Denoiser.read: features (..., D) to log-probabilities (..., V) float32."""

  def __call__(self, features: Tree, /) -> Array: ...


class CommitFn(Protocol):
  """Denoiser.commit: until the next one these rows change at `open_` alone.

  tokens (B, L), rows (B,) bool, open_ (B, L) bool. A KV cache remembers the
  rest, and charges `rows`; a model without one does nothing.
  """

  def __call__(
    self, memo: Memo, tokens: Array, rows: Array, open_: Array, /
  ) -> Memo: ...


class FillFn(Protocol):
  """Windows.fill: from now on all positions before `start` are remembered.

  tokens (B, L), start (B,) int32, the first position of a block, rows (B,)
  bool: the others keep what they have. Charges every forward pass it takes,
  none where nothing is new.
  """

  def __call__(
    self, memo: Memo, tokens: Array, start: Array, rows: Array, /
  ) -> Memo: ...


class WindowAskFn(Protocol):
  """Windows.ask: one question about the block from `start`, (B, ..., W, D).

  tokens (B, ..., W), start (B,) int32. Axes between B and W are probes.
  Charges rows (B, ...) bool, W positions a pass. Reads what `fill` remembers.
  """

  def __call__(
    self, memo: Memo, tokens: Array, start: Array, rows: Array, /
  ) -> tuple[Memo, Answer]: ...


class BesideFn(Protocol):
  """Denoiser.beside: another model, narrowed to the same block."""

  def __call__(self, other: Denoiser, /) -> Denoiser: ...


class WindowFn(Protocol):
  """A network about W positions of N = B P rows, given what is remembered.

  Args:
    past: keys and values of S slots, leaves (layers, B, S, ...); row b of it
      serves rows b P .. b P + P - 1. None: there is none.
    past_position: (B, S) int32, the position of each slot.
    past_reach: (N,) int32: a slot is seen if its position is at most this.
    tokens, position: (N, W) int32; FAR is the position of padding.
    reach: (N, W) int32: a key among the W is seen by a query if its position is
      at most this; None: all but padding are.

  Returns:
    features (N, W, D), and keys and values, leaves (layers, N, W, ...).
  """

  def __call__(
    self, past: Tree, past_position: Array | None, past_reach: Array | None,
    tokens: Array, position: Array, reach: Array | None, /
  ) -> tuple[Array, Tree]: ...


class InOrderFn(Protocol):
  """Denoiser.in_order: predicts each position from those of lower rank alone.

  tokens (B, L), rank (B, L) int32, rows (B,) bool. All in one forward pass.
  """

  def __call__(
    self, memo: Memo, tokens: Array, rank: Array, rows: Array, /
  ) -> tuple[Memo, Answer]: ...


class LogitsFn(Protocol):
  """A network: tokens (N, L) int32 and valid (N, L) bool to (N, L, V)."""

  def __call__(self, tokens: Array, valid: Array, /) -> Array: ...


class FeaturesFn(Protocol):
  """A network without its head: (N, L, D), or with Answer.extra a pair."""

  def __call__(
    self, tokens: Array, valid: Array, /
  ) -> Array | tuple[Array, Array]: ...


class HeadFn(Protocol):
  """The head of a network: features (..., D) to logits (..., V)."""

  def __call__(self, features: Array, /) -> Array: ...


class SamplerInitFn(Protocol):
  """Sampler.init: keys (B,) to a carry with leaves (B, ...)."""

  def __call__(self, keys: Array, canvas: Canvas, model: Denoiser, /) -> Tree:
    ...


class SamplerStepFn(Protocol):
  """Sampler.step: one step of every row; keys (B,), t (B,) steps so far."""

  def __call__(
    self, keys: Array, t: Array, canvas: Canvas, carry: Tree, memo: Memo,
    model: Denoiser, /,
  ) -> tuple[Move, Tree, Memo]: ...


class SettledFn(Protocol):
  """Sampler.settled: (B, L) bool, what no further step will change.

  Of the open positions, as the carry says between two steps.
  """

  def __call__(self, canvas: Canvas, carry: Tree, /) -> Array: ...


class RuleFn(Protocol):
  """Which positions of a row are written: (L,) bool."""

  def __call__(self, key: Array, view: View, /) -> Array: ...


class ScoreFn(Protocol):
  """An order of a row's positions: (L,), larger is written earlier."""

  def __call__(self, view: View, /) -> Array: ...


class InfluenceFn(Protocol):
  """How far writing position i moves the prediction at j: (L, L) nats."""

  def __call__(self, view: View, /) -> Array: ...


class PolicyFn(Protocol):
  """A learned rule: logits (L,), `left` () steps left, this one included."""

  def __call__(self, view: View, left: Array, /) -> Array: ...


class CountFn(Protocol):
  """A count schedule: how many positions a step writes.

  Of the steps since the start (of the block), the positions masked then, and
  those masked now.
  """

  def __call__(self, step: Any, total: Any, left: Any, /) -> Scalar: ...


class EpsilonFn(Protocol):
  """A schedule of PUNT's epsilon by the share (B,) that is still masked."""

  def __call__(self, share: Array, /) -> Array: ...


class PathFn(Protocol):
  """The share of masked positions, 1 - alpha, at times t in [0, 1]."""

  def __call__(self, t: Array, /) -> Array: ...


class BuildFn(Protocol):
  """What compile, step and watch run under jit: a model and a sampler."""

  def __call__(
    self, params: Tree, hyperparams: Tree, /
  ) -> tuple[Denoiser, Sampler]: ...


class RunFn(Protocol[Result]):
  """Decoding of what `build` makes, its arguments as in `sample`."""

  def __call__(
    self, params: Tree, hyperparams: Tree, key: Array | int, tokens: ArrayLike,
    given: ArrayLike | None = None, valid: ArrayLike | None = None,
    rows: ArrayLike | None = None,
  ) -> Result: ...


class CompiledFn(RunFn[Result], Protocol[Result]):
  """What `compile` gives."""

  lower: Callable[..., Any]  # as jax.jit's, of (params, hyperparams, key, row
  # numbers, tokens, given, valid)


class RatesFn(Protocol):
  """What `leap` does in a row as time goes from t () to s < t.

  Probabilities, () or (L,), that a masked position is written, and that a
  committed one is remasked.
  """

  def __call__(
    self, t: Array, s: Array, sure: Array, committed: Array, /
  ) -> tuple[Scalar, Scalar]: ...


class PotentialFn(Protocol):
  """What a step adds to the weights of N particles: (N,) nats."""

  def __call__(self, canvas: Canvas, move: Move, /) -> Array: ...
