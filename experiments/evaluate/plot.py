"""The picture of a benchmark: accuracy against forward passes."""

import pathlib

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from experiments.frontier import plot
from punt_jax import samplers


def write(path, rows):
  """Writes the PNG. Bars are one standard error.

  Args:
    path: of the file.
    rows: of results.jsonl about one task; that of random tokens is the floor.
  """
  floor = [row for row in rows if row['sampler'] == 'random']
  rows = [row for row in rows if row['sampler'] != 'random']
  figure, axis = plt.subplots(figsize=(8, 4.2), layout='constrained')
  for name, line in plot.split(rows).items():
    place = samplers.__all__.index(line[0]['sampler'])
    punt = line[0]['sampler'] == 'punt'
    axis.errorbar(
      [row['nfe'] for row in line], [row['accuracy'] for row in line],
      xerr=[row['nfe_error'] or 0 for row in line],  # None for one question
      yerr=[row['accuracy_error'] or 0 for row in line],
      label=name, marker='o' if punt else plot.MARKERS[place % 14],
      color=plot.STRONG[0] if punt else plot.MUTED[(place - 1) % 11],
      markersize=5, linewidth=2.2 if punt else 1.1, capsize=2,
      zorder=3 if punt else 2,
    )
  for row in floor:
    axis.axhline(row['accuracy'], color='0.4', linestyle='--', linewidth=1)
    axis.annotate(
      'random tokens', (0.01, row['accuracy']), va='bottom', color='0.4',
      xycoords=axis.get_yaxis_transform(), fontsize=8,
      xytext=(0, 2), textcoords='offset points',
    )
  axis.set(
    xscale='log', xlabel='forward passes per answer (NFE)',
    ylabel=f'{rows[0]["metric"]}\nhigher is better',
    title=title(rows[0]),
  )
  most = max(row['nfe'] for row in rows)
  ticks = [2**n for n in range(14) if 2**n <= 2 * most]
  axis.xaxis.set_major_locator(FixedLocator(ticks))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(ScalarFormatter())
  axis.grid(color='0.93', zorder=0)
  axis.spines[['top', 'right']].set_visible(False)
  figure.legend(
    loc='outside right center', frameon=False, alignment='left',
    title='a point per setting\n(bars: one standard error)',
  )
  figure.savefig(path, dpi=110)
  plt.close(figure)


def title(row):
  """What was asked of whom."""
  return (
    f'{row["task"]}, {row["items"]} questions, {row["new"]} tokens each,'
    f' temperature {row["temperature"]:g}\n'
    f'{pathlib.Path(row["model"]).name}'
  )
