"""Small Sudoku: grids of 6 x 6 whose rows, columns and 2 x 3 boxes hold 1 to 6.

A task for orders of generation: with few clues many grids fit, cells depend on
each other in ways that differ from puzzle to puzzle, and whether an answer is
right is decided exactly. There are 28,200,960 grids, 39,168 for each first row,
so all are enumerated up to a relabeling, and a uniform grid is one of those
with random labels. A sixteenth of the grids, by a checksum, is never trained
on; puzzles that test come from it.
"""

import functools
import itertools
import math
import zlib

import numpy as np

SIDE = 6
LENGTH = SIDE * SIDE
ALPHABET = '123456'
COUNT = 28_200_960  # grids; the test of `canonical` counts them
HELD_OUT = 16  # one grid in so many


@functools.cache
def canonical():
  """(39168, 36) uint8: every grid whose first row is 0, 1, ..., 5."""
  rows = np.array(list(itertools.permutations(range(SIDE))), np.uint8)
  left = np.sort(rows[:, :3])  # what a row puts into its left box
  apart = (rows[:, None] != rows).all(-1)  # (720, 720): may share a grid
  boxed = apart & (left[:, None, :, None] != left[:, None]).all((-1, -2))
  found = np.zeros((1, 1), int)  # indices of rows
  for r in range(1, SIDE):
    fits = (boxed if r % 2 else apart)[found[:, -1]]
    for k in range(r - 1):
      fits &= apart[found[:, k]]
    old, new = np.nonzero(fits)
    found = np.concatenate([found[old], new[:, None]], -1)
  return rows[found].reshape(-1, LENGTH)


def grids(rng, count):
  """(count, 36) int32: grids, uniform over all of them, ids 0 .. 5."""
  chosen = canonical()[rng.integers(len(canonical()), size=count)]
  labels = rng.permuted(np.tile(np.arange(SIDE), (count, 1)), axis=1)
  return np.take_along_axis(labels, chosen.astype(int), 1).astype(np.int32)


def held_out(tokens):
  """(N,) bool: which grids (N, 36) are not for training."""
  sums = [zlib.crc32(row.astype(np.uint8).tobytes()) for row in tokens]
  return np.array(sums) % HELD_OUT == 0


def draw(rng, count, test):
  """(count, 36) grids, all of them held out or none."""
  found, share = np.zeros((0, LENGTH), np.int32), 1 / HELD_OUT
  while len(found) < count:
    missing = (count - len(found)) / (share if test else 1 - share)
    more = grids(rng, math.ceil(missing))
    found = np.concatenate([found, more[held_out(more) == test]])
  return found[:count]


def groups():
  """(18, 6): positions of each row, column and box."""
  cell = np.arange(LENGTH).reshape(SIDE, SIDE)
  boxes = cell.reshape(3, 2, 2, 3).swapaxes(1, 2).reshape(SIDE, SIDE)
  return np.concatenate([cell, cell.T, boxes])


def solved(tokens):
  """(N,) bool: complete grids (N, 36) without a repeat in any group."""
  inside = np.sort(np.asarray(tokens)[:, groups()], -1)
  return (inside == np.arange(SIDE)).all((1, 2))


def clues(rng, count, shown):
  """(count, 36) bool: as many random cells as `shown` says of each puzzle."""
  order = rng.permuted(np.tile(np.arange(LENGTH), (count, 1)), axis=1)
  return order < shown
