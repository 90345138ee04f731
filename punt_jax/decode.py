"""The one loop. It alone protects given tokens, freezes finished rows, derives
keys, and records what was written when and with which probability.

Four drivers share its body `advance`: `decode` (lax.while_loop), `film`
(lax.scan, keeps every move), `watch` (Python) and `flow` (lax.while_loop, as
far as the end of a block). These are traced code; the public jitted doors are
in punt_jax/api.py.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import contract, rows
from punt_jax.types import (
  Array,
  Canvas,
  Decoded,
  Denoiser,
  Memo,
  Move,
  Sampler,
  Scalar,
  Tree,
  short,
)


class Run(NamedTuple):
  """A run between two steps."""

  keys: Array  # (B,) row keys
  tokens: Array  # (B, L) int32
  valid: Array  # (B, L) bool
  given: Array  # (B, L) bool: never written
  total: Array  # (B,) int32: masked positions at the start
  steps: Array  # (B,) int32
  when: Array  # (B, L) int32
  log_q: Array  # (B,) float32
  done: Array  # (B,) bool
  fault: Array  # (B,) int32, see Decoded
  carry: Tree
  memo: Memo

  __repr__ = short


def start(
  keys: Array, tokens: Array, given: Array | None, valid: Array,
  model: Denoiser, sampler: Sampler,
) -> Run:
  """The run before its first step. Rows with nothing masked are done.

  The network's own id of MASK (Denoiser.mask) is read as MASK. given None:
  all but MASK.
  """
  batch = tokens.shape[0]
  if model.mask is not None:
    tokens = jnp.where(tokens == model.mask, model.vocab, tokens)
  if given is None:
    given = tokens != model.vocab
  masked = valid & ~given & (tokens == model.vocab)
  run = Run(
    keys=keys,
    tokens=tokens,
    valid=valid,
    given=given,
    total=masked.sum(-1, dtype=jnp.int32),
    steps=jnp.zeros((batch,), jnp.int32),
    when=jnp.full(tokens.shape, -1, jnp.int32),
    log_q=jnp.zeros((batch,), jnp.float32),
    done=~masked.any(-1),
    fault=jnp.full((batch,), -1, jnp.int32),
    carry=(),
    memo=model.init(tokens, valid),
  )
  carry = sampler.init(rows.named(keys, 'init'), _canvas(run, model), model)
  return run._replace(carry=carry)


def advance(run: Run, model: Denoiser, sampler: Sampler) -> tuple[Run, Move]:
  """One step of every row that is not done; the others do not change."""
  canvas = _canvas(run, model)
  keys = rows.fold_rows(run.keys, run.steps)
  made = sampler.step(keys, run.steps, canvas, run.carry, run.memo, model)
  move, carry, memo = contract.moved(sampler, made, run.carry, run.tokens.shape)
  tokens = jnp.where(canvas.open, move.tokens, run.tokens)
  written = tokens != run.tokens
  live = ~run.done
  gain = jnp.where(canvas.open, move.logp, 0.0).sum(-1)
  broken = (run.fault < 0) & ~jnp.isfinite(gain)
  run = run._replace(
    tokens=tokens,
    steps=run.steps + live,
    when=jnp.where(written, run.steps[:, None], run.when),
    log_q=run.log_q + gain,
    done=run.done | move.done,
    fault=jnp.where(broken, run.steps, run.fault),
    carry=rows.pick_rows(live, carry, run.carry),
    memo=memo,
  )
  return run, move._replace(tokens=tokens)


def decode(
  run: Run, model: Denoiser, sampler: Sampler, max_steps: Scalar
) -> Decoded:
  """Runs until every row is done or has taken max_steps."""
  more = lambda run: going(run, max_steps)
  body = lambda run: advance(run, model, sampler)[0]
  return finish(jax.lax.while_loop(more, body, run))


def film(
  run: Run, model: Denoiser, sampler: Sampler, max_steps: int
) -> tuple[Decoded, Move]:
  """Like decode; also every Move, stacked to (max_steps, B, ...).

  Once all rows are done, steps cost nothing and repeat the canvas, with
  zeros in `info`.
  """
  go = lambda run: advance(run, model, sampler)
  like = jax.eval_shape(go, run)[1]

  def rest(run):
    still = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return run, still._replace(tokens=run.tokens, done=run.done)

  body = lambda run, _: jax.lax.cond(run.done.all(), rest, go, run)
  run, moves = jax.lax.scan(body, run, None, max_steps)
  return finish(run), moves


def watch(
  run: Run, jitted_advance: Callable[[Run], tuple[Run, Move]], max_steps: int
) -> Iterator[tuple[Run, Move]]:
  """Yields (Run, Move) after each step; the loop is in Python."""
  for _ in range(max_steps):
    if bool(run.done.all()):
      return
    run, move = jitted_advance(run)
    yield run, move


def flow(
  run: Run, model: Denoiser, sampler: Sampler, max_steps: Scalar
) -> Run:
  """Like decode, but only as far as more of a row is settled."""
  begun = settled(run, model, sampler)
  more = lambda run: going(run, max_steps) & (
    settled(run, model, sampler) == begun
  ).all()
  body = lambda run: advance(run, model, sampler)[0]
  return jax.lax.while_loop(more, body, run)


def settled(run: Run, model: Denoiser, sampler: Sampler) -> Array:
  """(B, L) bool: what no further step will change; all of a row that is done.

  Blocks before the one that is being written; see Sampler.settled.
  """
  still = run.given | ~run.valid | run.done[:, None]
  if sampler.settled is None:
    return still
  return still | sampler.settled(_canvas(run, model), run.carry)


def going(run: Run, max_steps: Scalar) -> Array:
  """() bool: whether a row is neither done nor has taken max_steps."""
  return (~run.done & (run.steps < max_steps)).any()


def finish(run: Run) -> Decoded:
  """The result of a run."""
  return Decoded(
    run.tokens, run.log_q, run.memo.meter, run.steps, run.when, run.done,
    run.fault,
  )


def _canvas(run, model) -> Canvas:
  open_ = run.valid & ~run.given & ~run.done[:, None]
  masked = open_ & (run.tokens == model.vocab)
  return Canvas(run.tokens, run.valid, open_, masked, run.total)
