"""The picture of a benchmark: accuracy against forward passes."""

import pathlib
from collections.abc import Sequence
from typing import Any

from punt_jax.cli import plots
from punt_jax.cli.plots import plt
from punt_jax.types import FilePath


def write(path: FilePath, rows: Sequence[dict[str, Any]]) -> None:
  """Writes the PNG. Bars are one standard error.

  Args:
    path: of the file.
    rows: of results.jsonl about one task; that of random tokens is the floor.
  """
  floor = [row for row in rows if row['sampler'] == 'random']
  rows = [row for row in rows if row['sampler'] != 'random']
  figure, axis = plt.subplots(figsize=(8, 4.2), layout='constrained')
  variants = {}
  for name, line in plots.split(rows).items():
    sampler = line[0]['sampler']
    variants[sampler] = variants.get(sampler, -1) + 1
    look = plots.style(sampler, variants[sampler])
    plots.curve(axis, line, 'accuracy', name, **look)
  for row in floor:
    axis.axhline(row['accuracy'], color='0.4', linestyle='--', linewidth=1)
    axis.annotate(
      'random tokens', (0.01, row['accuracy']), va='bottom', color='0.4',
      xycoords=axis.get_yaxis_transform(), fontsize=8,
      xytext=(0, 2), textcoords='offset points',
    )
  axis.set_title(title(rows[0]))
  plots.log_passes(axis, max(row['nfe'] for row in rows))
  plots.clean(
    axis, 'forward passes per answer (NFE)',
    f'{rows[0]["metric"]}\nhigher is better',
  )
  plots.legend(figure, axis, 'a point per setting')
  plots.save(figure, path)


def title(row: dict[str, Any]) -> str:
  """What was asked of whom."""
  return (
    f'{row["subject"]}, {row["items"]} questions, {row["length"]} tokens each,'
    f' temperature {row["temperature"]:g}\n'
    f'{pathlib.Path(row["model"]).name}'
  )
