"""Tables as text: aligned for a terminal, or Markdown."""

import re
import shutil
from collections.abc import Iterable, Sequence

GAP = 2  # spaces between columns
HEAD, KEY = 10, 12  # characters of a head or a key that are not broken


def columns() -> int:
  """Columns of the terminal; 80 where there is none."""
  return shutil.get_terminal_size((80, 24)).columns


def table(
  heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1,
  markdown: bool = False, width: int | None = None,
) -> str:
  """Lines of cells, one string.

  What is too wide is broken: heads, then the keys, which are the cells of the
  columns on the left, at spaces, commas and underscores. If the numbers need
  still more room, they stand in several tables, each with the keys.

  Args:
    heads: names of the columns; a line break starts a second line.
    rows: cells, strings, as many as heads.
    left: columns that are aligned on the left; the others on the right.
    markdown: with bars, to be pasted, as wide as they are.
    width: characters of a line; None: see `columns`.
  """
  rows = [list(row) for row in rows]
  if markdown:
    rule = ['---'] * left + ['---:'] * (len(heads) - left)
    lines = [[head.replace('\n', ' ') for head in heads], rule, *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  room = width or columns()
  none = [''] * len(heads)
  sizes = [max(map(len, column)) for column in zip(none, *rows, strict=True)]
  tops = [head.split('\n') for head in heads]
  if taken(widest(sizes, tops)) > room:
    tops = [
      [part for line in top for part in broken(line, max(size, HEAD))]
      for top, size in zip(tops, sizes, strict=True)
    ]
  widths = widest(sizes, tops)
  if taken(widths) > room:
    spare = room - sum(widths[left:]) - GAP * (len(widths) - 1)
    least = left * (KEY + 3)  # narrower keys get too high
    spare = spare if spare >= least else room // 2
    widths[:left] = shrunk(widths[:left], spare)
  return '\n\n'.join(
    block(
      [[part for line in tops[i] for part in broken(line, widths[i])]
       for i in group],
      [[broken(row[i], widths[i]) for i in group] for row in rows],
      [widths[i] for i in group], left,
    )
    for group in groups(widths, left, room)
  )


def taken(widths: Sequence[int]) -> int:
  """Characters of a line of columns."""
  return sum(widths) + GAP * (len(widths) - 1)


def widest(sizes: Sequence[int], tops: Sequence[Sequence[str]]) -> list[int]:
  """The width of each column: of its cells and of its head's lines."""
  return [
    max([size, *map(len, top)]) for size, top in zip(sizes, tops, strict=True)
  ]


def shrunk(widths: Sequence[int], room: int) -> list[int]:
  """Widths that sum to `room` at most, the largest cut, none below KEY."""
  widths = list(widths)
  while sum(widths) > room and max(widths) > KEY:
    widths[widths.index(max(widths))] -= 1
  return widths


def groups(widths: Sequence[int], left: int, room: int) -> list[list[int]]:
  """Columns that stand side by side; the first `left` in every group."""
  keys = [*range(left)]
  found = [keys[:]]
  for i in range(left, len(widths)):
    if taken([widths[j] for j in [*found[-1], i]]) > room and (
      len(found[-1]) > left
    ):
      found.append(keys[:])
    found[-1].append(i)
  return found


def broken(cell: str, width: int) -> list[str]:
  """The lines of a cell, at most `width` characters each."""
  lines = ['']
  for piece in re.split(r'(?<=[\s,_/])', cell):
    if len((lines[-1] + piece).rstrip()) > width and lines[-1]:
      lines.append('')
    while len(piece.rstrip()) > width:
      lines[-1], piece = piece[:width], piece[width:]
      lines.append('')
    lines[-1] += piece
  return [line.rstrip() for line in lines]


def block(
  tops: Sequence[list[str]], rows: Iterable[Sequence[list[str]]],
  widths: Sequence[int], left: int,
) -> str:
  """Heads (lines of each column) and rows (of lists of lines) as text."""
  align = [str.ljust] * left + [str.rjust] * (len(widths) - left)
  deep = max(map(len, tops))
  lines = [*zip(*([''] * (deep - len(top)) + top for top in tops), strict=True)]
  for row in rows:
    high = max(map(len, row))
    lines += zip(*(x + [''] * (high - len(x)) for x in row), strict=True)
  return '\n'.join(
    (' ' * GAP).join(
      put(cell, width)
      for put, cell, width in zip(align, line, widths, strict=True)
    ).rstrip()
    for line in lines
  )


def number(
  mean: float | None, error: float | None = None, digits: int = 3
) -> str:
  """'0.123 +- 0.004' as a cell; '-' for None."""
  if mean is None:
    return '-'
  said = f'{mean:.{digits}f}'
  return said if error is None else f'{said} +- {error:.{digits}f}'
