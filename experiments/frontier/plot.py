"""The picture of a frontier: error, or fit, against forward passes."""

import numpy as np

from punt_jax.cli import plots
from punt_jax.cli.plots import plt

# Row of the figure -> label of the axis: where canvases were impossible, at
# temperature 1, and at others.
IMPOSSIBLE = {'impossible': 'impossible canvases (share)\nlower is better'}
ERRORS = {
  'gap': 'factorization gap (nats per canvas)\nlower is better',
  'excess_nll': 'excess NLL of the samples (nats per token)\ncloser to 0 is'
                ' better',
  'unigram_tv': 'unigram TV of the samples (probability)\nlower is better',
  'pair_tv': 'TV of adjacent pairs (probability)\nlower is better',
}
FIT = {
  'agreement': 'tokens that are the likeliest (share)\nhigher is better',
  'log_p': 'mean log-probability (nats per token)\nhigher is better',
}


def write(path, rows):
  """Writes the PNG. Bars are one standard error.

  Args:
    path: of the file.
    rows: of results.jsonl of the frontier, about one subject.
  """
  lengths = list(dict.fromkeys(row['length'] for row in rows))
  heats = sorted({row['temperature'] for row in rows}, reverse=True)
  bands = [
    (heat, key, label) for heat in heats
    for key, label in keys(rows, heat).items()
  ]
  figure, axes = plt.subplots(
    len(bands), len(lengths), squeeze=False, sharex='col', sharey='row',
    figsize=(3 + max(7, 4.4 * len(lengths)), 1.2 + 3.1 * len(bands)),
    layout='constrained',
  )
  figure.suptitle(title(rows), fontsize=12)
  lines = plots.split(rows)
  for (heat, key, label), line_of_axes in zip(bands, axes, strict=True):
    if len(heats) > 1:
      label = f'at temperature {heat:g}:\n{label}'
    for length, axis in zip(lengths, line_of_axes, strict=True):
      panel(axis, key, {
        name: [
          row for row in line if row['length'] == length
          and row['temperature'] == heat and drawn(row, key)
        ]
        for name, line in lines.items()
      })
    line_of_axes[0].set_ylabel(label, fontsize=9)
  for length, top, bottom in zip(lengths, axes[0], axes[-1], strict=True):
    top.set_title(f'{length} tokens', fontsize=11)
    bottom.set_xlabel(plots.PASSES, fontsize=10)
  for text in plots.legend(figure, axes[0, 0]).get_texts():
    if text.get_text().startswith('punt'):
      text.set(color=plots.STRONG[0], weight='bold')
  plots.save(figure, path)


def keys(rows, heat):
  """{key of a row: label} of what is drawn at a temperature."""
  some = any(row['impossible'] for row in rows if row['temperature'] == heat)
  known = {
    key: label for key, label in (ERRORS if heat == 1 else FIT).items()
    if any(row.get(key) is not None for row in rows)
  }
  return (IMPOSSIBLE if some else {}) | known


def drawn(row, key):
  """Whether a number is there, and no impossible canvas makes it infinite."""
  always = key in ('impossible', 'unigram_tv', 'pair_tv')
  return row.get(key) is not None and (always or not row['impossible'])


def title(rows):
  """What is shown, in two or three lines."""
  text = (
    f'What each forward pass buys, on {plots.title(rows[0]["subject"])}\n'
    f'{rows[0]["rows"]} canvases per point; the model counts as exact: what is'
    " wrong is the sampler's"
  )
  shown = max(row['shown'] for row in rows)
  if shown:
    text += f'\nempty at first; {shown:.0%} given at other temperatures than 1'
  if any(row['impossible'] for row in rows):
    text += (
      '\nWhere some canvases are impossible, gap and NLL are infinite:'
      ' no point is drawn'
    )
  return text


def panel(axis, key, lines):
  """One number of one subject and length against NFE."""
  variants = {}
  for name, line in lines.items():
    sampler = name.split()[0]
    variants[sampler] = variants.get(sampler, -1) + 1
    plots.curve(
      axis, line, key, name, **plots.style(sampler, variants[sampler])
    )
  everything = [row for line in lines.values() for row in line]
  plots.clean(axis)
  if not everything:
    return
  reference(axis, key, everything)
  name_the_best(axis, key, lines)
  plots.log_passes(axis, max(row['nfe'] for row in everything))


def name_the_best(axis, key, lines):
  """Writes names at points that no other undercuts in both error and passes.

  Not where many share the best value (unigram TV), or more is better.
  """
  if key not in ('gap', 'excess_nll'):
    return
  best, named = np.inf, set()
  points = [
    (row['nfe'], abs(row[key]), name, row[key])
    for name, line in lines.items() for row in line
  ]
  for nfe, size, name, value in sorted(points):
    if size < best and name not in named:
      axis.annotate(
        name, (nfe, value), xytext=(4, 5), textcoords='offset points',
        fontsize=7, color='0.2', zorder=4,
      )
      named.add(name)
    best = min(size, best)


def reference(axis, key, rows):
  """What exact samples show in a panel, or at other temperatures one by one."""
  low = high = 0
  said = 'exact samples'
  if key == 'gap':
    axis.set_yscale('symlog', linthresh=0.01, linscale=0.5)
    axis.yaxis.set_major_formatter('{x:g}')
  elif key in ERRORS:
    high = np.mean([row[f'{key}_floor'] for row in rows])
    low = -high if key == 'excess_nll' else 0
    said = 'gray: as much as exact samples show'
  elif key in FIT:
    found = [row for row in rows if row['sampler'] == 'one_by_one']
    if not found:
      return
    error = found[0][f'{key}_error']
    low, high = found[0][key] - error, found[0][key] + error
    said = 'gray: one by one, +- one standard error'
  axis.axhspan(low, high, color='0.86', linewidth=1, zorder=0)
  for edge in (low - 0.02, high + 0.02):  # leave some room around it
    axis.axhline(edge, alpha=0)
  axis.annotate(
    said, (0.01, low), xycoords=axis.get_yaxis_transform(),
    xytext=(0, -3), textcoords='offset points', va='top', color='0.35',
    fontsize=8, zorder=1,
  )
