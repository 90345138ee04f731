"""From a rule about one row to a sampler. One forward pass per step."""

from typing import Any

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, readout, rows, select
from punt_jax.types import (
  Answer,
  Array,
  Canvas,
  Denoiser,
  Memo,
  Move,
  RuleFn,
  Sampler,
  Scalar,
  Traits,
  View,
)


def from_rule(
  rule: RuleFn, exact: dict[str, Any] | None = None, needs: str | None = None
) -> Sampler:
  """A sampler that writes the drafts of the positions a rule chooses.

  Args:
    rule: (key, View) -> (L,) bool, for one row; at least one masked position
      must be chosen, or the row makes no progress and its log_q is +inf; others
      are ignored.
    exact, needs: see Traits.

  Raises:
    ValueError: while it is traced, if the rule returns anything else.
  """

  checks.function('rule', rule)

  def checked(key, view):
    chosen = rule(key, view)
    what = f'the rule {contract.name_of(rule)}'
    return contract.array(what, chosen, view.masked.shape, jnp.bool_)

  def step(keys, t, canvas, carry, memo, model):
    memo, _, view = look(keys, t, canvas, memo, model)
    kept = jax.vmap(checked)(rows.named(keys, 'rule'), view) & canvas.masked
    return reveal(canvas, view, kept), carry, memo

  return Sampler(no_carry, step, Traits(exact, needs))


def no_carry(keys: Array, canvas: Canvas, model: Denoiser) -> tuple[()]:
  """The init of a sampler that remembers nothing between steps."""
  del keys, canvas, model
  return ()


def look(
  keys: Array, t: Array, canvas: Canvas, memo: Memo, model: Denoiser
) -> tuple[Memo, Answer, View]:
  """Asks once and reads what is masked -> (memo, Answer, View of B rows)."""
  memo, answer = model.ask(memo, canvas.tokens, canvas.masked.any(-1))
  return memo, answer, read(keys, t, canvas, answer, model)


def read(
  keys: Array, t: Array, canvas: Canvas, answer: Answer, model: Denoiser
) -> View:
  """What an Answer about the canvas says of its masked positions, B rows."""
  position = position_of(canvas)
  uniforms = jax.vmap(rows.uniform_at)(rows.named(keys, 'drafts'), position)
  said = readout.summarize(model, answer.features, canvas.masked, uniforms)
  view = View(
    tokens=canvas.tokens,
    masked=canvas.masked,
    open=canvas.open,
    position=position,
    total=canvas.total,
    step=t,
    extra=answer.extra,
    features=answer.features,
    **said._asdict(),
  )
  return spoiled(view, jnp.isnan(view.draft_logp).any(-1))


def spoiled(view: View, bad: Array) -> View:
  """The View of B rows with NaN for log-probability in the `bad` ones (B,).

  For a NaN that a choice was made by, so that log_q tells whoever wrote what.
  """
  bad = bad.reshape(bad.shape[:1] + (-1,)).any(-1, keepdims=True)
  return view._replace(draft_logp=jnp.where(bad, jnp.nan, view.draft_logp))


def probe(
  canvas: Canvas, view: View, base: Answer, shown: Array, tests: Array,
  memo: Memo, model: Denoiser, divergence: str = 'kl',
) -> tuple[Memo, Array]:
  """Shows drafts and asks again -> (memo, how far each test moved (B, L)).

  A row without tests is not charged; if no row has any, nothing is asked.

  Args:
    canvas: Canvas.
    view: View of B rows, from `look`.
    base: the Answer that `look` gave.
    shown: (B, L) bool: where drafts are written for this question.
    tests: (B, L) bool: whose predictions are compared with `base`.
    memo: Memo.
    model: Denoiser.
    divergence: see readout.divergence; 0 where not tested.
  """

  def ask(meter):
    tokens = jnp.where(shown, view.drafts, canvas.tokens)
    told, after = model.ask(memo._replace(meter=meter), tokens, tests.any(-1))
    return told.meter, readout.divergence(
      model, base.features, after.features, tests, divergence
    )

  nothing = lambda meter: (meter, jnp.zeros(tests.shape, jnp.float32))
  meter, moved = jax.lax.cond(tests.any(), ask, nothing, memo.meter)
  return memo._replace(meter=meter), moved


def position_of(canvas: Canvas) -> Array:
  """(B, L) int32: index among the valid positions, whatever the padding."""
  return jnp.cumsum(canvas.valid, -1, dtype=jnp.int32) - 1


def any_of(key: Array, position: Array, masked: Array, count: Scalar) -> Array:
  """(L,) bool: `count` of the masked positions, all subsets as likely."""
  rank = select.rank(rows.uniform_at(key, position), masked)
  return masked & (rank < count)


def no_features(canvas: Canvas, model: Denoiser) -> Array:
  """Zeros like the features of an Answer about the canvas, for a carry."""
  rows = canvas.masked.any(-1)
  ask = lambda memo: model.ask(memo, canvas.tokens, rows)[1].features
  like = jax.eval_shape(ask, model.init(canvas.tokens, canvas.valid))
  return jnp.zeros(like.shape, like.dtype)


def consult(
  other: Denoiser, tokens: Array, rows: Array, memo: Memo
) -> tuple[Memo, Answer]:
  """Asks a second model about tokens (B, L), on the same bill.

  It starts afresh each time: its cache, if it has one, is not kept.

  Returns:
    (memo, Answer).
  """
  own = other.init(tokens, memo.valid)._replace(meter=memo.meter)
  own, answer = other.ask(own, tokens, rows)
  return memo._replace(meter=own.meter), answer


def beside(model: Denoiser, other: Denoiser) -> Denoiser:
  """A second model, asked about the canvases that `model` is asked about."""
  return other if model.beside is None else model.beside(other)


def reveal(canvas: Canvas, view: View, kept: Array, info: Any = ()) -> Move:
  """The move that writes the drafts at kept (B, L).

  A row with masks of which none is kept makes no progress: its log-probability
  is +inf, which no written token has (NaN where that is why).
  """
  nothing = canvas.masked & ~kept.any(-1, keepdims=True)
  why = jnp.where(jnp.isnan(view.draft_logp), jnp.nan, jnp.inf)
  return Move(
    tokens=jnp.where(kept, view.drafts, canvas.tokens),
    logp=jnp.where(kept, view.draft_logp, jnp.where(nothing, why, 0.0)),
    done=~(canvas.masked & ~kept).any(-1),
    info=info,
  )
