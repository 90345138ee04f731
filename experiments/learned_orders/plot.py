"""What came out for learned orders: a table and a picture."""

import math
from typing import NamedTuple

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
import numpy as np

GAP = 2.5  # times as many passes: nothing is said between points so far apart
END = 0.1  # as a share: so close to an end of a line counts as the end
COLORS = {  # of the learned ones
  'variational': '#1d6fb8', 'reinforce': '#c1121f',
  'reinforce, biased': '#f4845f', 'pairs': '#1b7f4b',
  'pairs, 1 probe': '#63b17a', 'pairs, 2 probes': '#a6d3a0',
}
MUTED = (  # of the others, in turn
  '0.75', '0.15', '#b5793b', '#d9b38c', '#7f6fa8', '#3fa7a7', '#c77cb0',
  '#e3b5d4',
)
MARKERS = 's*^D<>PX'
AXIS = {
  'accuracy': 'puzzles solved (share)\nhigher is better',
  'excess_nll': 'excess NLL (nats per token)\ncloser to 0 is better',
}


class Point(NamedTuple):
  """A setting of a contender, mean over its seeds."""

  nfe: float
  nfe_error: float
  value: float
  error: float  # standard error, of seeds and items
  seeds: int


def judged(row):
  """The key under which a row holds what counts."""
  return 'accuracy' if 'accuracy' in row else 'excess_nll'


def lines(rows):
  """{contender: its Points by NFE}, one for each setting of its knobs."""
  groups = {}
  for row in rows:
    setting = str((sorted(row['knobs'].items()), row['cost']))
    own = groups.setdefault(row['contender'], {})
    own.setdefault(setting, []).append(row)
  return {
    name: sorted(map(point, own.values())) for name, own in groups.items()
  }


def point(rows):
  """The Point of one setting's seeds.

  All seeds fill the same canvases. So the error of one seed, which is that of
  the items, is not divided by their number; it holds the chance of decoding
  too, which is thereby counted twice.
  """
  column = lambda key: np.array([row[key] for row in rows])
  spread = lambda x: x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else 0.0
  both = lambda key: float(np.hypot(
    spread(column(key)), np.sqrt((column(f'{key}_error') ** 2).mean())
  ))
  key = judged(rows[0])
  return Point(
    float(column('nfe').mean()), both('nfe'), float(column(key).mean()),
    both(key), len(rows),
  )


def at(line, passes):
  """(value, error) between two points of a line, or None: no two are near."""
  nfe = [p.nfe for p in line]
  if not nfe[0] * (1 - END) <= passes <= nfe[-1] * (1 + END):
    return None
  below, above = (
    [n for n in nfe if n <= passes * (1 + END)],
    [n for n in nfe if n >= passes * (1 - END)],
  )
  if min(above) > GAP * max(below):
    return None
  between = lambda column: float(np.interp(passes, nfe, column))
  return between([p.value for p in line]), between([p.error for p in line])


def best(line, key):
  """The Point of highest accuracy, or of least excess."""
  sign = 1 if key == 'accuracy' else -1
  return max(line, key=lambda p: sign * p.value)


def table(rows, columns):
  """A line per contender: what it reaches at so many passes, and its best."""
  key = judged(rows[0])
  said = {'accuracy': 'share of puzzles solved'}.get(
    key, 'excess NLL, nats per token'
  )
  head = (
    f'{said}, of {rows[0]["rows"]} canvases,\nmean over the seeds +- standard'
    ' error of both, at so many passes on average'
  )
  cell = lambda found: f'{found[0]:8.3f} +- {found[1]:.3f}' if found else (
    f'{"-":>8}{"":9}'
  )
  titles = ''.join(f'{f"{n} passes":>17}' for n in columns)
  body = [f'{"":20}{titles}{"best":>17}   (at) seeds']
  for name, line in lines(rows).items():
    top = best(line, key)
    cells = ''.join(cell(at(line, n)) for n in columns)
    where = f'({top.nfe:.1f})'
    seeds = '-'.join(map(str, sorted({p.seeds for p in line})))
    body.append(f'{name:20}{cells}{cell(top[2:])} {where:>6}{seeds:>6}')
  return '\n'.join([head, *body])


def write(workdir, rows, columns):
  """Writes table.txt and learned.png, and prints the former.

  Args:
    workdir: pathlib.Path.
    rows: of results.jsonl.
    columns: passes at which the table compares.
  """
  text = table(rows, columns)
  (workdir / 'table.txt').write_text(text + '\n')
  print(text)
  trained = [row for row in rows if row['contender'] == 'reinforce']
  widths = [9, 5] if trained else [9]  # inches
  figure, axes = plt.subplots(
    1, len(widths), squeeze=False, layout='constrained',
    figsize=(sum(widths), 5.2), width_ratios=widths,
  )
  frontier(axes[0, 0], rows)
  if trained:
    costs(axes[0, 1], trained)
  figure.savefig(workdir / 'learned.png', dpi=110)
  plt.close(figure)


def frontier(axis, rows):
  """A line per contender against passes."""
  key = judged(rows[0])
  for i, (name, line) in enumerate(lines(rows).items()):
    strong = name in COLORS
    line = broken(line)
    axis.errorbar(
      [p.nfe for p in line], [p.value for p in line],
      xerr=[p.nfe_error for p in line], yerr=[p.error for p in line],
      label=name, color=COLORS.get(name, MUTED[i % len(MUTED)]),
      marker='o' if strong else MARKERS[i % len(MARKERS)], markersize=5,
      linewidth=2.4 if strong else 1, capsize=2, zorder=3 if strong else 2,
    )
  axis.set_title(
    f'{rows[0]["rows"]} canvases; a point per setting, mean over seeds\n'
    'bars: one standard error, of seeds and canvases', fontsize=10,
  )
  finish(axis, 'forward passes per canvas (NFE)', AXIS[key])
  axis.set_xscale('log', base=2)
  axis.xaxis.set_major_formatter('{x:g}')
  if key == 'excess_nll':
    axis.axhline(0, color='0.6', linewidth=0.8)
  axis.legend(frameon=False, fontsize=8)


def broken(line):
  """The line with an empty point in each gap: nothing is drawn there."""
  found = line[:1]
  for last, new in zip(line, line[1:], strict=False):
    far = new.nfe > GAP * last.nfe
    found += [new._replace(value=math.nan)] * far + [new]
  return found


def costs(axis, rows):
  """The trainings of `reinforce`: a point for each, a color per step cost."""
  found = sorted({row['cost'] for row in rows})
  for i, cost in enumerate(found):
    own = [row for row in rows if row['cost'] == cost]
    axis.errorbar(
      [row['steps'] for row in own], [row['accuracy'] for row in own],
      yerr=[row['accuracy_error'] for row in own], linestyle='', capsize=2,
      marker='o', color=plt.get_cmap('viridis')(i / len(found)),
      label=f'{cost:g}',
    )
  axis.set_title(
    'reinforce: a point per training\nbars: one standard error, of canvases',
    fontsize=10,
  )
  finish(axis, 'steps per canvas', AXIS['accuracy'])
  axis.legend(frameon=False, fontsize=8, title='cost of a step')


def finish(axis, x, y):
  """Labels, a grid, no frame."""
  axis.set(xlabel=x, ylabel=y)
  axis.grid(color='0.93', zorder=0)
  axis.spines[['top', 'right']].set_visible(False)
