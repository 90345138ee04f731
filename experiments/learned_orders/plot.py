"""What came out for learned orders: a table and a picture."""

import math
from typing import NamedTuple

import numpy as np

from punt_jax import files
from punt_jax.cli import plots
from punt_jax.cli.plots import plt
from punt_jax.viz.table import number, table

GAP = 2.5  # times as many passes: nothing is said between points so far apart
END = 0.1  # as a share: so close to an end of a line counts as the end
COLORS = {  # of the learned ones
  'variational': '#1d6fb8', 'reinforce': '#c1121f',
  'reinforce, biased': '#f4845f', 'pairs': '#1b7f4b',
  'pairs, 1 probe': '#63b17a', 'pairs, 2 probes': '#a6d3a0',
}
OTHERS = (
  'independent', 'one by one', 'top probability', 'margin', 'threshold',
  'entropy bound', 'punt', 'punt by confidence',
)
AXIS = {
  'accuracy': 'puzzles solved (share)\nhigher is better',
  'excess_nll': 'excess NLL (nats per token)\ncloser to 0 is better',
}


class Setting(NamedTuple):
  """A setting of a contender, mean over its seeds."""

  nfe: float
  nfe_error: float
  value: float
  value_error: float  # standard error, of seeds and items
  seeds: int


def judged(row):
  """The key under which a row holds what counts."""
  return 'accuracy' if 'accuracy' in row else 'excess_nll'


def lines(rows):
  """{contender: its Settings by NFE}."""
  groups = {}
  for row in rows:
    setting = str((sorted(row['settings'].items()), row['cost']))
    own = groups.setdefault(row['sampler'], {})
    own.setdefault(setting, []).append(row)
  return {
    name: sorted(map(mean, own.values())) for name, own in groups.items()
  }


def mean(rows):
  """The Setting of its seeds' rows.

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
  return Setting(
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
  between = lambda key: float(
    np.interp(passes, nfe, [getattr(p, key) for p in line])
  )
  return between('value'), between('value_error')


def best(line, key):
  """The Setting of highest accuracy, or of least excess."""
  sign = 1 if key == 'accuracy' else -1
  return max(line, key=lambda p: sign * p.value)


def compare(rows, columns):
  """A line per contender: what it reaches at so many passes, and its best."""
  key, cells = judged(rows[0]), []
  for name, line in lines(rows).items():
    top = best(line, key)
    cells.append([
      name, *(number(*(at(line, n) or (None,))) for n in columns),
      number(top.value, top.value_error), f'({top.nfe:.1f})',
      '-'.join(map(str, sorted({p.seeds for p in line}))),
    ])
  heads = ['', *(f'{n} passes' for n in columns), 'best', '(at)', 'seeds']
  said = 'share of puzzles solved'
  if key != 'accuracy':
    said = 'excess NLL, nats per token'
  return (
    f'{said}, of {rows[0]["rows"]} canvases,\nmean over the seeds +- standard'
    ' error of both, at so many passes on average\n'
  ) + table(heads, cells)


def write(workdir, rows, columns):
  """Writes table.txt and learned_orders.png, and prints the former.

  Args:
    workdir: pathlib.Path.
    rows: of results.jsonl.
    columns: passes at which the table compares.
  """
  text = compare(rows, columns)
  files.write(workdir / 'table.txt', text + '\n')
  print(text)
  trained = [row for row in rows if row['sampler'] == 'reinforce']
  widths = [9, 5] if trained else [9]  # inches
  figure, axes = plt.subplots(
    1, len(widths), squeeze=False, layout='constrained',
    figsize=(sum(widths), 5.2), width_ratios=widths,
  )
  frontier(axes[0, 0], rows)
  if trained:
    costs(axes[0, 1], trained)
  plots.save(figure, workdir / 'learned_orders.png')


def frontier(axis, rows):
  """A line per contender against passes."""
  key = judged(rows[0])
  for name, line in lines(rows).items():
    plots.curve(
      axis, [p._asdict() for p in broken(line)], 'value', name, capsize=2,
      markersize=5, **look(name),
    )
  axis.set_title(
    f'{rows[0]["rows"]} canvases; a point per setting, mean over seeds\n'
    'bars: one standard error, of seeds and canvases', fontsize=10,
  )
  plots.clean(axis, plots.PASSES, AXIS[key])
  plots.log_passes(axis, max(row['nfe'] for row in rows))
  if key == 'excess_nll':
    axis.axhline(0, color='0.6', linewidth=0.8)
  axis.legend(frameon=False, fontsize=8)


def look(name):
  """How the curve of a contender looks: the same in every picture."""
  if name in COLORS:
    return dict(color=COLORS[name], marker='o', linewidth=2.4, zorder=3)
  return plots.look(OTHERS.index(name)) | dict(linewidth=1, zorder=2)


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
  plots.clean(axis, 'steps per canvas', AXIS['accuracy'])
  axis.legend(frameon=False, fontsize=8, title='cost of a step')
