"""Looking one step ahead: of several sets of positions, the best is written.

A step shows each set with its drafts, in one question; the answer about the set
that was written is the base of the next step. n passes per step with n sets,
one more in the first step (of a block), none in a step that leaves nothing
masked.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, readout, rows, select
from punt_jax.sampler import no_features, read, reveal, spoiled
from punt_jax.types import (
  Answer,
  Array,
  Canvas,
  CountFn,
  Denoiser,
  Memo,
  Sampler,
  Scalar,
  Traits,
)

MOST = 2**12  # paths


class Paths(NamedTuple):
  """What a step looked at; n paths."""

  sets: Array  # (B, n, L) bool: written on this path
  value: Array  # (B, n) float32, the best is taken; NaN where not asked


def search(
  k: Scalar | CountFn, paths: int, heat: Scalar, skip: Scalar,
  value: Callable[[Array, Array], Array], exact: dict[str, Any],
) -> Sampler:
  """Writes the best of some sets of k positions, as judged one step ahead.

  The first set holds the k surest, the others the k best of confidence + heat *
  Gumbel noise. All show the same drafts. The best set is taken (LookUM may
  also draw one by its weight); ties go to the first.

  Args:
    k: at least 1, or a count schedule.
    paths: n >= 1.
    heat: position temperature, >= 0.
    skip: if no masked position has a confidence below this, all are written at
      once, without a look ahead.
    value: (spent, left) -> (B, n): what makes a set good, from the sum over the
      set of the entropies before, and the mean of those that remain after, both
      (B, n) nats.
    exact: see Traits.

  Raises:
    ValueError: a number out of range or NaN.
  """
  select.check_count(k)
  checks.whole('paths', paths, 1, MOST)
  checks.in_range('heat', heat, 0)
  checks.in_range('skip', skip, 0)

  def init(keys, canvas, model):
    del keys
    return no_features(canvas, model)

  def draw(key, view):
    some = (view.masked & (view.confidence < skip)).any()
    count = jnp.where(some, select.count_of(k, view), view.masked.sum())

    def path(c):
      gumbel = rows.gumbel_at(jax.random.fold_in(key, c), view.position)
      order = view.confidence + jnp.where(c > 0, heat * gumbel, 0.0)
      return select.rank(order, view.masked) < count

    return view.masked & jax.vmap(path)(jnp.arange(paths))

  def step(keys, t, canvas, features, memo, model):
    memo, features = base(t, canvas, features, memo, model)
    view = read(keys, t, canvas, Answer(features), model)
    sets = jax.vmap(draw)(rows.named(keys, 'paths'), view)
    rest = canvas.masked[:, None] & ~sets
    asking = rest.any(-1)

    def ahead(memo):
      tokens = jnp.where(sets, view.drafts[:, None], canvas.tokens[:, None])
      memo, after = model.ask(memo, tokens, asking)
      flat = lambda x: x.reshape((-1, *x.shape[2:]))
      said = readout.summarize(
        model, flat(after.features), flat(rest), jnp.zeros(flat(rest).shape)
      )
      left = said.entropy.reshape(rest.shape).sum(-1)
      left /= jnp.maximum(rest.sum(-1), 1)
      spent = jnp.where(sets, view.entropy[:, None], 0.0).sum(-1)
      worth = jnp.where(asking, value(spent, left), 0.0)
      broken = jnp.isnan(worth)
      take = jax.vmap(lambda x, best: x[best])
      best = worth.argmax(-1)
      worth = jnp.where(asking, worth, jnp.nan)
      told = take(sets, best), take(after.features, best), worth, broken
      return memo, told

    nothing = lambda memo: (memo, (
      sets[:, 0], features, jnp.full(asking.shape, jnp.nan), asking
    ))
    memo, (kept, features, worth, broken) = jax.lax.cond(
      asking.any(), ahead, nothing, memo
    )
    view = spoiled(view, broken)
    return reveal(canvas, view, kept, Paths(sets, worth)), features, memo

  return Sampler(init, step, Traits(exact))


def base(
  t: Array, canvas: Canvas, features: Array, memo: Memo, model: Denoiser
) -> tuple[Memo, Array]:
  """The features (B, L, D) of the canvas: asked for where no step was before.

  Returns:
    (memo, features).
  """
  asking = canvas.masked.any(-1) & (t == 0)

  def ask(memo):
    memo, answer = model.ask(memo, canvas.tokens, asking)
    return memo, rows.pick_rows(asking, answer.features, features)

  return jax.lax.cond(asking.any(), ask, lambda memo: (memo, features), memo)
