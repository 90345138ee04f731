"""Training data: any UTF-8 text, or samples of an exact world.

A batch is a pure function of (seed, step), so the iterator's whole state is
the step, and resuming is exact by construction. Text is cut into windows;
each epoch shifts the cuts and shuffles the windows anew.
"""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from punt_jax import checks, files, oracles
from punt_jax.text import vocabulary as text_lib
from train import puzzles


class Data(NamedTuple):
  """What the trainer needs to know about its data."""

  vocab: int  # V
  batch: Callable  # step -> (B, L) int32
  heldout: Any  # (n, L) int32, never trained on
  units: float  # tokens per character (text) or 1.0 (worlds)
  text: Any = None  # punt_jax.text.vocabulary.Text, or None for a world
  floor: Any = None  # worlds: mean -log p of `heldout`, nats per token
  digests: Any = {}  # {'corpus', 'tokenizer': SHA-256} of what lies in files


def read_text(path):
  """The text of a file, of all files of a folder, or of CPython's topics.

  A byte order mark is no letter, and lines end in a line feed alone.

  Args:
    path: 'pydoc' for pydoc_data.topics, which every CPython has, or a path.

  Raises:
    ValueError: one sentence, if there is nothing there or it is not UTF-8.
  """
  if path == 'pydoc':
    from pydoc_data import topics

    return '\n\n'.join(topics.topics[name] for name in sorted(topics.topics))
  root = pathlib.Path(path)
  if not path or not root.exists():
    raise ValueError(
      f'there is no corpus at {path!r}: set --config.data.path to a UTF-8'
      " file or folder, or to 'pydoc'"
    )
  there = sorted(root.rglob('*')) if root.is_dir() else [root]
  parts = []
  for file in filter(pathlib.Path.is_file, there):
    try:
      text = file.read_bytes().decode('utf-8-sig')
      parts.append(text.replace('\r\n', '\n'))
    except UnicodeDecodeError as error:
      raise ValueError(
        f'{file} is not UTF-8 (byte {error.start}): convert it first, for'
        ' instance with iconv'
      ) from None
  if not ''.join(parts).strip():
    raise ValueError(f'the corpus at {path!r} is empty')
  return '\n'.join(parts)


def split_text(string, heldout):
  """Cuts off the last `heldout` share: (training text, held-out text)."""
  cut = len(string) - round(len(string) * heldout)
  return string[:cut], string[cut:]


def vocabulary(kind, string):
  """kind: 'characters', 'bytes', or the path of a tokenizers file."""
  if kind == 'characters':
    return text_lib.characters(''.join(sorted(set(string))))
  if kind == 'bytes':
    return text_lib.utf8_bytes()
  file = pathlib.Path(kind)
  if not file.is_file():
    raise ValueError(
      f"data.tokens is {kind!r}: use 'characters', 'bytes' or the path of a"
      ' tokenizers file'
    )
  try:
    return text_lib.tokenizer(file.read_text('utf-8-sig'))
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def windows(ids, length, batch, seed):
  """step -> (batch, length): shuffled, shifted windows of ids, for ever.

  An epoch shows each of its windows once; batches run on across epochs.
  """
  count = (len(ids) - length) // length

  @functools.lru_cache(maxsize=2)
  def starts(epoch):
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(count) * length + rng.integers(length)

  def draw(step):
    index = np.arange(step * batch, (step + 1) * batch)
    begin = np.array([starts(i // count)[i % count] for i in index.tolist()])
    return ids[begin[:, None] + np.arange(length)].astype(np.int32)

  return draw


def text_data(config):
  """A text: config.data has path, tokens, length and the share heldout."""
  data = config.data
  string = read_text(data.path)
  vocab = vocabulary(data.tokens, string)
  train, held = split_text(string, data.heldout)
  # Every letter is data, whatever stands for MASK elsewhere.
  train_ids, held_ids = vocab.encode(train, ''), vocab.encode(held, '')
  if len(train_ids) < 2 * data.length or len(held_ids) < data.length:
    raise ValueError(
      f'the corpus at {data.path!r} is too short: {len(train_ids)} tokens to'
      f' train on and {len(held_ids)} held out, for windows of {data.length};'
      ' use more text or a smaller data.length'
    )
  rows = len(held_ids) // data.length
  return Data(
    vocab=vocab.vocab,
    batch=windows(train_ids, data.length, config.batch, config.seed),
    heldout=held_ids[: rows * data.length].reshape(rows, data.length),
    units=len(held_ids) / len(held),
    text=vocab,
    digests=digests_of(data, string),
  )


def digests_of(data, string):
  """{'corpus': digest, 'tokenizer': digest if it is a file}."""
  found = {'corpus': hashlib.sha256(string.encode()).hexdigest()}
  if data.tokens not in ('characters', 'bytes'):
    found['tokenizer'] = files.digest(data.tokens)
  return found


def build_world(data):
  """The exact world that config.data describes.

  data.world is table, product, chain, permuted (a chain in random order) or
  parity; data.length and data.vocab are its size, data.seed draws its
  distribution; parity takes data.checks, tuples of positions, instead of the
  last two.
  """
  dist, order = jax.random.split(jax.random.key(data.get('seed', 0)))
  shape = data.length, data.get('vocab', 2)
  chain = lambda: oracles.random_chain(dist, *shape)
  builders = {
    'table': lambda: oracles.random_table(dist, *shape),
    'product': lambda: oracles.product(jax.random.normal(dist, shape)),
    'chain': chain,
    'permuted': lambda: oracles.permuted(
      chain(), jax.random.permutation(order, data.length)
    ),
    'parity': lambda: oracles.parity(data.length, data.checks),
  }
  return builders[checks.known('world', data.world, builders)]()


def world_data(config):
  """Fresh samples of an exact world; data.heldout of them are held out."""
  world = build_world(config.data)
  key = jax.random.key(config.seed)
  batches, held = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)

  def batch(step):
    return np.asarray(
      world.sample(jax.random.fold_in(batches, step), config.batch)
    )

  heldout = np.asarray(world.sample(held, config.data.heldout))
  return Data(
    vocab=world.vocab,
    batch=batch,
    heldout=heldout,
    units=1.0,
    floor=float(-world.log_prob(heldout).mean() / world.length),
  )


def puzzle_data(config):
  """Fresh Sudoku grids; data.heldout others, of those never trained on."""
  checks.known('puzzle', config.data.puzzle, ('sudoku',))
  draw = lambda stream, count, test: puzzles.draw(
    np.random.default_rng([config.seed, *stream]), count, test
  )
  return Data(
    vocab=puzzles.SIDE,
    batch=lambda step: draw((0, step), config.batch, False),
    heldout=draw((1,), config.data.heldout, True),
    units=1.0,
    text=text_lib.characters(puzzles.ALPHABET),
    floor=math.log(puzzles.COUNT) / puzzles.LENGTH,
  )


def load(config):
  """The data that config.data describes: a world, a puzzle, or text."""
  if 'puzzle' in config.data:
    return puzzle_data(config)
  if 'world' in config.data:
    return world_data(config)
  return text_data(config)


def score(data, evaluate, params, rows, draws, seed):
  """Held-out NELBO of `rows` windows spread over the held-out data.

  Args:
    data: Data.
    evaluate: of step.make_evaluate.
    params: of the network.
    rows: how many, at most.
    draws: masks of each.
    seed: of the masks.
  """
  index = np.linspace(0, len(data.heldout) - 1, min(rows, len(data.heldout)))
  tokens = data.heldout[index.astype(int)]
  nats, error = evaluate(params, tokens, draws, seed)
  scale = data.units / np.log(2)
  return {
    'heldout_nats': nats,
    'heldout_nats_error': error,
    'heldout_bits': nats * scale,
    'heldout_bits_error': error * scale,
  }
