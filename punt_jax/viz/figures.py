"""Figures none of whose texts is cut off.

matplotlib breaks no line and makes no figure larger: a long title leaves the
picture on both sides, and a long legend above and below. `save` breaks the
titles and labels that are wider than their place, and then makes the figure as
large as what is still outside asks for.
"""

import textwrap
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from punt_jax import files
from punt_jax.types import FilePath

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt

TRIES = 12  # the layout moves when a line is broken
SLACK = 0.01  # inches


def save(figure: Figure, path: FilePath, dpi: int = 110) -> None:
  """Writes the PNG, all texts in it, and forgets the figure."""
  fit(figure)
  with files.replacing(path) as part:
    figure.savefig(part, dpi=dpi)
  plt.close(figure)


def fit(figure: Figure) -> None:
  """Breaks titles and labels, and makes room, until all texts are inside."""
  said: dict[Text, str] = {}  # before it was broken
  for _ in range(TRIES):
    fits = lay_out(figure)
    broken = [
      break_lines(text, said.setdefault(text, text.get_text()), room)
      for part in parts(figure) for text, room in titles(part)
    ]
    if any(broken):
      fits = lay_out(figure)
    width, height = figure.get_size_inches()
    left, low, right, high = figure.get_tightbbox().extents
    # What is centered sticks out on both sides.
    over, above = (
      2 * lacking if lacking > SLACK else 0
      for lacking in (max(-left, right - width), max(-low, high - height))
    )
    if over or above or not fits:
      much = 1.0 if fits else 1.25
      figure.set_size_inches(width * much + over, height * much + above)
    elif not any(broken):
      return


def lay_out(figure: Figure) -> bool:
  """Whether matplotlib found room for the axes beside what is around them."""
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('always')
    figure.draw_without_rendering()
  return not any('collapsed' in str(warning.message) for warning in said)


def parts(figure: Figure | SubFigure) -> Iterator[Figure | SubFigure]:
  """A figure and the figures in it."""
  yield figure
  for part in figure.subfigs:
    yield from parts(part)


def titles(figure: Figure | SubFigure) -> Iterator[tuple[Text, float]]:
  """Titles and labels, each with the pixels that its lines may take."""
  wide, high = figure.bbox.width, figure.bbox.height
  for name, room in (
    ('_suptitle', wide), ('_supxlabel', wide), ('_supylabel', high)
  ):
    text = getattr(figure, name)
    if text is not None:
      yield text, room - 8
  axes: list[Axes] = figure.get_axes()  # pyright: ignore
  for axis in axes:
    if axis.figure is not figure or not axis.get_visible():
      continue
    box = axis.get_window_extent()
    for name in ('title', '_left_title', '_right_title'):
      yield getattr(axis, name), box.width + 8
    for text in (axis.xaxis.label, axis.yaxis.label):
      yield text, 8 + (box.height if text.get_rotation() else box.width)


def break_lines(text: Text, said: str, room: float) -> bool:
  """Breaks a text whose lines take more pixels than `room` -> whether it did.

  Args:
    text: as it is drawn, of which some lines may be broken already.
    said: what it said at first.
    room: pixels.
  """
  angle = text.get_rotation()
  if not said or not text.get_visible() or angle % 90:
    return False
  box, before = text.get_window_extent(), text.get_text()
  taken = box.height if angle % 180 else box.width
  if taken <= room:
    return False
  most = max(map(len, before.split('\n')))
  most = max(8, min(most - 1, int(most * max(0, room) / taken)))
  text.set_text('\n'.join(
    textwrap.fill(line, most, break_long_words=False, break_on_hyphens=False)
    for line in said.split('\n')
  ))
  return text.get_text() != before
