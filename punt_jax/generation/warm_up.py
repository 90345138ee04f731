"""The warm-up of samplers that are told something of the model beforehand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from punt_jax import samplers, schedules
from punt_jax.decode import film
from punt_jax.generation import options
from punt_jax.types import ArrayLike, Denoiser, Tree

WARM_UPS = {
  'explore': samplers.explore,
  'punt': lambda: samplers.punt(0.02, first='lsb'),
}


class Learned(NamedTuple):
  """What a warm-up found, and what it cost."""

  table: np.ndarray  # (L, L) nats: of `influence`
  passes: int  # forward passes of all rows; those of `explore` are samples too
  more: int  # forward passes that the profile took besides
  profile: np.ndarray  # (L,) nats: schedules.estimate_profile; () if not asked


def hyperparams_of(choice: options.Choice, learned: Learned) -> dict[str, Any]:
  """The hyperparameters of a options.Choice, with what it has learned.

  Sizes are padded with zeros, so that one compilation serves any number.
  """
  hyperparams: dict[str, Any] = {
    key: float(value) for key, value in choice.traced.items()
  }
  if choice.learns == 'table':
    hyperparams['table'] = learned.table
  if choice.learns == 'sizes':
    n = len(learned.profile)
    k = min(round(hyperparams.pop('steps')), n)
    sizes = schedules.optimal(learned.profile, k)
    hyperparams['sizes'] = np.pad(sizes, (0, n - k)).astype(np.float32)
  return hyperparams


def warm_up(choice: options.Choice, learned: Learned) -> int:
  """Forward passes that a options.Choice needed beforehand."""
  if choice.learns is None:
    return 0
  return learned.passes + learned.more * (choice.learns == 'sizes')


def learn(
  model: Callable[[Tree], Denoiser], params: Tree, vocab: int, length: int,
  rows: int, seed: int, alike: ArrayLike | None = None, by: str = 'explore',
  profile: bool = False,
) -> Learned:
  """Decodes `rows` empty canvases and fits what was recorded -> Learned.

  Args:
    model: params -> Denoiser, traceable.
    params: of the model.
    vocab: V.
    length: L.
    rows: how many; two at least for a table that means something.
    seed: of their drafts.
    alike: see samplers.fit_influence.
    by: whose probes, see WARM_UPS.
    profile: whether to estimate the information profile, on the rows that were
      written: at most 33 passes a row more.
  """
  build = lambda params, _: (model(params), WARM_UPS[by]())
  record = punt_jax.compile(build, driver=film)
  empty = np.full((rows, length), vocab, np.int32)
  out, moves = record(params, (), jax.random.key(seed), empty)
  info = moves.info
  if by == 'punt':
    info = samplers.Probes(info.shown, info.divergence)
  table = samplers.fit_influence(info, alike)
  passes = int(np.asarray(out.meter.nfe).sum())
  if not profile:
    return Learned(table, passes, 0, np.zeros(0))
  counts = schedules.grid(length)
  found = schedules.estimate_profile(
    model, params, jax.random.key(seed), out.tokens, counts, 'entropy'
  )
  more = rows * len(counts)
  return Learned(table, passes, more, schedules.isotonic(found.mean(0)))


def distances(length: int) -> np.ndarray:
  """`alike` where rows differ, but distances mean the same: |i - j|."""
  place = np.arange(length)
  return np.abs(place[:, None] - place)
