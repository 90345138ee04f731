"""Tables as text."""

from punt_jax.viz.table import number, table

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
