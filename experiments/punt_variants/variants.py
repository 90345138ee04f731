"""PUNT with one thing changed, for ablations; not part of the library.

PUNT is Algorithm 1 of Azangulov et al. https://arxiv.org/abs/2510.21961. Every
step of every variant asks once, draws drafts and ranks the masked positions,
least entropy first. What follows in place of PUNT's rounds is the variant. A
cost of "R rounds" means at most R = ceil(log2 m) passes for m candidates, fewer
if a round has nothing to show or to test. Arguments called as those of
samplers.punt mean the same.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import bits, readout, select
from punt_jax.checks import numbers
from punt_jax.sampler import look, probe, reveal
from punt_jax.types import Answer, Array, Canvas, Sampler, Traits, View


class Scene(NamedTuple):
  """What a step knows after its first question."""

  keys: Array  # (B,)
  canvas: Canvas
  view: View  # of B rows
  base: Answer


class Told(NamedTuple):
  """What the tests of one step said; R tests, those not made are all False."""

  shown: Array  # (B, R, L) bool
  tests: Array  # (B, R, L) bool: whose predictions were compared
  moved: Array  # (B, R, L) nats, 0 where not tested


LIMITS = {  # of the settings of variants and rivals, see checks.numbers
  'epsilon': (-1e9, 1e9), 'kappa': (-1e9, 1e9),  # below 0: one by one
  'early': (0.0,), 'late': (0.0,),
  'gamma': (0.0,), 'gap': (0.0,), 'width': (1, 64), 'groups': (1, 1024),
  'share': (0.0, 1.0), 'decay': (0.0, 1.0), 'rounds': (0, 1024),
  'temperature': (0.0,),
}


def check_numbers(settings):
  """Names a number among settings that is none, or out of range."""
  numbers(settings, {k: v for k, v in LIMITS.items() if k in settings})


def lift(choose, extra=lambda canvas: (), exact=None) -> Sampler:
  """A sampler that asks once and leaves the rest to `choose`.

  Args:
    choose: (Scene, extra, memo, model) -> (kept (B, L) bool, extra, memo).
    extra: Canvas -> what `choose` remembers between steps, leaves (B, ...).
    exact: see Traits.
  """

  def init(keys, canvas, model):
    del keys, model
    return extra(canvas)

  def step(keys, t, canvas, carry, memo, model):
    memo, base, view = look(keys, t, canvas, memo, model)
    scene = Scene(keys, canvas, view, base)
    kept, carry, memo = choose(scene, carry, memo, model)
    return reveal(canvas, view, kept), carry, memo

  return Sampler(init, step, Traits(exact))


def ranked(scene, candidates):
  """(rank (B, L), count (B,)) of the candidates, least entropy first."""
  rank = jax.vmap(select.rank)(-scene.view.entropy, candidates)
  return rank, candidates.sum(-1, dtype=jnp.int32)


def ask_many(scene, shown, tests, memo, model):
  """`sampler.probe` with P probes side by side: one question, depth 1.

  A probe without tests is not charged.

  Args:
    scene: Scene.
    shown: (B, P, L) bool: where each probe writes drafts.
    tests: (B, P, L) bool: whose predictions are compared with the base.
    memo, model: Memo, Denoiser.

  Returns:
    memo, KL (B, P, L) in nats, 0 where not tested.
  """
  flat = lambda x: x.reshape((-1,) + x.shape[2:])

  def ask(memo):
    drafts, tokens = scene.view.drafts[:, None], scene.canvas.tokens[:, None]
    tokens = jnp.where(shown, drafts, tokens)
    memo, answer = model.ask(memo, tokens, tests.any(-1))
    after = answer.features
    before = jnp.broadcast_to(scene.base.features[:, None], after.shape)
    moved = readout.divergence(model, flat(before), flat(after), flat(tests))
    return memo, moved.reshape(tests.shape)

  nothing = lambda memo: (memo, jnp.zeros(tests.shape, jnp.float32))
  return jax.lax.cond(tests.any(), ask, nothing, memo)


def rounds(scene, kept, side_of, most, epsilon, memo, model, width=1):
  """In each round survivors on side 0 are shown, those on side 1 tested.

  Args:
    scene: Scene.
    kept: (B, L) bool: the candidates.
    side_of: (survivors (B, L), round ()) -> (B, L) bool: side 1.
    most: (B,) int32: rounds of each row.
    epsilon: who moves by more nats is dropped.
    memo, model: Memo, Denoiser.
    width: rounds asked side by side in one question. They start from the same
      survivors: none sees what the others drop.

  Returns:
    memo, survivors (B, L), Told.
  """
  batch, length = kept.shape
  size = -(-int(length - 1).bit_length() // width) * width
  never = jnp.zeros((batch, size, length), bool)
  told = Told(never, never, jnp.zeros(never.shape, jnp.float32))

  def question(i, state):
    memo, kept, told = state
    turn = i * width + jnp.arange(width)
    side = jnp.stack([side_of(kept, turn[w]) for w in range(width)], 1)
    shown, tests = kept[:, None] & ~side, kept[:, None] & side
    asking = shown.any(-1) & tests.any(-1) & (turn < most[:, None])
    shown, tests = shown & asking[..., None], tests & asking[..., None]
    memo, moved = ask_many(scene, shown, tests, memo, model)
    put = lambda x, new: jax.lax.dynamic_update_slice(x, new, (0, turn[0], 0))
    told = jax.tree.map(put, told, Told(shown, tests, moved))
    return memo, kept & ~(tests & ~(moved <= epsilon)).any(1), told

  trips = -(-most.max() // width)
  return jax.lax.fori_loop(0, trips, question, (memo, kept, told))


def punted(scene, candidates, epsilon, first, memo, model, width=1):
  """PUNT's own rounds among the candidates, see `rounds`."""
  rank, count = ranked(scene, candidates)
  side_of = lambda kept, r: bits.tested(rank, count, r, first)
  most = bits.bit_count(count)
  return rounds(scene, candidates, side_of, most, epsilon, memo, model, width)


def cheapest(scene, kept, told, limit):
  """The survivors that moved least, as many as fit a budget -> (B, L) bool.

  Args:
    scene: Scene.
    kept: (B, L) bool: survivors.
    told: Told; what a survivor costs is the sum of all its divergences.
    limit: (B, L) nats: most that the n + 1 cheapest may cost at [:, n]. The
      surest candidate was never tested, costs 0 and is always kept.
  """
  rank, _ = ranked(scene, scene.canvas.masked)
  cost = jnp.where(kept, told.moved.sum(1), 0.0)

  def one_row(rank, kept, cost, limit):
    place = select.rank(jnp.where(rank == 0, jnp.inf, -cost), kept)
    fits = jnp.cumsum(select.by_rank(cost, place)) <= limit
    return kept & (place < select.prefix(fits, kept))

  return jax.vmap(one_row)(rank, kept, cost, limit)


def budgeted(kappa, epsilon, first='msb') -> Sampler:
  """One budget per step for all that is accepted, instead of one per token.

  Survivors are sorted by the sum of their divergences over all rounds; the
  longest prefix whose sum is within kappa (nats) is written. The rounds
  themselves prune at epsilon, a generous number. 1 pass + R rounds.
  """

  def choose(scene, extra, memo, model):
    masked = scene.canvas.masked
    memo, kept, told = punted(scene, masked, epsilon, first, memo, model)
    limit = jnp.broadcast_to(kappa, masked.shape)
    return cheapest(scene, kept, told, limit), extra, memo

  return lift(choose, exact=dict(epsilon=-1.0))


def run_budgeted(kappa, epsilon, first='msb') -> Sampler:
  """One budget for the whole run, whatever is left over is carried on.

  As `budgeted`, but the prefix is the longest one after which all divergences
  accepted so far sum to at most kappa (nats) times the share of tokens written
  so far. So the sum over the run is at most kappa. 1 pass + R rounds.
  """

  def choose(scene, spent, memo, model):
    masked, total = scene.canvas.masked, scene.view.total[:, None]
    memo, kept, told = punted(scene, masked, epsilon, first, memo, model)
    left = masked.sum(-1, keepdims=True)
    written = total - left + 1 + jnp.arange(masked.shape[1])
    limit = kappa * written / jnp.maximum(total, 1) - spent[:, None]
    kept = cheapest(scene, kept, told, limit)
    cost = jnp.where(kept, told.moved.sum(1), 0.0).sum(-1)
    return kept, spent + cost, memo

  nothing = lambda canvas: jnp.zeros(canvas.masked.shape[:1], jnp.float32)
  return lift(choose, nothing, exact=dict(epsilon=-1.0))


def reranked(epsilon) -> Sampler:
  """Survivors are numbered anew before each round, in their old order.

  The top bit is tested first. Survivors split evenly again and often need
  fewer rounds. Their scores are not read again: none has moved by more than
  epsilon. Lost is PUNT's guarantee that of each two survivors the less sure
  one was tested with the other shown: with new numbers two may be tested the
  other way round, or stand on the same side in every round. 1 pass + at most
  R rounds.
  """

  def choose(scene, extra, memo, model):
    old, count = ranked(scene, scene.canvas.masked)
    most = bits.bit_count(count)

    def side_of(kept, r):
      rank = jax.vmap(select.rank)(-old, kept)
      return bits.tested(rank, count, r)

    memo, kept, _ = rounds(
      scene, scene.canvas.masked, side_of, most, epsilon, memo, model
    )
    return kept, extra, memo

  return lift(choose, exact=dict(epsilon=-1.0))


def verified(epsilon, first='msb') -> Sampler:
  """PUNT, and one pass that looks for joint effects.

  The least sure quarter of the survivors (rounded up) is tested once more
  with all others shown at once; PUNT's rounds show each position a part of
  them only. Two survivors have no others. 2 passes + R rounds.
  """

  def choose(scene, extra, memo, model):
    masked = scene.canvas.masked
    memo, kept, _ = punted(scene, masked, epsilon, first, memo, model)
    rank, count = ranked(scene, kept)
    last = rank >= (count - (count + 3) // 4)[:, None]
    tests = kept & last & (count > 2)[:, None]
    memo, moved = probe(
      scene.canvas, scene.view, scene.base, kept & ~last, tests, memo, model
    )
    return kept & ~(tests & ~(moved <= epsilon)), extra, memo

  return lift(choose, exact=dict(epsilon=-1.0))
