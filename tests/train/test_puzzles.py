"""Small Sudoku: every grid, drawn uniformly, and who is right."""

import ml_collections
import numpy as np
import pytest

from configs import sudoku
from punt_jax import checkpoints
from train import data, puzzles
from train.orders import tasks

GRID = """
  123456
  456123
  231564
  564231
  312645
  645312
"""


def ids(string):
  return np.array([int(c) - 1 for c in string if c.isdigit()])


def test_all_grids_are_counted():
  # The number of 6 x 6 Sudoku grids is known: 28,200,960.
  found = puzzles.canonical()
  assert len(found) * 720 == puzzles.COUNT == 28_200_960
  assert len(np.unique(found, axis=0)) == len(found)
  assert (found[:, :6] == np.arange(6)).all()
  assert puzzles.solved(found).all()


def test_what_is_solved():
  right = ids(GRID)
  assert puzzles.solved(right[None]).all()
  swapped = right.copy()
  swapped[[0, 1]] = right[[1, 0]]  # its row and box are fine, columns are not
  boxes = right.reshape(6, 6)[[0, 2, 1, 3, 4, 5]].ravel()  # boxes alone break
  masked = right.copy()
  masked[7] = puzzles.SIDE
  assert not puzzles.solved(np.stack([swapped, boxes, masked])).any()


def test_grids_are_uniform_and_held_out_ones_apart():
  rng = np.random.default_rng(0)
  train = puzzles.draw(rng, 4000, False)
  test = puzzles.draw(rng, 500, True)
  assert puzzles.solved(train).all() and puzzles.solved(test).all()
  assert puzzles.held_out(test).all() and not puzzles.held_out(train).any()
  # 4,000 draws of 6 digits at each cell, pairs of cells included.
  first = np.bincount(train[:, 0], minlength=6) / 4000
  np.testing.assert_allclose(first, 1 / 6, atol=0.03)
  # Cell (2, 0) differs from (0, 0) and (1, 0) and is uniform over the rest.
  pair = np.bincount((train[:, 12] - train[:, 0]) % 6, minlength=6) / 4000
  np.testing.assert_allclose(pair, [0] + 5 * [1 / 5], atol=0.03)


def test_clues_are_as_many_as_asked():
  given = puzzles.clues(np.random.default_rng(0), 200, 8)
  assert (given.sum(1) == 8).all()
  assert (given.mean(0) > 0.1).all()  # any cell: 8 / 36 = 0.22 on average


def test_grids_are_data_for_the_trainer():
  config = sudoku.get_config()
  config.data.heldout = 8
  found = data.load(config)
  assert found.vocab == 6 and found.heldout.shape == (8, 36)
  assert puzzles.held_out(found.heldout).all()
  first, again = found.batch(3), found.batch(3)
  np.testing.assert_array_equal(first, again)
  assert (first != found.batch(4)).any()
  assert not puzzles.held_out(first).any()
  assert found.floor == pytest.approx(np.log(28_200_960) / 36)


def test_the_shipped_model_is_close_to_the_exact_distribution():
  card = checkpoints.load('sudoku').card
  floor = np.log2(28_200_960) / 36
  assert floor < card['heldout_bits'] + 3 * card['heldout_bits_error']
  assert card['heldout_bits'] < 1.3 * floor  # a fresh model's: 2.58


def test_a_task_draws_the_same_again_and_tests_on_others():
  config = ml_collections.ConfigDict({'task': {'model': 'sudoku', 'clues': 8}})
  task = tasks.load(config, seed=1)
  tokens, given = task.batch(5, 4)
  np.testing.assert_array_equal(tokens, task.batch(5, 4)[0])
  assert (given.sum(1) == 8).all() and task.right(tokens).all()
  assert (tokens != tasks.load(config, seed=2).batch(5, 4)[0]).any()
  assert puzzles.held_out(task.test(6)[0]).all()
  config.task.clues = 36
  with pytest.raises(ValueError, match='clues = 36 is out of range'):
    tasks.load(config, seed=0)


def test_a_canvas_larger_than_the_grid_is_refused():
  loaded = checkpoints.load('sudoku')
  model = loaded.denoiser(loaded.params)
  tokens = np.full((1, 37), 6)
  memo = model.init(tokens, tokens == 6)
  with pytest.raises(ValueError, match='37 positions, and this model knows 36'):
    model.ask(memo, tokens, np.ones(1, bool))
