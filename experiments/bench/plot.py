"""The pictures of the benchmarks: overhead, memory, use of the device."""

from punt_jax.cli import plots
from punt_jax.cli.plots import plt

OVERHEAD = 'wall / (forwards x forward alone)'


def samplers(path, rows):
  """Writes the PNG: a panel per vocabulary, a line per sampler.

  Args:
    path: of the file.
    rows: of results.jsonl of `python -m experiments.bench`.
  """
  subjects = list(dict.fromkeys(row['subject'] for row in rows))
  names = list(dict.fromkeys(row['sampler'] for row in rows))
  figure, axes = plt.subplots(
    1, len(subjects), figsize=(5 * len(subjects), 1.5 + 0.35 * len(names)),
    sharex=True, sharey=True, squeeze=False, layout='constrained',
  )
  for axis, subject in zip(axes[0], subjects, strict=True):
    kinds = {}
    for row in rows:
      if row['subject'] == subject:
        kind = f'B = {row["batch"]}, T = {row["temperature"]:g}'
        kinds.setdefault(kind, []).append(row)
    for kind, some in kinds.items():
      axis.plot(
        [row['overhead'] for row in some],
        [names.index(row['sampler']) for row in some],
        'o', alpha=0.7, label=kind,
      )
    axis.axvline(1, color='gray', linewidth=1)
    axis.set_title(subject)
    plots.clean(axis, OVERHEAD)
  axes[0, 0].set_yticks(range(len(names)), names)
  axes[0, 0].invert_yaxis()
  axes[0, -1].legend(fontsize=8)
  plots.save(figure, path)


def models(path, rows):
  """Writes the PNG: overhead, memory and MFU of every setting.

  Args:
    path: of the file.
    rows: of results.jsonl with configs/bench_model.py.
  """
  names = ['{sampler}, L {length}, B {batch}'.format(**row) for row in rows]
  share = [row['memory_mib'] / row['allowed_mib'] for row in rows]
  panels = (
    (OVERHEAD, [row['overhead'] for row in rows], 1),
    ('memory / allowed', share, 1),
    ('MFU of the forward alone', [row['mfu'] for row in rows], None),
  )
  figure, axes = plt.subplots(
    1, 3, figsize=(12, 1.5 + 0.3 * len(rows)), sharey=True,
    layout='constrained',
  )
  for axis, (label, values, mark) in zip(axes, panels, strict=True):
    axis.barh(names, values, color='#4c6f8f', zorder=2)
    plots.clean(axis, label)
    if mark is not None:
      axis.axvline(mark, color='gray', linewidth=1)
  axes[0].invert_yaxis()
  figure.suptitle('{subject}, {dtype}, {machine}'.format(**rows[-1]))
  plots.save(figure, path)
