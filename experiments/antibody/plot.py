"""Picture and table of experiments/antibody/: quality against passes."""

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from experiments.frontier.plot import MARKERS, MUTED, STRONG, split
from punt_jax import samplers

NAMES = {
  'domain': 'whole domains',
  'loops': 'three loops of natural heavy chains',
}
PANELS = {
  'nll': 'pseudo-NLL under the other model\n(nats per residue)',
  'consistent': 'one chain throughout\n(share; higher is better)',
  'distinct_3': 'distinct triples of residues\n(share; higher is more varied)',
}


def write(path, rows):
  """Writes the PNG. Bars are one standard error.

  Args:
    path: of the file.
    rows: of results.jsonl; a task is a column.
  """
  tasks = list(dict.fromkeys(row['task'] for row in rows))
  rows = [row | shown(row) for row in rows]
  figure, axes = plt.subplots(
    len(PANELS), len(tasks), squeeze=False, sharex='col',
    figsize=(3 + 4.6 * len(tasks), 1 + 3 * len(PANELS)), layout='constrained',
  )
  writer = {'sapiens': 'Sapiens', 'antiberty': 'AntiBERTy'}
  figure.suptitle(
    f'Antibody domains written by {writer[rows[0]["model"]]}, temperature '
    f'{rows[0]["temperature"]:g}', fontsize=12,
  )
  for task, column in zip(tasks, axes.T, strict=True):
    here = [row for row in rows if row['task'] == task]
    lines = split([row for row in here if row['sampler'] != 'natural'])
    column[0].set_title(NAMES[task], fontsize=11)
    column[-1].set_xlabel('forward passes per domain (NFE)', fontsize=10)
    for (key, label), axis in zip(PANELS.items(), column, strict=True):
      if task == 'loops' and key == 'consistent':
        axis.set_axis_off()  # the frame is given
        continue
      axis.set_ylabel(label, fontsize=9)
      panel(axis, key, lines)
      for row in here:
        if row['sampler'] == 'natural' and key == 'nll':
          axis.axhline(
            row[key], color='0.4', linestyle=':', label='natural antibodies'
          )
  handles, labels = axes[0, 0].get_legend_handles_labels()
  figure.legend(
    handles, labels, loc='outside right center', frameon=False,
    title='sampler, a point per setting\n(bars: one standard error)',
    alignment='left',
  )
  figure.savefig(path, dpi=110)
  plt.close(figure)


def panel(axis, key, lines):
  """One number against NFE. A sampler looks the same in every picture."""
  for name, line in lines.items():
    i = samplers.__all__.index(name.split()[0])
    punt = i == 0
    axis.errorbar(
      [row['nfe'] for row in line],
      [row[key] for row in line],
      xerr=[row['nfe_error'] for row in line],
      yerr=[row[f'{key}_error'] for row in line],
      label=name, marker='o' if punt else MARKERS[i % len(MARKERS)],
      color=STRONG[0] if punt else MUTED[(i - 1) % len(MUTED)],
      markersize=5, linewidth=2.2 if punt else 1.1, capsize=2,
      zorder=3 if punt else 2, alpha=1.0 if punt else 0.8,
    )
  axis.grid(color='0.93', zorder=0)
  axis.spines[['top', 'right']].set_visible(False)
  axis.set_xscale('log')
  axis.xaxis.set_major_locator(FixedLocator([2**n for n in range(12)]))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(ScalarFormatter())


def shown(row):
  """Numbers of a row that are drawn and not in it."""
  consistent = row['heavy'] + row['light']
  error = (consistent * (1 - consistent) / max(row['rows'] - 1, 1)) ** 0.5
  return {
    'consistent': consistent, 'consistent_error': error, 'distinct_3_error': 0,
  }


def table(rows):
  """The rows as a table of Markdown, with the excess over one by one."""
  heads = (
    'task', 'sampler', 'passes', 'judge, nats per residue', 'above one_by_one',
    'one chain', 'mixed', 'distinct triples', 'identity', 'duplicates',
  )
  lines = ['| ' + ' | '.join(heads) + ' |', '| --- ' * len(heads) + '|']
  pair = lambda mean, error: f'{mean:.2f} +- {error:.2f}'
  base = {r['task']: r for r in rows if r['sampler'] == 'one_by_one'}
  for row in sorted(rows, key=lambda row: (row['task'], -row['nfe'])):
    bar, excess = base.get(row['task']), '-'
    if bar is row:
      excess = '0'
    elif bar:
      error = (row['nll_error'] ** 2 + bar['nll_error'] ** 2) ** 0.5
      excess = pair(row['nll'] - bar['nll'], error)
    cells = (
      row['task'], f'{row["sampler"]} {row["label"]}'.strip(),
      f'{row["nfe"]:.1f}', pair(row['nll'], row['nll_error']), excess,
      f'{row["heavy"] + row["light"]:.2f}', f'{row["mixed"]:.2f}',
      *(f'{row[k]:.2f}' for k in ('distinct_3', 'identity', 'duplicates')),
    )
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'
