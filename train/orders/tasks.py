"""What orders are learned on: a frozen model, and canvases it is to fill.

Sudoku with few clues: random puzzles of grids that are not held out, and an
exact judge. Text: what the model itself wrote, one by one in random order,
since its own joint is what every faster order is to keep; there is no judge.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from punt_jax import checkpoints, checks, samplers
from punt_jax.generation import generator
from train import puzzles


class Task(NamedTuple):
  """A model and its canvases."""

  loaded: checkpoints.Pretrained
  batch: Callable  # (step, count) -> tokens (count, L), given (count, L) bool
  test: Callable  # count -> the same, of what `batch` never draws
  length: int  # L
  right: Any = None  # tokens (N, L) -> (N,) bool; None: nobody can say


def load(config, seed) -> Task:
  """The task that config.task describes.

  Args:
    config: task.model, the name or path of a model; for Sudoku task.clues,
      shown in each puzzle; for text task.length, and task.rows, texts that are
      written to learn from.
    seed: of `batch`; `test` is the same for every seed.

  Raises:
    ValueError: one sentence: no such model, or it does not fit the task.
  """
  task = config.task
  loaded = checkpoints.load(task.model)
  generator.need_text(loaded)
  if 'clues' in task:
    if loaded.text.vocab != puzzles.SIDE or loaded.length != puzzles.LENGTH:
      raise ValueError(
        f'task.clues is set, and {task.model} is no model of Sudoku grids'
      )
    checks.in_range('clues', task.clues, 0, puzzles.LENGTH - 1)
    return sudoku(loaded, task.clues, seed)
  return text(loaded, task.length, task.rows, seed)


def sudoku(loaded, shown, seed) -> Task:
  """Puzzles of `shown` clues; right is any grid without repeats."""

  def draw(stream, count, test):
    rng = np.random.default_rng(stream)
    tokens = puzzles.draw(rng, count, test)
    return tokens, puzzles.clues(rng, count, shown)

  return Task(
    loaded,
    lambda step, count: draw((0, seed, step), count, False),
    lambda count: draw((1,), count, True),
    puzzles.LENGTH,
    puzzles.solved,
  )


def text(loaded, length, rows, seed) -> Task:
  """Canvases of `length`, empty at first; the texts are the model's own."""
  build = lambda params, _: (loaded.denoiser(params), samplers.uniform(1))
  write = punt_jax.compile(build)

  def texts(seed, count):
    empty = np.full((count, length), loaded.text.vocab, np.int32)
    key = jax.random.key(seed)
    tokens = np.asarray(write(loaded.params, (), key, empty).tokens)
    return tokens, np.zeros(tokens.shape, bool)

  own, given = texts(seed + 1, rows)

  def batch(step, count):
    chosen = np.random.default_rng((seed, step)).integers(rows, size=count)
    return own[chosen], given[chosen]

  return Task(loaded, batch, lambda count: texts(0, count), length)
