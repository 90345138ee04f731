"""Pictures: texts are inside of them, and curves can be told apart."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_rgb

from experiments.beyond import plot as beyond
from experiments.beyond.contenders import CONTENDERS
from experiments.frontier import plot as frontier
from experiments.learned_orders import __main__ as learned_orders
from experiments.learned_orders import plot as orders_plot
from punt_jax import samplers
from punt_jax.cli import plots
from punt_jax.viz import figures, picture
from tests.helpers import pictures

LONG = 'a title that says so much that no figure of this width can hold it all'


def lab(color):
  """CIE L*a*b* of a color, D65."""
  rgb = np.array(to_rgb(color))
  rgb = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
  to_xyz = np.array([
    [0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]
  ])
  xyz = to_xyz @ rgb / np.array([0.9505, 1, 1.089])
  f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one, other):
  """CIE 1976: 2 can be told side by side, 20 at a glance."""
  return np.linalg.norm(lab(one) - lab(other))


def both(look):
  return look['color'], look['marker']


def test_no_two_curves_look_alike():
  """Samplers, and 8 ways to wrap each."""
  names = samplers.NAMES
  looks = {name: plots.style(name) for name in names}
  assert len(set(map(both, looks.values()))) == len(names) >= 30
  every = [
    (*both(look), look['linestyle'], look['fillstyle'])
    for name in names for look in (plots.style(name, n) for n in range(8))
  ]
  assert len(set(every)) == len(every)


@pytest.mark.parametrize('step', [1, 2])
def test_neighbors_in_a_legend_contrast(step):
  colors = [plots.style(name)['color'] for name in samplers.NAMES]
  for one, other in zip(colors, colors[step:], strict=False):
    assert apart(one, other) > 40, (one, other)
  every = itertools.combinations({*plots.MUTED, *plots.STRONG}, 2)
  assert min(apart(*pair) for pair in every) > 20


@pytest.mark.parametrize('look, names', [
  (beyond.look, CONTENDERS), (orders_plot.look, learned_orders.CONTENDERS)
])
def test_contenders_look_different_and_keep_their_looks(look, names):
  looks = [both(look(name)) for name in names]
  assert len(set(looks)) == len(looks)


def rows_of(names, lengths=(8,), **more):
  """Rows of the frontier about some samplers, two variants of each."""
  numbers = {
    f'{key}{end}': 0.1 for end in ('', '_error', '_floor')
    for key in ('nfe', 'impossible', *frontier.ERRORS)
  }
  return [
    {
      **numbers, 'subject': 'permuted', 'length': length, 'temperature': 1.0,
      'sampler': name, 'settings': {'k': k, 'particles': k}, 'rows': 4,
      'shown': 0.1, 'nfe': 2.0 * k, 'gap': 0.3 / k, 'impossible': 0.0, **more,
    }
    for name in names for k in (1, 3) for length in lengths
  ]


@pytest.mark.slow
@pytest.mark.parametrize('names, lengths', [
  (samplers.NAMES, (8,)), (samplers.NAMES[:3], (8, 16, 32))
])
def test_the_frontier_of_the_whole_family_fits(
  names, lengths, tmp_path, monkeypatch
):
  checked, fit = [], figures.fit
  monkeypatch.setattr(figures, 'fit', lambda figure: (
    fit(figure), pictures.check(figure), checked.append(figure)
  ))
  rows = rows_of(names, lengths, subject=f'{LONG} {LONG}')
  frontier.write(tmp_path / 'a.png', rows)
  assert len(checked) == 1
  legend = checked[0].legends[0]
  assert len(legend.get_texts()) == 2 * len(names)
  assert image.imread(tmp_path / 'a.png').std() > 0.05


def test_titles_and_labels_are_broken_and_room_is_made():
  figure, axes = plots.plt.subplots(1, 3, figsize=(6, 2), layout='constrained')
  figure.suptitle(f'{LONG}, {LONG}')
  for axis in axes:
    axis.set_title(LONG)
    axis.set_xlabel(LONG)
    axis.set_ylabel(LONG)
    axis.plot([0, 1], label=LONG)
  plots.legend(figure, axes[0])
  with pytest.raises(AssertionError, match='leaves the picture'):
    pictures.check(figure)
  figures.fit(figure)
  pictures.check(figure)
  assert figure._suptitle.get_text().replace('\n', ' ') == f'{LONG}, {LONG}'
  size = tuple(figure.get_size_inches())
  figures.fit(figure)
  assert tuple(figure.get_size_inches()) == size  # nothing more to do
  plots.plt.close(figure)


def test_what_fits_is_left_alone():
  figure, axis = plots.plt.subplots(figsize=(6, 4), layout='constrained')
  axis.set_title('short')
  figures.fit(figure)
  assert tuple(figure.get_size_inches()) == (6, 4)
  assert axis.get_title() == 'short'
  plots.plt.close(figure)


@pytest.mark.parametrize('count', [
  pytest.param(1, marks=pytest.mark.slow), 12
])
def test_the_picture_of_the_demo_fits(count, tmp_path, monkeypatch):
  fit = figures.fit
  monkeypatch.setattr(figures, 'fit', lambda figure: (
    fit(figure), pictures.check(figure)
  ))
  decoded = SimpleNamespace(
    steps=np.array([4, 3]), when=np.arange(12).reshape(2, 6) % 4
  )

  class Choice:
    name = 'adaptive_parallel'

    def __str__(self):
      return 'mix 0.5, block_length 32, refresh 4, score confidence'

  outcomes = [SimpleNamespace(decoded=decoded, choice=Choice())] * count
  rows = [
    dict(nfe=10.0, bits_per_character=2.0, bits_error=0.1, sampler=name)
    for name in ('one_by_one', *['punt'] * count)
  ]
  picture.write(tmp_path / 'order.png', f'{LONG}; {LONG}', outcomes, rows)
  picture.histograms(tmp_path / 'nfe.png', 'rows', {LONG: [1, 2], 'b': [3]})
  assert image.imread(tmp_path / 'order.png').std() > 0.05
