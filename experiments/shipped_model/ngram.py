"""Interpolated Kneser-Ney character n-grams: the bar for a text model.

Every order backs off to the next lower one with continuation counts; the
lowest mixes with the uniform distribution, so that no character has
probability 0.
One discount per order, D = n1 / (n1 + 2 n2) (Ney et al., 1994; Chen and
Goodman, 1999, An Empirical Study of Smoothing Techniques for Language
Modeling, sections 2.7 and 3). Held-out characters are predicted with their
full left context, across windows and from the training text's end.

  python -m experiments.shipped_model.ngram --path=input.txt
"""

import collections
import json

import numpy as np
from absl import flags

from punt_jax.cli import command
from train import data


def _discount(counts):
  """Absolute discount of one order from its counts of counts."""
  n1 = sum(1 for c in counts.values() if c == 1)
  n2 = sum(1 for c in counts.values() if c == 2)
  return n1 / (n1 + 2 * n2) if n1 else 0.5


def fit(text, order):
  """Counts of an interpolated Kneser-Ney model.

  Args:
    text: training text, at least `order` characters.
    order: n >= 1.

  Returns:
    list of (counts, context totals, context types, discount), lowest order
    first; counts of the highest order are plain, the others continuation
    counts (distinct left neighbors).
  """
  seen = [
    collections.Counter(text[i : i + n] for i in range(len(text) - n + 1))
    for n in range(1, order + 1)
  ]
  levels = []
  for n in range(1, order + 1):
    if n == order:
      counts = seen[-1]
    else:
      counts = collections.Counter(gram[1:] for gram in seen[n])
    totals, types = collections.Counter(), collections.Counter()
    for gram, count in counts.items():
      totals[gram[:-1]] += count
      types[gram[:-1]] += 1
    levels.append((counts, totals, types, _discount(counts)))
  return levels


def probability(levels, context, char, vocab):
  """p(char | context), interpolated from the uniform distribution upwards."""
  p = 1.0 / vocab
  for n, (counts, totals, types, discount) in enumerate(levels):
    left = context[len(context) - n :] if n else ''
    total = totals[left]
    if total:
      kept = max(counts[left + char] - discount, 0.0)
      p = (kept + discount * types[left] * p) / total
  return p


def bits_per_character(train, heldout, order):
  """Mean -log2 p of each held-out character given all to its left.

  Characters that occur only in `heldout` count in the vocabulary.
  """
  levels = fit(train, order)
  vocab = len(set(train) | set(heldout))
  string = train[len(train) - order :] + heldout
  bits = [
    -np.log2(probability(levels, string[i - order + 1 : i], string[i], vocab))
    for i in range(order, len(string))
  ]
  return float(np.mean(bits))


def main(_):
  path, held = flags.FLAGS.path, flags.FLAGS.heldout
  train, heldout = data.split_text(data.read_text(path), held)
  for order in map(int, flags.FLAGS.orders):
    bits = bits_per_character(train, heldout, order)
    row = {'path': path, 'order': order, 'bits_per_character': bits}
    print(json.dumps({**row, 'heldout_characters': len(heldout)}), flush=True)


if __name__ == '__main__':
  flags.DEFINE_string('path', 'pydoc', 'UTF-8 file or folder, or pydoc.')
  flags.DEFINE_list('orders', ['2', '3', '5'], 'n of each n-gram.')
  flags.DEFINE_float('heldout', 0.1, 'Share of the text held out.')
  command.run(main)
