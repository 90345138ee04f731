"""Who needs how many passes for the same errors: a table and a picture."""

import math
import pathlib

from experiments.beyond.contenders import CONTENDERS
from experiments.common import subjects
from punt_jax import files
from punt_jax.cli import plots
from punt_jax.cli.plots import plt
from punt_jax.viz.table import number, table

BAR = ('punt', 'punt msb')  # what the others are measured against
SHORT, ALLOWED = 32, 0.05  # canvases up to this length, nats per token
COLORS = dict(zip((*BAR, 'influence'), (*plots.STRONG, '#1d6fb8'), strict=True))
LABELS = (
  'excess NLL (nats per token)\ncloser to 0 is better',
  'total variation (probability)\nlower is better',
)


def write(workdir, rows):
  """Writes verdict.txt and beyond.png, and prints the former."""
  workdir, groups = pathlib.Path(workdir), {}
  for row in rows:
    groups.setdefault((row['subject'], row['length']), []).append(row)
  text = '\n\n'.join(verdict(*key, group) for key, group in groups.items())
  files.write(workdir / 'verdict.txt', text + '\n')
  print(text)
  for short in (False, True):
    chosen = {k: v for k, v in groups.items() if (k[1] <= SHORT) == short}
    if chosen:
      draw(workdir / f'beyond{"_short" * short}.png', chosen)


def no_worse(row, bar):
  """Both errors are at most the bar's, up to one standard error."""
  if None in (row['excess_nll'], bar['excess_nll']):  # all rows impossible
    return False
  tv, error, floor = subjects.tv(row)
  its_tv, its_error, _ = subjects.tv(bar)
  slack = math.hypot(row['excess_nll_error'], bar['excess_nll_error'])
  return (
    row['excess_nll'] <= bar['excess_nll'] + slack
    and row['impossible'] <= bar['impossible'] + 0.01
    and tv <= max(its_tv + math.hypot(error, its_error), floor)
  )


def ratio(rows, bar):
  """(least NFE of the rows that are no worse) / (the bar's NFE), or None."""
  nfe = [row['nfe'] for row in rows if no_worse(row, bar)]
  return min(nfe) / bar['nfe'] if nfe else None


def cheapest(rows):
  """The least NFE at an excess NLL of at most ALLOWED, or None."""
  nfe = [
    row['nfe'] for row in rows
    if row['excess_nll'] is not None and row['excess_nll'] <= ALLOWED
    and row['impossible'] <= 0.01
  ]
  return min(nfe, default=None)


def verdict(subject, length, rows):
  """What there is to say about one subject at one length."""
  own = {}
  for row in rows:
    own.setdefault(row['sampler'], []).append(row)
  said = f'{subject}, {length} tokens: passes '
  if length <= SHORT:
    said += f'at an excess NLL of at most {ALLOWED} nats per token\n'
    cells = [[n, number(cheapest(line), digits=2)] for n, line in own.items()]
    return said + table(['', 'passes'], cells)
  # Of PUNT's two bit orders the cheaper one at each epsilon is the bar.
  bars = {}
  for row in sorted(
    (row for name in BAR for row in own.get(name, ())), key=lambda r: r['nfe']
  ):
    bars.setdefault(row['settings']['epsilon'], row)
  bars = [bars[epsilon] for epsilon in sorted(bars)]
  cells = [
    ['passes of PUNT', *(number(b['nfe'], digits=2) for b in bars)],
    ['excess NLL of PUNT', *(number(b['excess_nll'], digits=4) for b in bars)],
  ]
  cells += [
    [name, *(number(ratio(line, b), digits=2) for b in bars)]
    for name, line in own.items() if name not in BAR
  ]
  said += "as a share of PUNT's, at no more excess\nNLL and TV than at its\n"
  heads = (f'eps {b["settings"]["epsilon"]:g}' for b in bars)
  return said + table(['', *heads], cells)


def draw(path, groups):
  """A column per subject: both errors against passes."""
  figure, axes = plt.subplots(
    2, len(groups), squeeze=False, sharex='col', layout='constrained',
    figsize=(3.5 + 3.3 * len(groups), 7),
  )
  figure.suptitle('What each forward pass buys: lower left is better')
  names = dict.fromkeys(
    row['sampler'] for group in groups.values() for row in group
  )
  for ((name, length), group), pair in zip(groups.items(), axes.T, strict=True):
    tv = 'unigram_tv' if 'unigram_tv' in group[0] else 'pair_tv'
    for axis, key in zip(pair, ('excess_nll', tv), strict=True):
      for sampler in names:
        line = sorted((
          r for r in group if r['sampler'] == sampler and r[key] is not None
        ), key=lambda row: row['nfe'])
        plots.curve(axis, line, key, sampler, **look(sampler))
      plots.clean(axis)
      plots.log_passes(axis, max(row['nfe'] for row in group))
    pair[0].set_title(f'{name.replace("_", " ")}, {length} tokens')
    pair[0].axhline(0, color='0.6', linewidth=0.8)
    pair[0].set_yscale('symlog', linthresh=0.02, linscale=0.6)
    pair[0].yaxis.set_major_formatter('{x:g}')
    pair[1].set_xlabel(plots.PASSES)
    floor = max(row[f'{tv}_floor'] for row in group)
    pair[1].axhspan(0, floor, color='0.92', zorder=0)
    pair[1].set_ylim(bottom=0)
  for axis, label in zip(axes[:, 0], LABELS, strict=True):
    axis.set_ylabel(label)
  axes[1, 0].text(
    0.98, 0.02, 'gray: what exact samples show', ha='right', color='0.4',
    transform=axes[1, 0].transAxes, fontsize=8,
  )
  plots.legend(figure, axes[0, 0])
  plots.save(figure, path)


def look(sampler):
  """How the curve of a contender looks: the same in every picture."""
  if sampler in COLORS:
    return dict(
      color=COLORS[sampler], marker='o', markersize=5, linewidth=2.2, zorder=3
    )
  own = plots.look(list(CONTENDERS).index(sampler))
  return dict(markersize=5, linewidth=0.8, alpha=0.7, zorder=2, **own)
