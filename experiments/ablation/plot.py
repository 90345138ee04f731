"""The ablation in one picture per world, and passes at equal error as a table.

In both, an error is one of ERRORS for runs at temperature 1 and one of FIT at
others.
"""

import numpy as np

from punt_jax import files
from punt_jax.cli import plots
from punt_jax.cli.plots import plt
from punt_jax.viz.table import number, table

ERRORS = {
  'gap': 'factorization gap (nats per canvas)',
  'unigram_tv': 'unigram TV (probability)',
}
FIT = {
  'log_p': 'mean log-probability (nats per token)',
  'agreement': 'share of likeliest tokens',
}
COLORS = (
  '#222222', '#c1121f', '#1f77b4', '#2ca02c', '#ff7f0e', '#9467bd', '#8c564b',
  '#17becf',
)
MARKERS = 'osDv^P<>X'
COLUMNS = 4


def write(workdir, rows, found, gaps, loss):
  """Writes table.txt and a PNG per world; returns the table.

  Args:
    workdir: a pathlib.Path.
    rows: of results.jsonl.
    found: {factor: {value: [(sampler, settings), ...]}}.
    gaps, loss: where values are compared, see `tables`.
  """
  said = []
  for subject in dict.fromkeys(row['subject'] for row in rows):
    here = [row for row in rows if row['subject'] == subject]
    factors = {
      factor: {value: line_of(here, one) for value, one in values.items()}
      for factor, values in found.items()
    }
    said.append(tables(subject, factors, gaps, loss))
    draw(workdir / f'ablation_{subject}.png', subject, factors)
  said = '\n'.join(said)
  files.write(workdir / 'table.txt', said)
  return said


def line_of(rows, every):
  """The rows of these (sampler, settings), by NFE."""
  same = lambda row, one: (row['sampler'], row['settings']) == one
  line = [next(row for row in rows if same(row, one)) for one in every]
  return sorted(line, key=lambda row: row['nfe'])


def tables(subject, factors, gaps, loss):
  """Forward passes of each value at equal error, as text.

  Args:
    subject: name of the world.
    factors: {factor: {value: rows by NFE}}.
    gaps: nats per canvas.
    loss: nats per token, at temperatures other than 1: how far the mean
      log-probability lies below that of the value with the fewest settings.
  """
  exact, other = [], []
  for factor, values in factors.items():
    if not at_one(values):
      other.append(fit_table(factor, values, loss))
      continue
    for value, line in values.items():
      error = [(row['gap'], row['gap_error']) for row in line]
      cells = [crossing(line, error, gap) for gap in gaps]
      cells = [*map(cell, cells), *there(line, cells[0])]
      exact.append([factor, value, *cells])
      factor = ''  # said once
  heads = ['factor', 'value', *(f'gap {x:g}' for x in gaps), 'unigram TV']
  return '\n\n'.join([
    f'{plots.title(subject)}: forward passes per canvas at equal error\n'
    + table([*heads, 'depth'], exact, left=2), *other,
  ]) + '\n'


def fit_table(factor, values, loss):
  """Passes at the same loss of log-probability; those of the exact one too."""
  exact = min(values.values(), key=len)[0]
  cells = []
  for value, line in values.items():
    error = [(exact['log_p'] - r['log_p'], r['log_p_error']) for r in line]
    alone = line[0]['nfe'], None
    found = crossing(line, error, loss) if len(line) > 1 else alone
    cells.append([value, cell(found)])
  head = f'mean log p {loss:g} nats per token below {exact["sampler"]}'
  return table([factor, head], cells)


def at_one(values):
  """Whether the curves of a factor are at temperature 1."""
  return all(
    row['settings']['temperature'] == 1 for line in values.values()
    for row in line
  )


def crossing(line, error, target):
  """Where a curve has this error: (NFE, its standard error), or None.

  Linear between two points of the curve, in the logarithm of the error. An
  error smaller than its own standard error counts as that much, and one that
  grows with NFE as the smallest so far.

  Args:
    line: rows by NFE.
    error: of each row, with its standard error.
    target: of the same units.
  """
  nfe = np.array([row['nfe'] for row in line])
  noise = np.array([e for _, e in error])
  value = np.minimum.accumulate([max(*pair, 1e-9) for pair in error])
  if len(line) < 2 or not value[-1] <= target <= value[0]:
    return None
  right = max(int((value <= target).argmax()), 1)
  ends = slice(right - 1, right + 1)
  steps, logs = np.diff(nfe[ends])[0], -np.diff(np.log(value[ends]))[0]
  share = np.log(value[right - 1] / target) / logs
  slope = steps / logs  # passes per factor e
  spread = slope * np.hypot(
    (1 - share) * noise[right - 1] / value[right - 1],
    share * noise[right] / value[right],
  )
  return nfe[right - 1] + share * steps, spread


def cell(found):
  return '-' if found is None else number(*found, digits=1)


def there(line, found):
  """Unigram TV (that of exact samples) and depth where a curve crosses."""
  if found is None:
    return '-', '-'
  tv, floor, depth = (
    np.interp(found[0], [row['nfe'] for row in line], [row[k] for row in line])
    for k in ('unigram_tv', 'unigram_tv_floor', 'depth')
  )
  return f'{number(tv)} ({number(floor)})', number(depth, digits=1)


def draw(path, subject, factors):
  """Two panels per factor, one below the other, a curve per value."""
  bands = -(-len(factors) // COLUMNS)
  figure, axes = plt.subplots(
    2 * bands, COLUMNS, figsize=(4.3 * COLUMNS, 6.4 * bands),
    layout='constrained', squeeze=False,
  )
  one = one_of(next(iter(factors.values())))
  figure.suptitle(
    f'PUNT with one thing changed at a time, on {plots.title(subject)}, '
    f'{one["length"]} tokens, {one["rows"]} canvases per point\n'
    'black: the base; a point per threshold; bars: one standard error; lower '
    'left is better, gap 0 is exact',
    fontsize=13,
  )
  for axis in axes.flat:
    axis.set_visible(False)
  gaps = []
  for i, (factor, values) in enumerate(factors.items()):
    band, column = divmod(i, COLUMNS)
    kinds = ERRORS if at_one(values) else FIT
    for down, (key, label) in enumerate(kinds.items()):
      axis = axes[2 * band + down, column]
      axis.set_visible(True)
      panel(axis, key, values, label)
      gaps += [axis] * (key == 'gap')
    top = axes[2 * band, column]
    heat = one_of(values)['settings']['temperature']
    at = '' if at_one(values) else f'\n(temperature {heat:g}: higher is better)'
    top.set_title(factor + at, fontsize=11)
    top.legend(fontsize=8, frameon=False)
    axis.set_xlabel(plots.PASSES, fontsize=9)
  limits = np.array([axis.get_ylim() for axis in gaps]).reshape(-1, 2)
  for axis in gaps:
    axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
  plots.save(figure, path, 90)


def one_of(values):
  return next(iter(values.values()))[0]


def panel(axis, key, values, label):
  """One number against NFE."""
  for i, (value, line) in enumerate(values.items()):
    plots.curve(
      axis, line, key, value, marker=MARKERS[i % len(MARKERS)], markersize=4,
      color=COLORS[i % len(COLORS)], linewidth=1.8 if i == 0 else 1.1,
      capsize=2, zorder=3 if i == 0 else 2,
    )
  plots.clean(axis, y=label)
  plots.log_passes(axis)
  if key == 'gap':
    axis.set_yscale('symlog', linthresh=0.01, linscale=0.5)
    axis.yaxis.set_major_formatter('{x:g}')
    axis.axhline(0, color='0.6', linewidth=0.8, zorder=1)
  if key == 'unigram_tv':
    floor = one_of(values)['unigram_tv_floor']
    axis.axhspan(0, floor, color='0.93', zorder=0)
    axis.annotate(
      'as much as exact samples show', (0.98, 0), va='bottom', ha='right',
      xycoords=axis.get_yaxis_transform(), color='0.35', fontsize=8,
      xytext=(0, 4), textcoords='offset points',
    )
    axis.set_ylim(bottom=0)
