"""The picture of the audit: how far tokens written together move each other,
and how often the tests and their assumption were wrong."""

import textwrap

import numpy as np

from punt_jax.cli import plots
from punt_jax.cli.plots import plt

LEAST, MOST = 1e-7, 10.0  # nats: 0 and infinity are drawn here
INKS = {'msb': '#c1121f', 'lsb': '#1f5f8b'}
SHARES = {
  'joint_accept': 'false accepts:\nmoved by surer\nones of its step',
  'hidden_accept': 'hidden: moved by\nall of these, by\nnone alone',
  'pair_accept': 'false pairs: both\nwritten, one\nmoves the other',
  'false_reject': 'false rejections:\nput off, moved by\nno surer written',
  'idle_reject': 'idle rejections:\nnor by any other\ntoken written',
  'unstable_own': 'unstable: moved by\npart of a test,\nnot by all of it',
  'union_own': 'no union: moved by\nall of a test, by\nneither part of it',
}


def write(path, rows):
  """Writes the PNG, at the middle epsilon.

  Args:
    path: of the file.
    rows: of results.jsonl.
  """
  rows = [row for row in rows if row['kind'] == 'audit']
  epsilons = sorted({row['settings']['epsilon'] for row in rows})
  epsilon = epsilons[len(epsilons) // 2]
  subjects = {}
  for row in rows:
    if row['settings']['epsilon'] == epsilon:
      key = row['model'], row['subject'], row['length']
      subjects.setdefault(key, []).append(row)
  columns = min(len(subjects), 5)
  lines = -(-len(subjects) // columns)
  figure = plt.figure(
    figsize=(max(3.4 * columns, 15), 3.1 * lines + 2.2 + 0.42 * len(subjects)),
    layout='constrained',
  )
  figure.suptitle(
    f'What PUNT with the threshold epsilon = {epsilon:g} nats writes together,'
    ' and what its tests got wrong\n'
    f'{rows[0]["rows"]} canvases each; judged by the exact conditionals of the'
    ' model that PUNT ran on', fontsize=13,
  )
  heights = 3.1 * lines, 1.6 + 0.42 * len(subjects)
  top, bottom = figure.subfigures(2, 1, height_ratios=heights)
  panels = top.subplots(
    lines, columns, sharex=True, sharey=True, squeeze=False
  )
  for axis in panels.flat[len(subjects):]:
    axis.set_visible(False)
  for axis, (key, here) in zip(panels.flat, subjects.items(), strict=False):
    bands(axis, name(*key), here, epsilon)
  for axis in panels[:, 0]:
    axis.set_ylabel('how far a token is moved by\nthe surer ones of its step '
                    '(nats)', fontsize=9)
  top.supxlabel('share of the canvas revealed when the step began', fontsize=10)
  handles = {
    text: handle for axis in panels.flat[: len(subjects)]
    for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
  }
  top.legend(
    handles.values(), handles.keys(), loc='outside upper center',
    ncols=len(handles), frameon=False, fontsize=9,
  )
  bars(bottom, {
    textwrap.fill(name(*key), 32): here for key, here in subjects.items()
  })
  plots.save(figure, path, 100)


def name(model, subject, length):
  """What a subject is called."""
  who = {'exact': '', 'trained': ', learned by a transformer'}[model]
  return f'{plots.title(subject)}, {length} tokens{who}'


def bands(axis, title, rows, epsilon):
  """Median and 5 % to 95 % of the deltas against the share revealed."""
  height = lambda value: MOST if value is None else min(max(value, LEAST), MOST)
  for row in rows:
    middle = [np.mean(part['revealed']) for part in row['bins']]
    low, median, high = (
      [height(part[key]) for part in row['bins']]
      for key in ('q05', 'median', 'q95')
    )
    first = row['settings']['first']
    bits, ink = f'bits {first} first: ', INKS[first]
    axis.fill_between(
      middle, low, high, color=ink, alpha=0.15, linewidth=0,
      label=bits + '5 % to 95 %',
    )
    axis.vlines(middle, low, high, color=ink, alpha=0.4)
    axis.plot(middle, high, color=ink, linewidth=0.8)
    axis.plot(
      middle, median, color=ink, marker='o', markersize=4,
      label=bits + 'median',
    )
  axis.axhline(epsilon, color='0.2', linestyle='--', linewidth=1,
               label='epsilon')
  axis.set_title(textwrap.fill(title, 34), fontsize=10)
  said = '\n'.join(
    f'{row["delta_above"]:.1%} above epsilon ({row["settings"]["first"]})'
    for row in rows if row['count']
  )
  axis.text(0.98, 0.93, said, transform=axis.transAxes, ha='right', va='top',
            fontsize=8, color='0.3')
  axis.set_yscale('log')
  axis.set_ylim(LEAST / 2, 2 * MOST)
  ticks = [LEAST, 1e-5, 1e-3, 1e-1, MOST]
  axis.set_yticks(ticks, ['0', '1e-5', '0.001', '0.1', 'infinite'])
  axis.minorticks_off()
  axis.set_xlim(0, 1)
  plots.clean(axis)


def bars(figure, subjects):
  """A column of bars for each share, a pair of bars for each subject."""
  axes = figure.subplots(1, len(SHARES), sharey=True)
  place = np.arange(len(subjects))
  for axis, (key, title) in zip(axes, SHARES.items(), strict=True):
    for n, (first, ink) in enumerate(INKS.items()):
      found = [
        next((row for row in here if row['settings']['first'] == first), {})
        for here in subjects.values()
      ]
      share = [row.get(key) or 0.0 for row in found]
      error = [row.get(f'{key}_error') or 0.0 for row in found]
      axis.barh(
        place + 0.38 * n - 0.19, share, 0.36, xerr=error, color=ink,
        alpha=0.85, label=f'bits {first} first', error_kw={'capsize': 2},
      )
    axis.set_title(title, fontsize=9, loc='left')
    axis.set_xlim(0, max(0.01, *share, *np.add(share, error)))
    axis.xaxis.set_major_formatter(lambda x, _: f'{100 * x:g} %')
    axis.xaxis.get_major_locator().set_params(nbins=3)
    axis.tick_params(axis='x', labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
  axes[0].set_yticks(place, list(subjects), fontsize=9)
  axes[0].invert_yaxis()
  figure.supxlabel('how often (lines: one standard error)', fontsize=10)
