"""What the shipped model is measured by: n-grams, and words that it writes."""

import pytest

from experiments.shipped_model import ngram, text_quality


@pytest.mark.parametrize('context', ['ab', 'ba', 'zz', ' a'])
def test_kneser_ney_is_a_distribution(context):
  train = 'abracadabra abacus baa'
  alphabet = sorted(set(train)) + ['z']
  levels = ngram.fit(train, 3)
  total = sum(
    ngram.probability(levels, context, char, len(alphabet))
    for char in alphabet
  )
  assert total == pytest.approx(1.0)


def test_kneser_ney_by_hand():
  # Bigrams of abab: ab 2, ba 1. Left neighbors: of b one, of a one.
  levels = ngram.fit('abab', 2)
  # Both orders: one count of one, one or none of two.
  low, high = levels[0][3], levels[1][3]
  assert (low, high) == (1.0, pytest.approx(1 / 3))
  below = (1 - low) / 2 + low * 2 / 2 * 0.5  # continuation, then uniform
  expected = (2 - high) / 2 + high * 1 / 2 * below
  found = ngram.probability(levels, 'a', 'b', 2)
  assert found == pytest.approx(expected)


def test_words_at_the_edges_do_not_count():
  assert text_quality.inner_words("ing the king's men wal") == [
    'the', "king's", 'men',
  ]
  said = text_quality.describe(['a to be or', 'a to no or'], {'to', 'be'})
  assert said['words'] == 4 and said['known_words'] == 0.75
  assert (said['distinct_1'], said['distinct_2']) == (0.75, 1.0)
