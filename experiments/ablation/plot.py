"""The ablation in one picture per world, and passes at equal error as a table.

In both, an error is one of ERRORS for runs at temperature 1 and one of FIT at
others.
"""

import json

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from experiments.frontier.plot import TITLES

ERRORS = {
  'gap': 'factorization gap (nats per canvas)',
  'unigram_tv': 'law error: unigram TV',
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


def write(workdir, rows, found, config):
  """Writes table.txt and a PNG per world; returns the table.

  Args:
    workdir: a pathlib.Path.
    rows: of results.jsonl.
    found: {factor: {value: [settings, ...]}}.
    config: of the ablation.
  """
  tables = []
  for name in config.worlds:
    by_settings = {
      json.dumps(row['settings'], sort_keys=True): row
      for row in rows if row['world'] == name
    }
    lines = {
      factor: {
        value: sorted(
          (by_settings[json.dumps(s, sort_keys=True)] for s in sweep),
          key=lambda row: row['nfe'],
        )
        for value, sweep in values.items()
      }
      for factor, values in found.items()
    }
    tables.append(table(name, lines, config.gaps, config.loss))
    draw(workdir / f'ablate_{name}.png', name, lines)
  said = '\n'.join(tables)
  (workdir / 'table.txt').write_text(said)
  return said


def table(name, lines, gaps, loss):
  """Forward passes of each value at equal error, as text."""
  head = [f'gap {gap:g}' for gap in gaps] + ['unigram TV', 'depth']
  said = [
    f'{TITLES.get(name, name)}: forward passes per canvas at equal error',
    f'{"":36}' + ''.join(f'{cell:>16}' for cell in head),
  ]
  for factor, values in lines.items():
    said.append(factor)
    if not at_one(values):
      exact = min(values.values(), key=len)[0]
      said[-1] += (
        f' (passes at a mean log p of {loss:g} nats per token below '
        f'{exact["settings"]["sampler"]}, {exact["nfe"]:.0f} passes)'
      )
    for value, line in values.items():
      if at_one(values):
        error = [(r['gap'], r['gap_error']) for r in line]
        cells = [crossing(line, error, gap) for gap in gaps]
        cells = [*map(cell, cells), *there(line, cells[0])]
      elif len(line) > 1:
        error = [
          (exact['log_p'] - r['log_p'], r['log_p_error']) for r in line
        ]
        cells = [cell(crossing(line, error, loss))]
      else:
        cells = []
      said.append(f'  {value:34}' + ''.join(f'{x:>16}' for x in cells))
  return '\n'.join(said) + '\n'


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
  return '-' if found is None else f'{found[0]:.1f} +- {found[1]:.1f}'


def there(line, found):
  """Unigram TV (that of exact samples) and depth where a curve crosses."""
  if found is None:
    return '-', '-'
  at = lambda key: np.interp(
    found[0], [row['nfe'] for row in line], [row[key] for row in line]
  )
  floor = at('unigram_tv_floor')
  return f'{at("unigram_tv"):.3f} ({floor:.3f})', f'{at("depth"):.1f}'


def draw(path, name, lines):
  """Two panels per factor, one below the other, a curve per value."""
  bands = -(-len(lines) // COLUMNS)
  figure, axes = plt.subplots(
    2 * bands, COLUMNS, figsize=(4.3 * COLUMNS, 6.4 * bands),
    layout='constrained', squeeze=False,
  )
  one = next(iter(next(iter(lines.values())).values()))[0]
  figure.suptitle(
    f'PUNT with one thing changed at a time, on {TITLES.get(name, name)}, '
    f'{one["length"]} tokens, {one["rows"]} canvases per point\n'
    'black: the base; a point per threshold; bars: one standard error; lower '
    'left is better, gap 0 is exact',
    fontsize=13,
  )
  for axis in axes.flat:
    axis.set_visible(False)
  gaps = []
  for i, (factor, values) in enumerate(lines.items()):
    band, column = divmod(i, COLUMNS)
    kinds = ERRORS if at_one(values) else FIT
    for down, (key, label) in enumerate(kinds.items()):
      axis = axes[2 * band + down, column]
      axis.set_visible(True)
      panel(axis, key, values)
      axis.set_ylabel(label, fontsize=9)
      gaps += [axis] * (key == 'gap')
    top = axes[2 * band, column]
    heat = one_of(values)['settings']['temperature']
    at = '' if at_one(values) else f'\n(temperature {heat:g}: higher is better)'
    top.set_title(factor + at, fontsize=11)
    top.legend(fontsize=8, frameon=False)
    axis.set_xlabel('forward passes per canvas (NFE)', fontsize=9)
  limits = np.array([axis.get_ylim() for axis in gaps]).reshape(-1, 2)
  for axis in gaps:
    axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
  figure.savefig(path, dpi=90)
  plt.close(figure)


def one_of(values):
  return next(iter(values.values()))[0]


def panel(axis, key, values):
  """One number against NFE."""
  for i, (value, line) in enumerate(values.items()):
    axis.errorbar(
      [row['nfe'] for row in line],
      [row[key] for row in line],
      xerr=[row['nfe_error'] for row in line],
      yerr=[row[f'{key}_error'] for row in line],
      label=value, marker=MARKERS[i % len(MARKERS)], markersize=4,
      color=COLORS[i % len(COLORS)], linewidth=1.8 if i == 0 else 1.1,
      capsize=2, zorder=3 if i == 0 else 2,
    )
  axis.grid(color='0.93', zorder=0)
  axis.spines[['top', 'right']].set_visible(False)
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
  axis.set_xscale('log')
  axis.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64, 128]))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(ScalarFormatter())
