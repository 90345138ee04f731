"""What a person reads in the terminal: colored texts and a table."""

import os
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from punt_jax.viz import table as table_lib

# From early to late, ANSI 256 colors that read on dark and light grounds.
INKS = (63, 69, 38, 36, 71, 106, 142, 172, 166, 160)
BREAK = '↵'  # a line break inside a strip

HEAD = (
  'sampler', 'settings', 'passes', 'depth', 'steps', 'device\npasses',
  'seconds', 'characters\nper pass', 'bits per\ncharacter', 'distinct\n4-grams',
)
NOTES = """
passes: forward passes charged to a row, mean over {rows}; fewer is cheaper.
depth: of those, how many one after another. device passes: run for the whole
batch until its slowest row was done{busiest}. seconds: for all rows, {seconds}.
bits per character: the model's own bound (NELBO) on the texts, +- its standard
error over rows; lower is likelier to the model{real}. {reference}
Text that repeats itself is likely too, so see distinct 4-grams: higher is more
varied.
"""
REFERENCE = """
one_by_one takes no shortcut: what is above its score is the price of writing
in parallel.
"""


def colored(stream: TextIO) -> bool:
  """Whether to color: a terminal, and NO_COLOR is not set."""
  return stream.isatty() and not os.environ.get('NO_COLOR')


def ink(character: str, when: int, steps: int, color: bool) -> str:
  """One character in the color of its step; given ones (-1) stay plain."""
  if not color or when < 0:
    return character
  number = INKS[int(when * len(INKS) / max(steps, 1))]
  return f'\033[38;5;{number}m{character}\033[0m'


def legend(color: bool) -> str:
  """What the colors mean."""
  if not color:
    return '(In color on a terminal: which step wrote each character.)'
  ramp = ''.join(ink('██', i, len(INKS), color) for i in range(len(INKS)))
  return f'colors: first step {ramp} last step; given text plain'


def verse(
  letters: Sequence[str], when: Sequence[int], steps: int, color: bool,
  indent: str = '    ',
) -> str:
  """A text with its own line breaks.

  Args:
    letters: list of L strings.
    when: (L,) the step that wrote each, -1 if given.
    steps: how many steps there were.
    color: see `colored`.
    indent: before every line.
  """
  lines = [indent]
  for letter, t in zip(letters, when, strict=True):
    if letter == '\n':
      lines.append(indent)
    else:
      lines[-1] += ink(letter, t, steps, color)
  return '\n'.join(lines)


def dot(color: bool) -> str:
  """A mask."""
  return '\033[2m·\033[0m' if color else '·'


def wrapped(
  letters: Sequence[str], when: Sequence[int], steps: int, color: bool,
  width: int,
) -> list[str]:
  """Like verse, as lines of at most `width` characters.

  A letter may have several characters, line breaks among them; escape
  sequences in it take no room.
  """
  lines, room = [''], width
  for letter, t in zip(letters, when, strict=True):
    painted = letter.startswith('\033')
    for character in [letter] if painted else letter:
      if character == '\n' or not room:
        lines.append('')
        room = width
      if character != '\n':
        ready = character if painted else ink(character, t, steps, color)
        lines[-1] += ready
        room -= 1
  return lines


def strip(
  letters: Sequence[str], when: Sequence[int], steps: int, color: bool,
  width: int = 64,
) -> list[str]:
  """Like verse, as a list of lines of `width` characters."""
  cells = [BREAK if c == '\n' else c for c in letters]
  painted = [
    ink(c, t, steps, color) for c, t in zip(cells, when, strict=True)
  ]
  return [
    ''.join(painted[i : i + width]) for i in range(0, len(painted), width)
  ]


def strips(outcomes: Sequence[Any], row: int, color: bool) -> str:
  """One row of every sampler below each other, with its cost."""
  lines = []
  label = max(14, *(len(outcome.choice.name) for outcome in outcomes))
  width = min(64, max(8, table_lib.columns() - label - 4))
  for outcome in outcomes:
    letters, when, steps = outcome.row(row)
    body = strip(letters, when, steps, color, width)
    passes = counted(outcome.decoded.meter.nfe[row], 'pass', 'es')
    labels = [outcome.choice.name, passes] + [''] * len(body)
    lines += [
      f'  {a:>{label}}  {b}' for a, b in zip(labels, body, strict=False)
    ]
  return '\n'.join(lines)


def counted(number: float, thing: str, many: str = 's') -> str:
  """'1 row', '2 rows'."""
  return f'{number} {thing}' + (many if number != 1 else '')


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The table, from rows of results.jsonl."""
  return table_lib.table(HEAD, map(_cells, rows), 2)


def notes(
  rows: Sequence[dict[str, Any]], devices: int, heldout: float | None
) -> str:
  """How to read the table, in words for what is in it.

  Args:
    rows: of results.jsonl.
    devices: how many.
    heldout: bits per character of real text, or None.
  """
  real = ''
  if heldout is not None:
    cold = ', low temperatures go below' * (rows[0]['temperature'] < 1)
    real = f' (unseen real text: {heldout:.2f}{cold})'
  several = {r['sampler'] for r in rows} > {'one_by_one'}
  said = NOTES.format(
    rows=counted(rows[0]['rows'], 'row'),
    real=real,
    seconds='without compilation' + (
      f', spread over {devices} devices' if devices > 1 else ''
    ),
    busiest=', on the busiest device' if devices > 1 else '',
    reference=REFERENCE if several else '',
  )
  return textwrap.fill(' '.join(said.split()), min(80, table_lib.columns()))


def _cells(row):
  return (
    row['sampler'],
    row['label'],
    f'{row["nfe"]:.1f}',
    f'{row["depth"]:.1f}',
    f'{row["steps"]:.1f}',
    str(max(row['forwards'])),
    f'{row["seconds"]:.2f}',
    f'{row["characters_per_nfe"]:.2f}',
    table_lib.number(row['bits_per_character'], row['bits_error'], 2),
    f'{row["distinct_4"]:.2f}',
  )
