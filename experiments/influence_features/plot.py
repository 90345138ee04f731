"""The picture of influence: how far it reaches, and what predicts it."""

from punt_jax.cli import plots
from punt_jax.cli.plots import plt


def draw(path, rows):
  """Influence by distance, and what each set of features explains."""
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.5), layout='constrained'
  )
  for row in rows:
    nats = row['nats_by_distance'] or ()
    left.semilogy(range(1, len(nats) + 1), nats, 'o-', markersize=3)
  plots.clean(
    left, 'distance (characters)', 'mean KL(before || after) (nats)'
  )
  left.set_title('How far revealing one character moves another')
  rows = sorted(rows, key=lambda row: row['explained'])
  plots.clean(
    right, 'share of variance explained, on rows not learned from'
  )
  right.barh(
    [' x '.join(row['settings']['features']) for row in rows],
    [row['explained'] for row in rows], color='#1d6fb8', zorder=2,
  )
  right.set_title('What predicts it')
  plots.save(figure, path)
