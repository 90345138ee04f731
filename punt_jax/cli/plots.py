"""What the pictures of experiments share: names, colors, axes."""

from collections.abc import Sequence
from typing import Any

from punt_jax import extras

try:  # what imports this draws, whatever it is asked for
  extras.load('matplotlib', 'the picture of a job')
except ValueError as error:
  raise SystemExit(str(error)) from None

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from punt_jax import samplers
from punt_jax.generation.options import WRAPPERS
from punt_jax.viz import figures
from punt_jax.viz.figures import plt as plt

TITLES = {
  'chain': 'a Markov chain',
  'permuted': 'a Markov chain with its positions shuffled',
  'tree': 'a random tree',
  'permuted_tree': 'a random tree with its positions shuffled',
  'hmm': 'a hidden Markov model',
  'strip': 'a strip of a two-dimensional grid',
  'code': 'random parity checks of bits',
  'documents': 'documents: sections, paragraphs, details',
  'shakespeare': 'text of the shipped model',
}
PASSES = 'forward passes per canvas (NFE)'
STRONG = ('#c1121f', '#f4845f')  # PUNT, whatever else is there
# In an order in which none looks like the next two.
MUTED = (
  '#1b3a6b', '#d99a2b', '#8a8a8a', '#9467bd', '#bcbd22', '#17becf', '#222222',
  '#e377c2', '#1f77b4', '#2ca02c', '#7a4a2b',
)
MARKERS = 'svD^<>PXdph8*'
LINES = ('-', '--', ':', '-.')
FILLS = ('full', 'none')  # of markers


def title(subject: str) -> str:
  """What a subject is called in a picture."""
  return TITLES.get(subject, subject)


def split(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
  """{name of a curve: its rows by NFE}, in the order of samplers.NAMES.

  The name is the sampler with those of its words that vary.
  """
  names = {row['sampler']: {} for row in rows}
  for row in rows:
    for hyperparam, value in row['settings'].items():
      if isinstance(value, str) or hyperparam in WRAPPERS:
        names[row['sampler']].setdefault(hyperparam, set()).add(value)
  lines = {}
  for row in sorted(rows, key=lambda row: row['nfe']):
    vary = names[row['sampler']]
    words = [
      word(k, v) for k, v in row['settings'].items()
      if k in WRAPPERS or len(vary.get(k, ())) > 1
    ]
    lines.setdefault(' '.join([row['sampler'], *words]), []).append(row)
  listed = samplers.NAMES.index
  return dict(sorted(lines.items(), key=lambda x: listed(x[1][0]['sampler'])))


def word(hyperparam: str, value: Any) -> str:
  """A setting in the name of a curve."""
  if isinstance(value, str) and hyperparam not in WRAPPERS:
    return value
  value = f'{value:g}' if isinstance(value, float) else value
  if hyperparam == 'particles':
    return f'{value} particles'
  return f'{hyperparam.replace("_", " ")} {value}'


def look(i: int) -> dict[str, Any]:
  """The color and marker of the i-th of many: no two of 143 have both."""
  return dict(color=MUTED[i % len(MUTED)], marker=MARKERS[i % len(MARKERS)])


def style(sampler: str, variant: int = 0) -> dict[str, Any]:
  """How a sampler's curve looks: the same in every picture.

  Args:
    sampler: its name.
    variant: 0, 1, ... of several curves of it; 8 of them look different.
  """
  i = samplers.NAMES.index(sampler)
  shared = dict(
    markersize=5, capsize=2, linestyle=LINES[variant % len(LINES)],
    fillstyle=FILLS[variant // len(LINES) % len(FILLS)],
  )
  if i == 0:
    return shared | dict(
      marker='o', color=STRONG[variant % 2], linewidth=2.2, zorder=3
    )
  return shared | look(i - 1) | dict(linewidth=1.1, zorder=2, alpha=0.8)


def curve(
  axis: Axes, rows: Sequence[dict[str, Any]], key: str, label: str, **look: Any
) -> None:
  """One column of rows against NFE; bars are one standard error."""
  none = lambda value: value or 0
  axis.errorbar(
    [row['nfe'] for row in rows], [row[key] for row in rows],
    xerr=[none(row.get('nfe_error')) for row in rows],
    yerr=[none(row.get(f'{key}_error')) for row in rows], label=label, **look,
  )


def clean(axis: Axes, x: str = '', y: str = '') -> None:
  """Labels, a faint grid, no frame on top and on the right."""
  axis.set_xlabel(x or axis.get_xlabel(), fontsize=9)
  axis.set_ylabel(y or axis.get_ylabel(), fontsize=9)
  axis.grid(color='0.93', zorder=0)
  axis.spines[['top', 'right']].set_visible(False)


def log_passes(axis: Axes, most: float = 2**11) -> None:
  """A logarithmic axis of passes with powers of two as its ticks."""
  axis.set_xscale('log')
  ticks = [2**n for n in range(14) if 2**n <= 2 * most]
  axis.xaxis.set_major_locator(FixedLocator(ticks))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(ScalarFormatter())


def legend(
  figure: Figure, axis: Axes, title: str = 'sampler, a point per setting'
) -> Legend:
  """The legend of an axis beside the figure."""
  return figure.legend(
    *axis.get_legend_handles_labels(), loc='outside right center',
    frameon=False, title=f'{title}\n(bars: one standard error)',
    alignment='left',
  )


save = figures.save
