"""Who needs how many passes for the same errors: a table and a picture."""

import math
import pathlib

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt

BAR = ('punt', 'punt msb')  # what the others are measured against
SHORT, ALLOWED = 32, 0.05  # canvases up to this length, nats per token
COLORS = {'punt': '#c1121f', 'punt msb': '#f4845f', 'influence': '#1d6fb8'}
ROWS = {
  'excess_nll': 'excess NLL (nats per token)\ncloser to 0 is better',
  'law': 'law error (total variation)\nlower is better',
}


def write(workdir, rows):
  """Writes verdict.txt and beyond.png, and prints the former."""
  workdir = pathlib.Path(workdir)
  text = '\n\n'.join(
    table(*key, group) for key, group in by_subject(rows).items()
  )
  (workdir / 'verdict.txt').write_text(text + '\n')
  print(text)
  for short in (False, True):
    chosen = {
      key: group for key, group in by_subject(rows).items()
      if (key[1] <= SHORT) == short
    }
    if chosen:
      draw(workdir / f'beyond{"_short" * short}.png', chosen)


def by_subject(rows):
  """{(subject, length): its rows}."""
  found = {}
  for row in rows:
    found.setdefault((row['subject'], row['length']), []).append(row)
  return found


def no_worse(row, bar):
  """Both errors are at most the bar's, up to one standard error."""
  def within(key):
    slack = math.hypot(row[f'{key}_error'], bar[f'{key}_error'])
    return row[key] <= bar[key] + slack

  if None in (row['excess_nll'], bar['excess_nll']):  # all rows impossible
    return False
  fits = within('excess_nll') and row['impossible'] <= bar['impossible'] + 0.01
  return fits and (within('law') or row['law'] <= row['law_floor'])


def ratio(contender, bar):
  """(least NFE of the contender's rows that are no worse) / (the bar's NFE).

  None if no row is no worse.
  """
  nfe = [row['nfe'] for row in contender if no_worse(row, bar)]
  return min(nfe) / bar['nfe'] if nfe else None


def cheapest(contender):
  """The least NFE at an excess NLL of at most ALLOWED, or None."""
  nfe = [
    row['nfe'] for row in contender
    if row['excess_nll'] is not None and row['excess_nll'] <= ALLOWED
    and row['impossible'] <= 0.01
  ]
  return min(nfe, default=None)


def table(subject, length, rows):
  """What there is to say about one subject at one length."""
  names = list(dict.fromkeys(row['contender'] for row in rows))
  own = {n: [row for row in rows if row['contender'] == n] for n in names}
  number = lambda x: f'{x:9.2f}' if x is not None else f'{"-":>9}'
  if length <= SHORT:
    head = f'passes at an excess NLL of at most {ALLOWED} nats per token'
    lines = [f'  {n:30}{number(cheapest(own[n]))}' for n in names]
    return '\n'.join([f'{subject}, {length} tokens: {head}', *lines])
  # Of PUNT's two bit orders the cheaper one at each epsilon is the bar.
  bars = {}
  for row in sorted(
    (r for n in BAR for r in own.get(n, ())), key=lambda row: row['nfe']
  ):
    bars.setdefault(row['knobs']['epsilon'], row)
  bars = [bars[epsilon] for epsilon in sorted(bars)]
  head = (
    f"{subject}, {length} tokens: passes as a share of PUNT's, at no more"
    ' excess NLL\nand law error than at its'
  )
  cells = lambda make: ''.join(make(bar) for bar in bars)
  lines = [
    f'  {"":30}' + cells(
      lambda b: f'eps {b["knobs"]["epsilon"]:g}'.rjust(9)
    ),
    f'  {"passes of PUNT":30}' + cells(lambda b: number(b['nfe'])),
    f'  {"excess NLL of PUNT":30}' + cells(lambda b: f'{b["excess_nll"]:9.4f}'),
  ]
  lines += [
    f'  {n:30}' + cells(lambda b, n=n: number(ratio(own[n], b)))
    for n in names if n not in BAR
  ]
  return '\n'.join([head, *lines])


def draw(path, groups):
  """A column per subject: both errors against passes."""
  figure, axes = plt.subplots(
    2, len(groups), squeeze=False, sharex='col', layout='constrained',
    figsize=(3.5 + 3.3 * len(groups), 7),
  )
  figure.suptitle(
    'What each forward pass buys: lower left is better (bars: one standard'
    ' error; a point per setting)'
  )
  names = list(dict.fromkeys(
    row['contender'] for group in groups.values() for row in group
  ))
  muted = plt.get_cmap('tab20')
  for (key, group), column in zip(groups.items(), axes.T, strict=True):
    column[0].set_title(f'{key[0].replace("_", " ")}, {key[1]} tokens')
    column[1].set_xlabel('forward passes per canvas (NFE)')
    for error, axis in zip(ROWS, column, strict=True):
      for i, name in enumerate(names):
        line = sorted(
          (r for r in group if r['contender'] == name and r[error] is not None),
          key=lambda row: row['nfe'],
        )
        strong = name in COLORS
        axis.errorbar(
          [row['nfe'] for row in line], [row[error] for row in line],
          [row[f'{error}_error'] for row in line],
          label=name, color=COLORS.get(name, muted(i % 20)),
          marker='o' if strong else 'sv^D<>PX*'[i % 9], markersize=5,
          linewidth=2.2 if strong else 0.8, alpha=1 if strong else 0.7,
          zorder=3 if strong else 2,
        )
      axis.set_xscale('log', base=2)
      axis.xaxis.set_major_formatter('{x:g}')
      axis.grid(color='0.93')
      axis.spines[['top', 'right']].set_visible(False)
    column[0].axhline(0, color='0.6', linewidth=0.8)
    column[0].set_yscale('symlog', linthresh=0.02, linscale=0.6)
    column[0].yaxis.set_major_formatter('{x:g}')
    floor = max(row['law_floor'] for row in group)
    column[1].axhspan(0, floor, color='0.92', zorder=0)
    column[1].set_ylim(bottom=0)
  for axis, text in zip(axes[:, 0], ROWS.values(), strict=True):
    axis.set_ylabel(text)
  axes[1, 0].text(
    0.98, 0.02, 'gray: what exact samples show', ha='right', color='0.4',
    transform=axes[1, 0].transAxes, fontsize=8,
  )
  figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc='outside right center',
    frameon=False,
  )
  figure.savefig(path, dpi=110)
  plt.close(figure)
