"""A film of canvases filling up: one HTML file that needs nothing else.

Time is counted in forward passes, as they are paid: samplers that stand side
by side have spent the same, and a step shows once its last pass is paid.
"""

import json
import pathlib
from typing import Any

import numpy as np

from punt_jax import files
from punt_jax.types import ArrayLike, FilePath, Move, Sampler

PAGE = pathlib.Path(__file__).with_name('film.html')


def metered(sampler: Sampler) -> Sampler:
  """The sampler; Move.info is (B,) int32, the forward passes charged so far."""

  def step(keys, t, canvas, carry, memo, model):
    move, carry, memo = sampler.step(keys, t, canvas, carry, memo, model)
    return move._replace(info=memo.meter.nfe), carry, memo

  return sampler._replace(step=step)


def reel(
  choice: Any, text: Any, start: ArrayLike, steps: int, moves: Move
) -> dict[str, Any]:
  """One row on film, as JSON.

  Args:
    choice: options.Choice.
    text: punt_jax.text.vocabulary.Text.
    start: (L,) int32, the canvas before the first step.
    steps: how many steps the row took.
    moves: Move of that row stacked over steps, tokens (S, L), info (S,) as
      from `metered`.
  """
  before, frames = np.asarray(start), []
  letters = lambda ids: [text.decode([i]) for i in ids]
  for t in range(int(steps)):
    after = np.asarray(moves.tokens[t])
    at = np.flatnonzero(after != before)
    paid = int(moves.info[t])
    put = letters(after[at])
    frames.append({'paid': paid, 'at': at.tolist(), 'put': put})
    before = after
  mask = text.decode([text.vocab])
  first = [None if c == mask else c for c in letters(start)]
  name, hyperparams = choice.name, str(choice)
  return {
    'name': name, 'settings': hyperparams, 'start': first, 'frames': frames
  }


def write(path: FilePath, title: str, scenes: dict[str, list]) -> None:
  """Writes the film.

  Args:
    path: of the HTML file.
    title: one line.
    scenes: {title: [reel, reel]}; the reels of a scene run side by side.
  """
  # In a script element, only `</` and `<!--` could end or change the data.
  data = json.dumps({'title': title, 'scenes': scenes}).replace('<', '\\u003c')
  page = PAGE.read_text(encoding='utf-8').replace('/*FILM*/', data)
  files.write(path, page)
