"""Picture and table of experiments/antibody/: quality against passes."""

import math

from punt_jax.cli import columns, plots
from punt_jax.cli.plots import plt
from punt_jax.viz.table import number, table

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
    rows: of results.jsonl; a subject is a column.
  """
  subjects = list(dict.fromkeys(row['subject'] for row in rows))
  rows = [row | shown(row) for row in rows]
  figure, axes = plt.subplots(
    len(PANELS), len(subjects), squeeze=False, sharex='col',
    figsize=(3 + 4.6 * len(subjects), 1 + 3 * len(PANELS)),
    layout='constrained',
  )
  writer = {'sapiens': 'Sapiens', 'antiberty': 'AntiBERTy'}
  figure.suptitle(
    f'Antibody domains written by {writer[rows[0]["model"]]}, temperature '
    f'{rows[0]["temperature"]:g}', fontsize=12,
  )
  for subject, column in zip(subjects, axes.T, strict=True):
    here = [row for row in rows if row['subject'] == subject]
    natural = [row for row in here if row['sampler'] == 'natural']
    lines = plots.split([row for row in here if row not in natural])
    column[0].set_title(NAMES[subject], fontsize=11)
    column[-1].set_xlabel('forward passes per domain (NFE)')
    for (key, label), axis in zip(PANELS.items(), column, strict=True):
      if subject == 'loops' and key == 'consistent':
        axis.set_axis_off()  # the frame is given
        continue
      for name, line in lines.items():
        plots.curve(axis, line, key, name, **plots.style(name.split()[0]))
      plots.clean(axis, y=label)
      plots.log_passes(axis)
      for row in natural if key == 'nll' else ():
        axis.axhline(
          row[key], color='0.4', linestyle=':', label='natural antibodies'
        )
  plots.legend(figure, axes[0, 0])
  plots.save(figure, path)


def shown(row):
  """Numbers of a row that are drawn and not in it."""
  consistent = row['heavy'] + row['light']
  error = (consistent * (1 - consistent) / max(row['rows'] - 1, 1)) ** 0.5
  return {'consistent': consistent, 'consistent_error': error}


def markdown(rows):
  """The rows as a table, with the excess over one by one."""
  heads = (
    'subject', 'sampler', 'passes', 'judge, nats per residue',
    'above one_by_one', 'one chain', 'mixed', 'distinct triples', 'identity',
    'duplicates',
  )
  base = {row['subject']: row for row in rows if row['sampler'] == 'one_by_one'}
  lines = []
  for row in sorted(rows, key=lambda row: (row['subject'], -row['nfe'])):
    bar, excess = base.get(row['subject']), '-'
    if bar is row:
      excess = '0'
    elif bar:
      error = math.hypot(row['nll_error'], bar['nll_error'])
      excess = number(row['nll'] - bar['nll'], error, 2)
    shares = (
      row['heavy'] + row['light'], row['mixed'], row['distinct_3'],
      row['identity'], row['duplicates'],
    )
    lines.append((
      row['subject'], f'{row["sampler"]} {columns.label(row)}'.strip(),
      number(row['nfe'], digits=1), number(row['nll'], row['nll_error'], 2),
      excess, *(number(share, digits=2) for share in shares),
    ))
  return table(heads, lines, left=2, markdown=True) + '\n'
