"""Tables as text."""

import pytest

from punt_jax.viz.table import broken, number, table

ROWS = [('punt', 'a', '1.25'), ('uniform', '', '10.50')]


def test_columns_are_aligned_under_heads_of_two_lines():
  assert table(('name', 'what', 'forward\npasses'), ROWS, 2).split('\n') == [
    '               forward',
    'name     what   passes',
    'punt     a        1.25',
    'uniform          10.50',
  ]
  assert table(('a', 'b', 'c'), iter(ROWS)).split('\n')[1:] == [
    'punt     a   1.25', 'uniform     10.50'
  ]


def test_markdown():
  assert table(('name', 'what', 'forward\npasses'), ROWS, markdown=True) == (
    '| name | what | forward passes |\n| --- | ---: | ---: |\n'
    '| punt | a | 1.25 |\n| uniform |  | 10.50 |'
  )


def test_numbers():
  assert number(None) == number(None, 0.1) == '-'
  assert number(0.12345, 0.004) == '0.123 +- 0.004'
  assert number(2.5, digits=1) == '2.5'


NAMES = ('punt', 'adaptive_parallel', 'x' * 40)
LONG_HEADS = (
  'sampler', 'settings', 'passes', 'mean log p of all tokens',
  'device\npasses', 'bits per\ncharacter', 'seconds',
)
LONG_ROWS = [
  (
    name, f'epsilon {n}.05, first msb, score entropy, block_length {n}2',
    f'{1234.5 + n}', '-0.123 +- 0.004', f'{n}', '4.32 +- 0.12', '12.50',
  )
  for n, name in enumerate(NAMES, 1)
]


@pytest.mark.parametrize('width', [60, 80, 120, 300])
def test_a_table_fits_and_loses_nothing(width):
  said = table(LONG_HEADS, LONG_ROWS, 2, width=width)
  lines = said.split('\n')
  assert max(map(len, lines)) <= width
  for row in LONG_ROWS:  # numbers are never broken
    for cell in row[2:]:
      assert cell in said
  blocks = said.split('\n\n')
  assert (len(blocks) == 1) == (width >= 120)
  # Letters of the keys stand in every block, in their order.
  for text in blocks:
    keys = [line[: width // 2 + 2].split('  ')[0] for line in text.split('\n')]
    assert 'adaptive_parallel' in ''.join(keys)
    assert 'x' * 40 in ''.join(keys)
  if width == 300:
    assert len(lines) == 2 + len(LONG_ROWS)


def test_cells_are_broken_where_words_end():
  assert broken('block_length 32, k 4', 12) == ['block_length', '32, k 4']
  assert broken('adaptive_parallel', 12) == ['adaptive_', 'parallel']
  assert broken('x' * 7, 3) == ['xxx', 'xxx', 'x']
  assert broken('', 3) == ['']


def test_the_width_is_the_terminals(monkeypatch):
  monkeypatch.setenv('COLUMNS', '60')
  narrow = table(LONG_HEADS, LONG_ROWS, 2)
  assert narrow == table(LONG_HEADS, LONG_ROWS, 2, width=60)
  monkeypatch.delenv('COLUMNS')
  monkeypatch.setattr(  # not on a terminal
    'os.get_terminal_size', lambda *_: (_ for _ in ()).throw(OSError())
  )
  assert table(LONG_HEADS, LONG_ROWS, 2) == table(
    LONG_HEADS, LONG_ROWS, 2, width=80
  )
