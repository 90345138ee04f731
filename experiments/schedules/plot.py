"""The picture of the information curve and of what schedules cost."""

import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from punt_jax import schedules
from punt_jax.cli import plots
from punt_jax.cli.plots import plt

COLORS = {
  'optimal': '#c1121f',
  'inverse root': '#f4845f',
  'equal': '#222222',
  'cosine': '#7f7f7f',
  'geometric tc': '#1d6fb8',
  'geometric dtc': '#2a9d8f',
  'random tc': '#8ab8de',
  'random dtc': '#93cfc6',
}
SHOWN = ('optimal', 'equal')  # as steps under the curve


def draw(path, rows):
  """Writes the PNG: the curve, KL against steps, predicted against measured."""
  (curve,) = [row for row in rows if row['sampler'] == 'curve']
  rest = [row for row in rows if row is not curve]
  figure, axes = plt.subplots(1, 3, figsize=(16, 5.2), layout='constrained')
  figure.suptitle(
    f'Random order on "{curve["subject"]}", {curve["length"]} tokens, text:'
    f' {curve["text"]}.  TC {curve["tc"]:.1f} ± {curve["tc_error"]:.1f}, DTC'
    f' {curve["dtc"]:.1f} ± {curve["dtc_error"]:.1f} nats',
    fontsize=12,
  )
  information(axes[0], curve, rest)
  against_steps(axes[1], rest)
  against_measured(axes[2], rest)
  for axis in axes:
    plots.clean(axis)
  plots.save(figure, path)


def information(axis, curve, rest):
  """Z_i, and two schedules' approximations of it by steps."""
  rise, error = np.array(curve['curve']), np.array(curve['curve_error'])
  n = len(rise)
  place = np.arange(n)
  axis.fill_between(
    place, rise - 2 * error, rise + 2 * error, color='0.8', linewidth=0,
    label='two standard errors',
  )
  axis.plot(place, rise, color='0.3', label='information curve $Z_i$')
  steps = sorted({row['settings']['steps'] for row in rest})
  steps = steps[len(steps) // 2]
  for row in rest:
    name = row['sampler']
    if name not in SHOWN or row['settings']['steps'] != steps:
      continue
    low = rise[schedules.information.block_starts(row['sizes'], n)]
    axis.step(
      place, low, where='post', color=COLORS[name], linewidth=1.6,
      label=f'{name}, {steps} steps: {row["predicted"]:.1f} nats up to $Z_i$',
    )
    if name == SHOWN[0]:
      axis.fill_between(
        place, low, rise, step='post', color=COLORS[name], alpha=0.15,
        linewidth=0,
      )
  axis.set_title('What i known tokens tell about another')
  axis.set_xlabel('known tokens i')
  axis.set_ylabel('$Z_i$ = h(0) - h(i)  (nats per token)')
  axis.legend(fontsize=8, frameon=False, loc='lower right')


def against_steps(axis, rest):
  """KL against the number of blocks."""
  for i, (name, color) in enumerate(COLORS.items()):
    line = [row for row in rest if row['sampler'] == name]
    # Side by side, so that no dot hides another.
    steps = np.array([row['nfe'] for row in line]) * 1.02 ** (i - 3.5)
    axis.plot(
      steps, [row['predicted'] for row in line], color=color,
      linestyle=style(name), label=name,
    )
    axis.errorbar(
      steps, [row['measured'] for row in line],
      [row['measured_error'] for row in line], fmt='o', color=color,
      markersize=4, capsize=2,
    )
  log_steps(axis, sorted({row['settings']['steps'] for row in rest}))
  plain(axis.yaxis)
  axis.set_title('What schedules cost (lines: predicted, dots: measured)')
  axis.set_xlabel('steps K (forward passes)')
  axis.set_ylabel('KL(p || q), mean over orders (nats per canvas)')
  axis.legend(fontsize=8, frameon=False)


def against_measured(axis, rest):
  """Predicted against measured KL, one dot per schedule and K."""
  for name, color in COLORS.items():
    line = [row for row in rest if row['sampler'] == name]
    axis.errorbar(
      [row['predicted'] for row in line], [row['measured'] for row in line],
      [row['measured_error'] for row in line],
      [row['predicted_error'] for row in line], fmt='o', color=color,
      markersize=4, capsize=2, label=name,
    )
  found = [row['predicted'] for row in rest]
  ends = [min(found), max(found)]
  axis.plot(ends, ends, color='0.6', linewidth=1, zorder=0)
  plain(axis.xaxis)
  plain(axis.yaxis)
  axis.set_title('The identity against teacher forcing on other rows')
  axis.set_xlabel('predicted from the curve (nats)')
  axis.set_ylabel('measured on shared rows (nats; bars: one standard error)')
  axis.legend(
    [axis.lines[-1]], ['measured = predicted'], fontsize=8, frameon=False,
  )


def style(name):
  """Dashed where sizes are drawn at random."""
  return '--' if name.startswith('random') else '-'


def log_steps(axis, steps):
  """A logarithmic axis with the steps as its ticks."""
  plain(axis.xaxis)
  axis.xaxis.set_major_locator(FixedLocator(steps))


def plain(axis):
  """Makes an axis logarithmic, with 1, 2, 5, 10, ... as its ticks."""
  {'x': axis.axes.set_xscale, 'y': axis.axes.set_yscale}[axis.axis_name]('log')
  axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter('{x:g}')
