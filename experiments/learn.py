"""The warm-up of `influence`: rows are decoded, and a table is learned."""

from typing import NamedTuple

import jax
import numpy as np

import punt_jax
from punt_jax import samplers
from punt_jax.decode import film

WARM_UPS = {
  'explore': lambda: samplers.explore(),
  'punt': lambda: samplers.punt(0.02, first='lsb'),
}


class Learned(NamedTuple):
  """An influence table and what it cost."""

  table: np.ndarray  # (L, L) nats
  passes: int  # forward passes of all rows; those of `explore` are samples too


def learn(model, params, vocab, length, rows, seed, alike=None, by='explore'):
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
  """
  build = lambda params, _: (model(params), WARM_UPS[by]())
  record = punt_jax.compile(build, driver=film)
  empty = np.full((rows, length), vocab, np.int32)
  out, moves = record(params, (), jax.random.key(seed), empty)
  info = moves.info
  if by == 'punt':
    info = samplers.Probes(info.shown, info.divergence)
  table = samplers.fit_influence(info, alike)
  return Learned(table, int(np.asarray(out.meter.nfe).sum()))


def distances(length):
  """`alike` where rows differ, but distances mean the same: |i - j|."""
  place = np.arange(length)
  return np.abs(place[:, None] - place)
