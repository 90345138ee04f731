"""Block sizes: what a list of them costs, and lists that cost little.

On the host, in float64. The cost is the exact identity of information.py, for
positions in uniformly random order; with an order that follows the model's
confidence the same sizes are a heuristic.
"""

import numpy as np

from punt_jax import contract
from punt_jax.checks import function, reals, shown, whole
from punt_jax.schedules.information import block_starts, finite
from punt_jax.types import ArrayLike, CountFn

MOST = 2**12  # positions: n ** 2 numbers


def expected_kl(profile: ArrayLike, sizes: ArrayLike) -> np.ndarray:
  """Mean over orders of KL(p || q), (...) nats, of block sizes.

  Args:
    profile: (..., n) nats.
    sizes: (K,) whole numbers >= 0 with sum n.

  Raises:
    ValueError: sizes that are not, or a profile that is not finite.
  """
  profile = finite(profile)
  starts = block_starts(sizes, profile.shape[-1])
  return (profile[..., starts] - profile).sum(-1)


def guarantee(sizes: ArrayLike) -> tuple[float, float]:
  """(a, b): expected_kl <= a TC and <= b DTC, whatever the distribution.

  Z rises by d_m >= 0 from m - 1 to m. A block of s positions from N on loses
  the sum over m in (N, N + s) of (N + s - m) d_m, TC is the sum of all (n - m)
  d_m and DTC that of all m d_m: compare each term.
  """
  total = reals('sizes', sizes).sum()
  if np.ndim(sizes) != 1 or not 1 <= total <= 2**24:
    raise ValueError(
      f'sizes = {shown(sizes)} must be whole numbers (K,) whose sum is at least'
      ' 1'
    )
  starts = block_starts(sizes, int(total))
  extra = np.bincount(starts)[starts] - 1  # s - 1 of a place's block
  rest = np.maximum(len(starts) - starts - 1, 1)
  return float((extra / rest).max()), float((extra / (starts + 1)).max())


def optimal(profile: ArrayLike, k: int) -> np.ndarray:
  """The k block sizes of least expected_kl, all >= 1, exactly.

  Dynamic programming over where the last block starts: O(n^2 k) time, O(n^2)
  memory. A noisy estimate should not increase: pass isotonic(its mean).

  Args:
    profile: (n,) nats.
    k: number of blocks.

  Returns:
    (k,) int.

  Raises:
    ValueError: a profile that is not finite, or k not a number from 1 to n.
  """
  profile = finite(profile)
  if profile.ndim != 1:
    raise ValueError(f'one profile (n,) is wanted, got {profile.shape}')
  n = len(profile)
  _check_blocks(k, n)
  # The sum over blocks of (sum over positions of h(N) - h(i)): what is
  # subtracted is the same for all sizes.
  start, end = np.indices((n, n + 1))
  block = np.where(end > start, (end - start) * profile[:, None], np.inf)
  cost, before = block[0], []
  for _ in range(k - 1):
    through = cost[:n, None] + block
    before.append(through.argmin(0))
    cost = through.min(0)
  marks = [n]
  for choice in reversed(before):
    marks.append(int(choice[marks[-1]]))
  return np.diff([0, *reversed(marks)])


def inverse_root(profile: ArrayLike, k: int) -> np.ndarray:
  """k block sizes in proportion to Z'(N) ^ (-1/2), each at least 1.

  The optimum where the curve is smooth and blocks are many: the cost is then
  the sum of s^2 Z' / 2 (calculus of variations; Lavenant and Zanella
  https://arxiv.org/abs/2510.25544 have the idea, this form is ours). Where the
  curve falls it counts as flat.

  Arguments, result and errors as in `optimal`.
  """
  profile = finite(profile)
  if profile.ndim != 1:
    raise ValueError(f'one profile (n,) is wanted, got {profile.shape}')
  n = len(profile)
  _check_blocks(k, n)
  # A rise of Z from m - 1 to m is gone if a block ends at m: the density of
  # ends lives on (m - 1/2, m + 1/2).
  density = np.sqrt(np.maximum(profile[:-1] - profile[1:], 0))
  density += 1e-6 * density.max(initial=0) or 1.0
  mass = np.concatenate([[0.0], density.cumsum()])
  goal = mass[-1] * np.arange(1, k) / k
  marks = np.rint(np.interp(goal, mass, np.arange(n) + 0.5)).astype(int)
  # Each block holds a position at least, from the left and from the right.
  place = np.arange(1, k)
  marks = np.maximum.accumulate(np.maximum(marks, place) - place) + place
  marks = np.minimum(marks, n - k + place)
  return np.diff([0, *marks, n])


def sizes_of(schedule: CountFn, n: int) -> np.ndarray:
  """(K,) the block sizes of a count schedule on n open positions.

  As samplers apply it: rounded down, at least 1, at most what is left.
  """
  function('schedule', schedule)
  what = f'the schedule {contract.name_of(schedule)}'
  sizes, left = [], whole('n', n, 0, 2**24)
  while left:
    count = float(contract.number(what, schedule(len(sizes), n, left)))
    if np.isnan(count):
      raise ValueError(f'{what} returned NaN at step {len(sizes)}')
    count = int(np.floor(np.clip(count, 1, left)))
    sizes.append(min(max(count, 1), left))
    left -= sizes[-1]
  return np.array(sizes)


def _check_blocks(k, n):
  whole('n', n, 1, MOST)
  if not isinstance(k, (int, np.integer)) or not 1 <= k <= n:
    raise ValueError(f'{n} positions cannot be cut into {shown(k)} blocks')
