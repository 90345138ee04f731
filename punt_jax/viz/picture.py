"""One picture: the order in which each sampler wrote, what it cost, and how
the model rates the result."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from punt_jax.types import FilePath
from punt_jax.viz import figures
from punt_jax.viz.figures import plt

BAR = '#4c6f8f'


def write(
  path: FilePath, title: str, outcomes: Sequence[Any],
  rows: Sequence[dict[str, Any]],
) -> None:
  """Writes the PNG.

  Args:
    path: of the file.
    title: one line.
    outcomes: sample.Outcome of one page, one per sampler.
    rows: of results.jsonl; the first ones belong to `outcomes`.
  """
  count = len(outcomes)
  rows = rows[:count]
  figure = plt.figure(figsize=(13, 1.9 + 0.62 * count), layout='constrained')
  figure.suptitle(title, fontsize=12)
  grid = figure.add_gridspec(count, 3, width_ratios=(5, 2.2, 2.2))
  maps = [figure.add_subplot(grid[i, 0]) for i in range(count)]
  for axis, outcome in zip(maps, outcomes, strict=True):
    image = heat_map(axis, outcome)
  for axis in maps[:-1]:
    axis.set_xticks([])
  maps[0].set_title('when each character was written', fontsize=11)
  maps[-1].set_xlabel('position (characters); one line per row of the batch')
  bar = figure.colorbar(
    image, ax=maps, location='bottom', aspect=60, shrink=0.7, pad=0.01
  )
  bar.set_label("share of the row's steps (0 = first, 1 = last)")
  passes = [row['nfe'] for row in rows]
  costs(figure.add_subplot(grid[:, 1]), passes)
  scores(figure.add_subplot(grid[:, 2]), rows)
  figures.save(figure, path, 130)


def heat_map(axis: Axes, outcome: Any) -> AxesImage:
  """Rows x positions, colored by step / last step."""
  last = np.maximum(np.asarray(outcome.decoded.steps) - 1, 1)
  share = np.asarray(outcome.decoded.when) / last[:, None]
  image = axis.imshow(
    np.where(share < 0, np.nan, share), aspect='auto', cmap='viridis',
    vmin=0, vmax=1, interpolation='nearest',
  )
  axis.set_yticks([])
  axis.set_ylabel(
    f'{outcome.choice.name}\n{outcome.choice}', rotation=0, ha='right',
    va='center', fontsize=9,
  )
  return image


def costs(axis: Axes, passes: Sequence[float]) -> None:
  """Bars of forward passes per row, in line with the heat maps."""
  bars = axis.barh(range(len(passes)), passes, color=BAR, height=0.6)
  axis.bar_label(bars, fmt='%.0f', padding=3, fontsize=9)
  axis.set_title('cost per row', fontsize=11)
  axis.set_xlabel('forward passes (fewer is cheaper)')
  axis.set_xlim(0, 1.18 * max(passes))
  frame(axis, len(passes))


def scores(axis: Axes, rows: Sequence[dict[str, Any]]) -> None:
  """Points with error bars: bits per character under the model."""
  bits = [row['bits_per_character'] for row in rows]
  error = [row['bits_error'] or 0.0 for row in rows]
  axis.errorbar(
    bits, range(len(rows)), xerr=error, fmt='o', color=BAR, capsize=3
  )
  said = 'bits per character, +- standard error'
  for row in rows:
    if row['sampler'] == 'one_by_one':  # takes no shortcut
      bits = row['bits_per_character']
      axis.axvline(bits, color='#b0503c', linestyle='--', linewidth=1)
      said += '\n(dashed: one_by_one)'
  axis.set_title("the model's own score", fontsize=11)
  axis.set_xlabel(said)
  frame(axis, len(rows))


def frame(axis: Axes, count: int) -> None:
  """One slot per sampler, the first on top; no clutter."""
  axis.set_ylim(count - 0.5, -0.5)
  axis.set_yticks([])
  axis.spines[['top', 'right', 'left']].set_visible(False)


def histograms(path: FilePath, what: str, values: dict[str, Any]) -> None:
  """Writes a PNG with a histogram for each {label: numbers} of `what`."""
  figure, axes = plt.subplots(
    1, len(values), figsize=(3.5 * len(values), 2.5), layout='constrained',
    squeeze=False,
  )
  for axis, (label, numbers) in zip(axes[0], values.items(), strict=True):
    axis.hist(numbers, bins=24, color=BAR)
    axis.set(xlabel=label, ylabel=what)
  figures.save(figure, path, 150)
