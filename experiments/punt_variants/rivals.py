"""Ideas tried against PUNT, built from its parts; not part of the library.

See experiments/punt_variants/variants.py for the words used here. Costs come on
top of the one pass with which every step begins.
"""

import jax
import jax.numpy as jnp

from experiments.punt_variants.variants import (
  ask_many,
  lift,
  punted,
  ranked,
  rounds,
)
from punt_jax import bits, rows, samplers, select
from punt_jax.types import Sampler


def apart(gap):
  """The rule (key, View) -> (L,) bool that takes candidates surest first.

  None lies closer than `gap` positions to one that was taken before.
  """

  def admit(key, view):
    del key
    rank = select.rank(-view.entropy, view.masked)
    distance = jnp.abs(view.position[:, None] - view.position)
    return select.thin((distance < gap) * 1.0, 0.0, rank, view.masked)

  return admit


def spaced(epsilon, gap, first='msb') -> Sampler:
  """PUNT among candidates that lie at least `gap` positions apart.

  At most L / gap candidates instead of m, so fewer rounds, and neighbors are
  never tested against each other. R rounds.
  """
  return samplers.punt(epsilon, first=first, admit=apart(gap))


def batched(epsilon, width, gap=1, first='msb') -> Sampler:
  """PUNT with `width` rounds in one question, among spaced candidates.

  Rounds of one question start from the same survivors, so each one drops what
  depends on anything that the others drop at the same time. With width 2 the
  depth of a step is 1 + R / 2; with width = ceil(log2(L / gap)) all rounds are
  one question: depth 2. The passes are R as before.

  Args:
    epsilon: nats.
    width: rounds per question, a fixed whole number.
    gap: candidates lie at least so many positions apart; 1 for all masked.
  """

  def choose(scene, extra, memo, model):
    candidates = jax.vmap(apart(gap))(scene.keys, scene.view)
    memo, kept, _ = punted(
      scene, candidates, epsilon, first, memo, model, width
    )
    return kept, extra, memo

  return lift(choose, exact=dict(epsilon=-1.0))


def sure(epsilon, gamma, first='msb') -> Sampler:
  """Near-certain tokens are written untested; the others are tested.

  The sure ones are the longest prefix, least entropy first, whose entropies
  sum to at most gamma; at least one. What a token can tell about others is at
  most its entropy. They count as a single candidate of rank 0: shown in every
  round, tested in none. With gamma 0 this is PUNT. R = ceil(log2 of 1 + those
  that are not sure) rounds.

  Args:
    epsilon: nats.
    gamma: nats per step, >= 0.
  """

  def choose(scene, extra, memo, model):
    masked = scene.canvas.masked
    rank, count = ranked(scene, masked)

    def sure_ones(entropy, rank, masked):
      entropy = select.by_rank(jnp.where(masked, entropy, 0.0), rank)
      return select.prefix(jnp.cumsum(entropy) <= gamma, masked)

    more = jax.vmap(sure_ones)(scene.view.entropy, rank, masked) - 1
    code = jnp.maximum(rank - more[:, None], 0)
    count = count - more
    side_of = lambda kept, r: bits.tested(code, count, r, first)
    memo, kept, _ = rounds(
      scene, masked, side_of, bits.bit_count(count), epsilon, memo, model
    )
    return kept, extra, memo

  return lift(choose, exact=dict(epsilon=-1.0, gamma=0.0))


def break_even(epsilon, gamma, first='msb') -> Sampler:
  """PUNT where it pays, the entropy bound where it does not.

  The carry is the share of the candidates that PUNT accepted lately (the mean
  of the last share and the carry; 1 at first). If that share of m is more per
  pass than the entropy bound would write in one pass, the step is PUNT's;
  otherwise it writes what the bound allows: all whose surer ones have
  entropies that sum to gamma at most. 0 or R rounds.

  Args:
    epsilon: nats.
    gamma: nats, >= 0.
  """

  def choose(scene, share, memo, model):
    masked = scene.canvas.masked
    rank, count = ranked(scene, masked)

    def bounded(entropy, rank, masked):
      entropy = select.by_rank(jnp.where(masked, entropy, 0.0), rank)
      return select.prefix(jnp.cumsum(entropy) - entropy <= gamma, masked)

    easy = jax.vmap(bounded)(scene.view.entropy, rank, masked)
    pays = share * count > easy * (1 + bits.bit_count(count))
    memo, kept, _ = punted(
      scene, masked & pays[:, None], epsilon, first, memo, model
    )
    accepted = kept.sum(-1) / jnp.maximum(count, 1)
    share = jnp.where(pays, (share + accepted) / 2, share)
    easy = masked & (rank < easy[:, None])
    return jnp.where(pays[:, None], kept, easy), share, memo

  start = lambda canvas: jnp.ones(canvas.masked.shape[:1], jnp.float32)
  return lift(choose, start, exact=dict(epsilon=-1.0, gamma=0.0))


def votes(epsilon, groups, share, gap=1) -> Sampler:
  """Random groups instead of the bits of the rank, all in one question.

  Each group hides a random half of the candidates and shows the others. Who
  moves in more than a `share` of the groups that hide it waits. Of the rest, j
  is taken, surest first, if each i taken before was shown by some group that
  hid j and did not move it. So of each two that are written one was tested
  with the other shown, as in PUNT, but a harmless i may happen to be cleared
  by no group. `groups` passes, depth 2.

  Args:
    epsilon: nats.
    groups: a fixed whole number.
    share: in [0, 1].
    gap: candidates lie at least so many positions apart; 1 for all masked.
  """

  def choose(scene, extra, memo, model):
    candidates = jax.vmap(apart(gap))(scene.keys, scene.view)
    rank, _ = ranked(scene, candidates)
    hidden = halves(scene, candidates, groups)
    shown, tests = candidates[:, None] & ~hidden, hidden
    memo, moved = ask_many(scene, shown, tests, memo, model)
    failed = tests & ~(moved <= epsilon)
    most = share * tests.sum(1)
    stays = (failed.sum(1) <= most) | (rank == 0)
    both = lambda a, b: jnp.einsum('btj,bti->bij', a * 1.0, b * 1.0) > 0
    suspect = ~both(tests & ~failed, shown) * 1.0  # [i, j]: i may move j
    left = candidates & stays
    kept = jax.vmap(select.thin, (0, None, 0, 0))(
      suspect, 0.0, ranked(scene, left)[0], left
    )
    return kept, extra, memo

  return lift(choose, exact=dict(epsilon=-1.0))


def halves(scene, candidates, groups):
  """(B, groups, L) bool: a random half (rounded down) of the candidates."""

  def one_row(key, position, candidates):
    uniform = rows.uniform_at(key, position)
    return candidates & (
      select.rank(uniform, candidates) >= (candidates.sum() + 1) // 2
    )

  named = rows.named(scene.keys, 'groups')
  group = lambda t: jax.vmap(one_row)(
    rows.fold_rows(named, jnp.full(named.shape, t)),
    scene.view.position,
    candidates,
  )
  return jnp.stack([group(t) for t in range(groups)], 1)


def memory(epsilon, decay, first='msb') -> Sampler:
  """PUNT that remembers who moved whom in the steps before.

  The carry (B, L, L) estimates by how many nats showing i moves j. Every test
  corrects the row of j, equally for all that were shown, until they sum to
  what was seen (normalized least mean squares, nothing below 0); after a step
  all are multiplied by `decay`. A candidate waits, untested, while those that
  are surer and do not wait sum to more than epsilon. R rounds.

  Args:
    epsilon: nats.
    decay: in [0, 1]; 0 forgets everything: PUNT.
  """

  def correct(effect, told):
    shown, tests, moved = told
    missing = moved - (effect * shown).sum(-1)
    missing /= jnp.maximum(shown.sum(), 1)
    correction = jnp.where(tests[:, None] & shown, missing[:, None], 0.0)
    return jnp.maximum(effect + correction, 0.0), None

  def choose(scene, effect, memo, model):
    masked = scene.canvas.masked
    rank, _ = ranked(scene, masked)
    candidates = jax.vmap(select.thin, (0, None, 0, 0))(
      effect.swapaxes(1, 2), epsilon, rank, masked
    )
    memo, kept, told = punted(scene, candidates, epsilon, first, memo, model)
    learn = lambda effect, told: jax.lax.scan(correct, effect, told)[0]
    return kept, decay * jax.vmap(learn)(effect, told), memo

  def blank(canvas):
    length = canvas.masked.shape[1]
    return jnp.zeros(canvas.masked.shape + (length,), jnp.float32)

  return lift(choose, blank, exact=dict(epsilon=-1.0))
