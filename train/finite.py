"""No NaN, no infinity: neither in what a run says nor in what it keeps."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax.types import Tree


def numbers(
  recent: list[Mapping[str, Any]], step: int, manager: Any
) -> list[dict[str, float]]:
  """The values of the last steps, up to `step`, as floats.

  Raises:
    ValueError: see `check`; it names the first step.
  """
  found = [{k: float(v) for k, v in x.items()} for x in jax.device_get(recent)]
  for n, values in enumerate(found, step - len(found) + 1):
    check(values, n, manager)
  return found


def check(values: Mapping[str, Any], step: int, manager: Any) -> None:
  """Checks what a step, or the test after it, has given.

  Args:
    values: {name: number}.
    step: the number of updates done.
    manager: of the run's checkpoints.

  Raises:
    ValueError: one sentence: a value is NaN or infinite.
  """
  for name, value in values.items():
    if not math.isfinite(value):
      raise ValueError(_sentence(f'{name} is {value} at step {step}', manager))


def check_state(state: Tree, step: int, manager: Any) -> None:
  """Checks all that a checkpoint would keep; see `check`."""
  name = leaf(state)
  if name:
    what = f'{name} is not finite after step {step}'
    raise ValueError(_sentence(what, manager))


def leaf(tree: Tree) -> str | None:
  """The path of the first leaf with NaN or an infinity in it, or None."""
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(x)
    inexact = jnp.issubdtype(array.dtype, jnp.inexact)  # bfloat16 is one, too
    if inexact and not np.isfinite(array.astype(np.float32)).all():
      return jax.tree_util.keystr(path, simple=True, separator='.')
  return None


def _sentence(what, manager):
  last = manager.latest_step()
  kept = 'nothing has been saved' if last is None else (
    f'the checkpoint of step {last} stays'
  )
  return (
    f'{what}: training stops, and {kept}; use lower rates, a longer warmup or a'
    ' smaller clip, in another --workdir'
  )
