"""The picture of a frontier: both kinds of error against forward passes."""

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from punt_jax import samplers

TITLES = {
  'chain': 'Markov chain',
  'permuted': 'the same chain, positions shuffled',
}
# Row of the figure -> (key in results.jsonl, label of the axis).
ERRORS = (
  ('gap', 'factorization gap\n(nats per canvas)'),
  ('unigram_tv', 'law error: unigram TV\n(probability)'),
)
STRONG = ('#c1121f', '#f4845f')  # PUNT, whatever else is there
MARKERS = 'svD^v<>PXdph8*'


def write(path, rows, title):
  """Writes the PNG. Bars are one standard error.

  Args:
    path: of the file.
    rows: of results.jsonl of the frontier.
    title: one line.
  """
  names = [name for name in TITLES if any(r['world'] == name for r in rows)]
  lines = split(rows)
  figure, axes = plt.subplots(
    2, len(names), figsize=(2.6 + 4.8 * len(names), 8), squeeze=False,
    sharex=True, sharey='row', layout='constrained',
  )
  figure.suptitle(title, fontsize=12)
  for (error, label), line_of_axes in zip(ERRORS, axes, strict=True):
    line_of_axes[0].set_ylabel(label, fontsize=11)
    for name, axis in zip(names, line_of_axes, strict=True):
      panel(axis, error, {
        key: [r for r in line if r['world'] == name]
        for key, line in lines.items()
      })
  for name, top, bottom in zip(names, *axes, strict=True):
    top.set_title(TITLES[name], fontsize=11)
    bottom.set_xlabel('forward passes per canvas (NFE)', fontsize=11)
  handles, labels = axes[1, 0].get_legend_handles_labels()
  figure.legend(
    handles, labels, loc='outside right center', frameon=False,
    title='bars: one standard error', alignment='left',
  )
  figure.savefig(path, dpi=130)
  plt.close(figure)


def split(rows):
  """{name of a curve: its rows by NFE}; the name is a sampler and its words."""
  lines = {}
  for row in sorted(rows, key=lambda row: row['nfe']):
    words = [v for v in row['settings'].values() if isinstance(v, str)]
    lines.setdefault(' '.join([row['sampler'], *words]), []).append(row)
  listed = samplers.__all__.index
  return dict(sorted(lines.items(), key=lambda x: listed(x[1][0]['sampler'])))


def panel(axis, error, lines):
  """One error of one world against NFE."""
  muted = plt.get_cmap('tab10')
  strong = iter(STRONG)
  for i, (name, line) in enumerate(lines.items()):
    punt = name.startswith('punt')
    axis.errorbar(
      [row['nfe'] for row in line],
      [row[error] for row in line],
      xerr=[row['nfe_error'] for row in line],
      yerr=[row[f'{error}_error'] for row in line],
      label=name, marker='o' if punt else MARKERS[i % len(MARKERS)],
      color=next(strong, STRONG[0]) if punt else muted(i % 10),
      markersize=6, linewidth=2.2 if punt else 1.1, capsize=2,
      zorder=3 if punt else 2, alpha=1.0 if punt else 0.8,
    )
  everything = [row for line in lines.values() for row in line]
  axis.grid(color='0.93', zorder=0)
  if error == 'gap':
    axis.set_yscale('symlog', linthresh=0.01, linscale=0.5)
    axis.yaxis.set_major_formatter('{x:g}')
    axis.axhline(0, color='0.6', linewidth=0.8, zorder=1)
  else:
    floor = np.mean([row['unigram_tv_floor'] for row in everything])
    axis.axhspan(0, floor, color='0.93', zorder=0)
    axis.text(
      0.98, floor / 2, 'as much as exact samples show', ha='right',
      va='center', color='0.4', transform=axis.get_yaxis_transform(),
    )
    axis.set_ylim(bottom=0)
  axis.set_xscale('log')
  most = max(row['nfe'] for row in everything)
  ticks = [2**n for n in range(1, 12) if 2**n <= 2 * most]
  axis.xaxis.set_major_locator(FixedLocator(ticks))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(ScalarFormatter())
  axis.spines[['top', 'right']].set_visible(False)
