"""Bits under exclusive-or constraints: dependence that no pair shows.

Every probability is a power of two, so conditionals are exact in float32 and
ties are ties. The two smallest cases are the ones that matter for PUNT (whose
tests show an anchor set to one position at a time): the joint effect in `xor`
is caught, the one in `hidden_xor` slips through every test.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from punt_jax.checks import shown, whole
from punt_jax.oracles.table import table
from punt_jax.oracles.world import World


def parity(length: int, checks: Sequence[Sequence[int]]) -> World:
  """Uniform over the bit strings in which each check's positions xor to 0.

  Three bits of which the last is the xor of the others:

  >>> world = parity(3, [(0, 1, 2)])
  >>> float(np.exp(world.log_prob(np.array([0, 1, 1]))))
  0.25

  Args:
    length: L; V is 2.
    checks: tuples of positions, each of even parity.

  Raises:
    ValueError: there is no such position, or more than 20.
  """
  whole('length', length, 1, 20)
  try:
    checks = [tuple(check) for check in checks]
  except TypeError:
    raise ValueError(
      f'checks = {shown(checks)} must be tuples of positions'
    ) from None
  for check in checks:
    for position in check:
      whole('a position', position, -length)
      if not 0 <= position < length:
        raise ValueError(
          f'the check {tuple(check)} has the position {position}: there are'
          f' 0 .. {length - 1}'
        )
  bits = np.array(list(itertools.product((0, 1), repeat=length)))
  kept = np.ones(len(bits), bool)
  for check in checks:
    kept &= bits[:, list(check)].sum(1) % 2 == 0
  log_joint = np.where(kept, 0.0, -np.inf).astype(np.float32)
  return table(log_joint.reshape((2,) * length))


def xor() -> World:
  """Three bits, x_2 = x_0 xor x_1: PUNT's first test shows both to x_2."""
  return parity(3, [(0, 1, 2)])


def hidden_xor() -> World:
  """Four bits, x_3 = x_1 xor x_2, x_0 free: every test of PUNT misses it.

  All entropies are equal, so ranks follow positions and x_3 has code 11. It is
  tested against {x_0, x_1} and {x_0, x_2}, never against both x_1 and x_2.
  """
  return parity(4, [(1, 2, 3)])
