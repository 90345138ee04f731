"""What every picture must be: no text leaves it, no title lies on another."""

import itertools


def texts(figure):
  """{what it is: the matplotlib Texts that are drawn}."""
  found = {'title': [], 'label': [], 'tick': [], 'legend': [], 'note': []}
  for part in (figure, *figure.subfigs):
    for text in (part._suptitle, part._supxlabel, part._supylabel):
      found['title'] += [text] * (text is not None)
    found['note'] += part.texts
    for legend in part.legends:
      found['legend'] += [*legend.get_texts(), legend.get_title()]
  for axes in figure.get_axes():
    if not (axes.get_visible() and axes.axison):
      continue
    found['title'] += [axes.title, axes._left_title, axes._right_title]
    found['note'] += axes.texts
    if axes.get_legend():
      found['legend'] += axes.get_legend().get_texts()
    for axis in (axes.xaxis, axes.yaxis):
      found['label'].append(axis.label)
      for tick in axis._update_ticks():
        found['tick'] += [tick.label1, tick.label2]
  shown = lambda text: text.get_visible() and text.get_text().strip()
  return {kind: [*filter(shown, some)] for kind, some in found.items()}


def check(figure):
  """Asserts it; draws the figure."""
  figure.draw_without_rendering()
  found, inside = texts(figure), figure.bbox.padded(1)
  for text in itertools.chain(*found.values()):
    box = text.get_window_extent()
    corners = ((box.x0, box.y0), (box.x1, box.y1))
    assert all(inside.contains(*x) for x in corners), (
      f'{text.get_text()!r} leaves the picture: {box}'
    )
  for one, other in itertools.combinations(found['title'], 2):
    a, b = one.get_window_extent(), other.get_window_extent()
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    assert min(wide, high) < 2, (
      f'{one.get_text()!r} and {other.get_text()!r} lie on each other'
    )
