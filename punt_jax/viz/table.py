"""Tables as text: aligned for a terminal, or Markdown."""

from collections.abc import Iterable, Sequence


def table(
  heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1,
  markdown: bool = False,
) -> str:
  """Lines of cells, one string.

  Args:
    heads: names of the columns; a line break starts a second line.
    rows: cells, strings, as many as heads.
    left: columns that are aligned on the left; the others on the right.
    markdown: with bars, to be pasted.
  """
  if markdown:
    rule = ['---'] * left + ['---:'] * (len(heads) - left)
    lines = [[head.replace('\n', ' ') for head in heads], rule, *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  depth = max(head.count('\n') for head in heads) + 1
  split = [head.split('\n') for head in heads]
  split = [[''] * (depth - len(head)) + head for head in split]
  lines = [*zip(*split, strict=True), *rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  align = [str.ljust] * left + [str.rjust] * (len(heads) - left)
  return '\n'.join(
    '  '.join(
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
