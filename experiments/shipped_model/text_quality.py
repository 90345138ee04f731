"""Does the model write words? One position per forward pass, several orders.

  python -m experiments.shipped_model.text_quality --path=input.txt

A word is a run of letters and apostrophes, in its own spelling, that does not
touch the edge of the canvas. Each row of the output has the share of words
that occur in the training text, and distinct-n: distinct word n-grams as a
share of all of them (Li et al., 2016, https://arxiv.org/abs/1510.03055). The
first row is the held-out text itself, cut into canvases of the same number and
length.
"""

import json
import re

import jax
import numpy as np
from absl import flags

import punt_jax
from punt_jax import checkpoints, samplers
from punt_jax.cli import command
from train import data

WORD = re.compile(r"[A-Za-z']+")


def inner_words(string):
  """Words of a text, without those that its edges may have cut."""
  found = WORD.finditer(string)
  return [m[0] for m in found if m.start() > 0 and m.end() < len(string)]


def distinct(texts, n):
  """Distinct word n-grams as a share of all, n-grams within a text."""
  grams = [
    tuple(words[i : i + n])
    for words in map(inner_words, texts)
    for i in range(len(words) - n + 1)
  ]
  return len(set(grams)) / max(len(grams), 1)


def describe(texts, vocabulary):
  """What a row of the output says about a list of texts."""
  words = [word for text in texts for word in inner_words(text)]
  known = sum(word in vocabulary for word in words)
  return {
    'words': len(words),
    'known_words': known / max(len(words), 1),
    **{f'distinct_{n}': distinct(texts, n) for n in (1, 2, 3)},
  }


def writer(loaded, order):
  """write(temperature, rows, seed) -> texts; compiled once."""

  def build(params, hyperparams):
    model = punt_jax.temper(loaded.denoiser(params), hyperparams)
    if order == 'uniform':
      return model, samplers.uniform(1)
    return model, samplers.one_by_one(order)

  run = punt_jax.compile(build)

  def write(temperature, rows, seed):
    tokens = np.full((rows, loaded.length), loaded.text.vocab, np.int32)
    out = run(loaded.params, temperature, jax.random.key(seed), tokens)
    return [loaded.text.decode(row) for row in np.asarray(out.tokens)]

  return write


def main(_):
  given = flags.FLAGS
  train, heldout = data.split_text(data.read_text(given.path), given.heldout)
  vocabulary = set(WORD.findall(train))
  loaded = checkpoints.load(given.model)
  size = loaded.length
  cuts = [heldout[i * size : (i + 1) * size] for i in range(given.rows)]
  print(json.dumps({'text': 'held out', **describe(cuts, vocabulary)}))
  for order in given.orders:
    write = writer(loaded, order)
    for temperature in map(float, given.temperatures):
      texts = write(temperature, given.rows, given.seed)
      row = {'order': order, 'temperature': temperature}
      print(json.dumps({**row, **describe(texts, vocabulary)}), flush=True)
      print(texts[0])


if __name__ == '__main__':
  flags.DEFINE_string('path', None, 'The training text of the model.')
  flags.DEFINE_string('model', 'shakespeare', 'A pretrained model.')
  flags.DEFINE_float('heldout', 0.1, 'Share of the text held out.')
  flags.DEFINE_integer('rows', 64, 'Canvases to fill.')
  flags.DEFINE_integer('seed', 0, 'Seed.')
  flags.DEFINE_list(
    'orders', ['left_to_right', 'confidence', 'uniform'], 'Writing orders.'
  )
  flags.DEFINE_list('temperatures', ['0.3', '0.5', '1.0'], 'Of the drafts.')
  flags.mark_flags_as_required(['path'])
  command.run(main)
