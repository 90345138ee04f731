"""Rows of results.jsonl: what columns hold, and a row in a line.

Standard errors end in _error, what as many exact samples show in _floor.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from punt_jax.viz.table import number

TYPES = {  # of the columns that experiments share; numbers may be None
  'schema': int, 'experiment': str, 'subject': str, 'length': int,
  'sampler': str, 'settings': dict, 'origin': dict,
  'rows': int,  # canvases that were filled
  'seconds': float,  # of decoding, with compilation if that was needed
  'took': float,  # seconds of the row, all that was built for it included
  'temperature': float,  # of the drafts
  'nfe': float,  # forward passes of a canvas, mean
  'nfe_low': float, 'nfe_median': float, 'nfe_high': float,
  'depth': float,  # questions asked one after another
  'steps': float, 'forwards': list,  # passes of each device
  'warm_up': int,  # forward passes beforehand
  'gap': float,  # factorization gap, nats per canvas
  'excess_nll': float,  # nats per token
  'unigram_tv': float, 'pair_tv': float,  # probability
  'impossible': float,  # share of canvases
  'agreement': float,  # share of tokens that are the likeliest
  'log_p': float,  # nats per token
}


def check(
  row: dict[str, Any], others: Sequence[dict[str, Any]] = ()
) -> None:
  """Raises TypeError if a column has another type here than in other rows."""
  for key, value in row.items():
    kind = TYPES.get(key.removesuffix('_error').removesuffix('_floor'))
    seen = (type(x[key]) for x in others if x.get(key) is not None)
    kind = kind or next(seen, None)
    if value is not None and kind and not isinstance(value, kind):
      raise TypeError(
        f'{key} is {value!r:.40}, and the column holds {kind.__name__}'
      )


def label(row: dict[str, Any]) -> str:
  """Its settings in a line."""
  return words(row['settings'])


def words(values: Mapping[str, Any]) -> str:
  """A dict in a line."""
  short = lambda x: f'{x:g}' if isinstance(x, float) else str(x)
  return ', '.join(f'{k} {short(v)}' for k, v in values.items())


def line(
  row: dict[str, Any], shown: Iterable[str],
  about: Mapping[str, Any] | tuple[()] = (),
) -> str:
  """A finished row in a line: what it is about, and some of its columns."""
  said = [f'{row["subject"]} {row["length"]} {row["sampler"]}', label(row)]
  said.append(words(dict(about)))
  for key in shown:
    if key in row:
      said.append(f'{key} {number(row[key], row.get(f"{key}_error"))}')
  return ', '.join(filter(None, said))


def finite(value: Any) -> float | None:
  """A finite float, or None: JSON knows no other."""
  good = isinstance(value, (int, float)) and math.isfinite(value)
  return float(value) if good else None
