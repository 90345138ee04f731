"""The pictures of the writing order."""

import numpy as np

from punt_jax.cli import plots
from punt_jax.cli.plots import plt

COLORS = ('#c1121f', '#f4a259', '#1d6fb8', '#6a4c93', '#2a9d8f')
STRIPES = ('#c1121f', '#f4a259', '#dddddd')


def split(rows):
  """{title of a panel: its rows}."""
  found = {}
  for row in rows:
    world, title = row['world'], plots.title(row['subject'])
    if world is not None:
      title = f'{row["subject"]}: down {world["down"]:g}, up {world["up"]:g}'
    found.setdefault(title, []).append(row)
  return found


def kinds(path, rows):
  """A panel per subject: the mean moment of each kind, a line per sampler."""
  groups = split(rows)
  columns = min(3, len(groups))
  lines = -(-len(groups) // columns)
  most = max(len(group) for group in groups.values())
  figure, axes = plt.subplots(
    lines, columns, squeeze=False, layout='constrained', sharex=True,
    figsize=(2 + 4.2 * columns, 1.4 + lines * (1 + 0.33 * most)),
  )
  figure.suptitle(
    'When each kind of token is written: mean share of the canvas that was'
    ' written before it\n(bars: one standard error; a vertical line at 0.5: no'
    ' preference; tau: 1 is left to right)', fontsize=11,
  )
  for axis in axes.flat[len(groups):]:
    axis.axis('off')
  for axis, (name, group) in zip(axes.flat, groups.items(), strict=False):
    axis.set_title(name, fontsize=10)
    names = list(group[0]['kinds'])
    for i, kind in enumerate(names):
      found = [row['kinds'].get(kind, (np.nan, np.nan, 0)) for row in group]
      axis.errorbar(
        [x[0] for x in found], range(len(group)), xerr=[x[1] for x in found],
        fmt='o', color=COLORS[i], label=kind, capsize=2,
      )
    axis.axvline(0.5, color='0.8', zorder=0)
    labels = [f'{row["sampler"]} (tau {row["tau"]:.2f})' for row in group]
    axis.set_yticks(range(len(group)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.legend(fontsize=7, frameon=False, loc='best')
    plots.clean(axis, 'first   <   share written before   >   last')
  plots.save(figure, path)


def heat_maps(path, rows):
  """Documents: position against moment, a line of panels per coupling."""
  groups = {
    name: group for name, group in split(rows).items() if group[0]['layout']
  }
  if not groups:
    return
  most = max(len(group) for group in groups.values())
  figure, axes = plt.subplots(
    len(groups), most, squeeze=False, layout='constrained', sharex=True,
    sharey=True, figsize=(1.5 + 2.9 * most, 1.2 + 2.3 * len(groups)),
  )
  figure.suptitle(
    'How often each position is written at which moment (dark: often); stripes'
    ' below: red heading, orange structure, gray detail', fontsize=11,
  )
  for line, (name, group) in zip(axes, groups.items(), strict=True):
    line[0].set_ylabel(f'{name}\nshare written before', fontsize=8)
    for axis, row in zip(line, group, strict=False):
      share = np.array(row['heat'])  # (L, bins)
      axis.imshow(
        share.T, origin='lower', aspect='auto', cmap='magma_r', vmin=0,
        vmax=np.quantile(share, 0.98), extent=(0, len(share), 0, 1),
        interpolation='nearest',
      )
      for kind, color in enumerate(STRIPES):
        here = np.flatnonzero(np.array(row['layout']) == kind)
        axis.bar(here + 0.5, 0.05, 1.0, -0.05, color=color, clip_on=False)
      axis.set_ylim(-0.05, 1)
      axis.set_title(f'{row["sampler"]}: {row["nfe"]:.0f} passes', fontsize=9)
      axis.set_xlabel('position', fontsize=8)
  plots.save(figure, path)
