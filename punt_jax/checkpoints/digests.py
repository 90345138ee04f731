"""What arrays are, whatever they are called and wherever they lie."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.typing import ArrayLike


def of(about: Any, leaves: Iterable[tuple[str, ArrayLike]]) -> str:
  """SHA-256, in hexadecimal, of a JSON value and of arrays by name.

  Of arrays: dtypes, shapes and bytes. They are read to the host one at a time:
  seconds for each GB.
  """
  found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
  for name, leaf in leaves:
    array = np.ascontiguousarray(leaf)
    found.update(f'{name} {array.dtype} {np.shape(leaf)}'.encode())
    found.update(array.reshape(-1).view(np.uint8).data)
  return found.hexdigest()
