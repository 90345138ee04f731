"""PUNT: parallel unmasking with non-influence tests.

Azangulov, Pandeva, Prasad, Zazo, Karmalkar, "Parallel Sampling from Masked
Diffusion Models via Conditional Independence Testing"
(https://arxiv.org/abs/2510.21961), Alg. 1. 1 + ceil(log2 m) forward passes per
step with m masked positions; one if epsilon is inf.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import bits, checks, contract, readout, rows, select
from punt_jax.sampler import look, no_carry, probe, reveal, spoiled
from punt_jax.types import (
  Array,
  EpsilonFn,
  RuleFn,
  Sampler,
  Scalar,
  ScoreFn,
  Traits,
)


class Rounds(NamedTuple):
  """What the tests of one step said; R = ceil(log2 L) rounds."""

  asked: Array  # (B, R) bool: the row had a test in this round
  shown: Array  # (B, R, L) bool: anchors, where drafts were shown
  divergence: Array  # (B, R, L) float32, NaN where not tested
  kept: Array  # (B, R, L) bool: survivors after the round, if it ran


def punt(
  epsilon: Scalar | EpsilonFn, score: str | ScoreFn = 'entropy',
  divergence: str = 'kl', first: str = 'lsb', codes: str = 'plain',
  admit: RuleFn | None = None, rounds: Scalar = 32,
) -> Sampler:
  """Writes the drafts of positions that no surer draft moved.

  Positions are ranked by `score`. In each round the survivors on side 0 of one
  bit of the rank are shown with their drafts, and the survivors on side 1
  whose prediction moved by more than epsilon are dropped. Any failed test
  drops. All pairs are tested, sets are not: if x3 = x1 xor x2, rank 3 is
  shown {0, 1} and {0, 2} and passes both. With epsilon < 0 every test fails:
  one-by-one sampling, exact if the score does not look at the drafts.

  Args:
    epsilon: threshold in nats (kl, jsd) or probability (tv), or a function
      masked fraction (B,) -> (B,); inf tests nothing.
    score: order of the positions, see select.score_fn. The paper's is not
      known to us.
    divergence: 'kl' (before || after, the paper's), 'jsd' or 'tv'.
    first: the bit tested first: 'msb', as in the paper's recursion, or 'lsb',
      our default: it needs fewer passes for the same error, see
      docs/results/claims.md.
    codes: 'plain' or 'balanced' splits, see bits.code.
    admit: rule (key, View) -> (L,) bool, as in from_rule: which masked
      positions are candidates of this step, at least one; None for all.
    rounds: most tests per step, each of one bit; with fewer than ceil(log2 m)
      some pairs are written untested.

  Raises:
    ValueError: unknown names, epsilon NaN or rounds negative; while they are
      traced, functions that return anything else.
  """
  if not callable(epsilon):
    checks.in_range('epsilon', epsilon)
  checks.in_range('rounds', rounds, 0)
  order = select.score_fn(score)
  checks.known('divergence', divergence, readout.DIVERGENCES)
  checks.known('bit order', first, ('msb', 'lsb'))
  checks.known('codes', codes, ('plain', 'balanced'))

  def admitted(key, view):
    chosen = checks.function('admit', admit)(key, view)
    what = f'the rule {contract.name_of(admit)}'
    return contract.array(what, chosen, view.masked.shape, jnp.bool_)

  def limit_of(canvas):
    if not callable(epsilon):
      return epsilon
    share = canvas.masked.sum(-1) / jnp.maximum(canvas.total, 1)
    found = epsilon(share)
    what = f'the schedule {contract.name_of(epsilon)}'
    one = jnp.ndim(found) == 0 if hasattr(found, 'shape') else True
    return contract.number(what, found, () if one else share.shape)

  def step(keys, t, canvas, carry, memo, model):
    memo, base, view = look(keys, t, canvas, memo, model)
    candidates = canvas.masked
    if admit is not None:
      candidates &= jax.vmap(admitted)(rows.named(keys, 'admit'), view)
    rank = jax.vmap(select.rank)(jax.vmap(order)(view), candidates)
    count = candidates.sum(-1, dtype=jnp.int32)
    code = bits.code(rank, count, codes)
    candidates &= rank < rank.shape[-1]  # see select.rank
    most_rounds = jnp.minimum(bits.bit_count(count), rounds).astype(jnp.int32)
    limit = jnp.asarray(limit_of(canvas), jnp.float32)
    limit = jnp.broadcast_to(limit, count.shape)
    candidates &= ~jnp.isnan(limit)[:, None]

    def round_(r, state):
      memo, kept, broken, info = state
      side = bits.tested(code, count, r, first)
      shown, tests = kept & ~side, kept & side
      asking = shown.any(-1) & (r < most_rounds) & (limit < jnp.inf)
      tests &= asking[:, None]
      shown &= tests.any(-1, keepdims=True)
      memo, moved = probe(
        canvas, view, base, shown, tests, memo, model, divergence
      )
      kept = kept & ~(tests & ~(moved <= limit[:, None]))
      broken |= (tests & jnp.isnan(moved)).any(-1)
      info = Rounds(
        info.asked.at[:, r].set(tests.any(-1)),
        info.shown.at[:, r].set(shown),
        info.divergence.at[:, r].set(jnp.where(tests, moved, jnp.nan)),
        info.kept.at[:, r].set(kept),
      )
      return memo, kept, broken, info

    batch, length = canvas.masked.shape
    size = max(1, int(length - 1).bit_length())
    info = Rounds(
      jnp.zeros((batch, size), bool),
      jnp.zeros((batch, size, length), bool),
      jnp.full((batch, size, length), jnp.nan),
      jnp.zeros((batch, size, length), bool),
    )
    broken = jnp.zeros(batch, bool)
    memo, kept, broken, info = jax.lax.fori_loop(
      0, most_rounds.max(), round_, (memo, candidates, broken, info)
    )
    view = spoiled(view, broken)
    return reveal(canvas, view, kept, info), carry, memo

  return Sampler(no_carry, step, Traits(exact=dict(epsilon=-1.0)))
