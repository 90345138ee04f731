"""What people see of the main job: labels, colored texts, the film."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from punt_jax.generation import options, quality
from punt_jax.text import vocabulary as text_lib
from punt_jax.types import Move
from punt_jax.viz import film, terminal


def test_infinity_is_valid_json():
  choice = options.choose('punt', dict(epsilon=float('inf')))
  assert choice.settings() == {'epsilon': 'inf'}
  assert str(choice) == 'epsilon inf'


def test_ink_goes_from_early_to_late():
  assert terminal.ink('x', -1, 4, True) == 'x' == terminal.ink('x', 1, 4, False)
  used = [terminal.ink('x', t, 40, True) for t in range(40)]
  assert used == sorted(used, key=used.index) and len(set(used)) == 10
  assert terminal.ink('x', 0, 1, True) == used[0]


def test_verse_and_strip_hold_the_same_letters():
  letters, when = list('ab\ncd'), np.array([0, -1, 1, 1, 0])
  assert terminal.verse(letters, when, 2, False) == '    ab\n    cd'
  assert terminal.strip(letters, when, 2, False, width=3) == ['ab↵', 'cd']


def test_colors_follow_the_terminal_and_no_color(monkeypatch):
  class Terminal(io.StringIO):
    isatty = lambda self: True

  monkeypatch.delenv('NO_COLOR', raising=False)
  assert terminal.colored(Terminal()) and not terminal.colored(io.StringIO())
  monkeypatch.setenv('NO_COLOR', '1')
  assert not terminal.colored(Terminal())


def test_a_reel_shows_what_changed_and_when_it_was_paid():
  text = text_lib.characters('ab')
  moves = Move(
    tokens=np.array([[0, 2, 1], [1, 0, 1], [9, 9, 9]]), logp=None, done=None,
    info=np.array([3, 5, 0]),
  )
  choice = options.choose('top_k', dict(k=2))
  reel = film.reel(choice, text, np.array([2, 2, 1]), 2, moves)
  assert reel['start'] == [None, None, 'b'] and reel['settings'] == 'k 2'
  assert reel['frames'] == [
    {'paid': 3, 'at': [0], 'put': ['a']},
    {'paid': 5, 'at': [0, 1], 'put': ['b', 'a']},
  ]


def test_a_script_in_a_text_cannot_end_the_data(tmp_path):
  film.write(tmp_path / 'f.html', '</script><!--', {})
  page = (tmp_path / 'f.html').read_text()
  assert page.count('</script>') == 2 and '<!--' not in page


def test_distinct_counts_within_rows():
  assert quality.distinct(np.array([[0, 0, 0, 0, 0, 0]])) == 1 / 3
  assert quality.distinct(np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 9]])) == 3 / 4


@pytest.mark.parametrize('width', [60, 80, 120])
def test_what_the_demo_prints_fits_the_terminal(width, monkeypatch):
  monkeypatch.setenv('COLUMNS', str(width))
  names = 'punt', 'adaptive_parallel', 'hierarchical'
  row = dict(
    label='mix 0.5, block_length 32, score confidence', nfe=45.25, depth=45.25,
    steps=6.5, forwards=[53], seconds=1.5, characters_per_nfe=2.84,
    bits_per_character=2.02, bits_error=0.04, distinct_4=0.98, rows=4,
    temperature=0.5,
  )
  rows = [row | {'sampler': name} for name in names]
  outcomes = [
    SimpleNamespace(
      choice=SimpleNamespace(name=name),
      row=lambda r: (['x'] * 128, np.zeros(128, int), 3),
      decoded=SimpleNamespace(meter=SimpleNamespace(nfe=[45])),
    ) for name in names
  ]
  table = terminal.table(rows)
  strips = terminal.strips(outcomes, 0, False)
  for said in (table, strips, terminal.notes(rows, 2, 2.7)):
    assert max(map(len, said.split('\n'))) <= width
  assert table.count('2.02 +- 0.04') == 3 and strips.count('x') == 3 * 128
  starts = {line.index('x' * 8) for line in strips.split('\n') if 'x' in line}
  assert len(starts) == 1  # texts stand below each other
