"""Hierarchical decoding: every run of masks is split at its surest position.

Hierarchy-dLLM (ICLR 2026), as in dInfer (inclusionAI). One forward pass per
step.
"""

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, select
from punt_jax.sampler import look, no_carry, reveal, spoiled
from punt_jax.types import Sampler, Scalar, Traits


def hierarchical(
  low: Scalar = 0.4, high: Scalar = float('inf'), remask: Scalar = 0.4
) -> Sampler:
  """Writes the surest position of each run of masks, if its confidence is
  above `low`; all above `high`; and remasks what has become unlikely.

  A run is a stretch of masked positions side by side; anything else, given
  tokens and padding included, ends it. Ties go to the leftmost.

  Ends, in L steps at most: if r tokens are remasked, at least the r + 1 surest
  masked positions are written (one if r = 0), and of m masks at most m - 1 are
  replaced by remasked tokens, so each step leaves fewer masks.

  Args:
    low: probability; above 1 the runs write nothing.
    high: probability; above 1 (the authors' default has none) writes nothing.
    remask: a committed token whose probability falls below this is remasked,
      the least likely first; 0 remasks nothing. 0.4 is the default of the
      authors' code, as is that of `low`.

  Raises:
    ValueError: a number below 0 or NaN.
  """
  for name, value in dict(low=low, high=high, remask=remask).items():
    checks.in_range(name, value, 0)

  def rule(masked, committed, confidence, probability):
    rank = select.rank(confidence, masked)
    unlikely = committed & (probability < remask)
    dropped = select.rank(-probability, unlikely) < masked.sum() - 1
    dropped &= unlikely
    kept = confidence > high
    kept |= _surest_of_runs(rank, masked) & (confidence > low)
    kept |= rank < dropped.sum() + 1
    return kept & masked, dropped

  def step(keys, t, canvas, carry, memo, model):
    memo, answer, view = look(keys, t, canvas, memo, model)
    committed = canvas.open & ~canvas.masked & (remask > 0)
    logp = readout.log_prob(model, answer.features, canvas.tokens, committed)
    view = spoiled(view, jnp.isnan(logp))
    kept, dropped = jax.vmap(rule)(
      canvas.masked, committed, view.confidence, jnp.exp(logp)
    )
    move = reveal(canvas, view, kept)
    return move._replace(
      tokens=jnp.where(dropped, model.vocab, move.tokens),
      done=move.done & ~dropped.any(-1),
    ), carry, memo

  exact = dict(low=2.0, high=2.0, remask=0.0)
  return Sampler(no_carry, step, Traits(exact))


def _surest_of_runs(rank, masked):
  """(L,) bool: lowest rank of each maximal run of masked (L,)."""
  starts = masked & ~jnp.pad(masked, (1, 0))[:-1]
  run = jnp.cumsum(starts)
  ranks = jnp.where(masked, rank, rank.size)
  best = jax.ops.segment_min(ranks, run, rank.size + 1)
  return masked & (rank == best[run])
