"""What samplers are tried on: an exact world, or a model of text.

Both answer the same questions about finished canvases: how far is their
information above that of exact ones (excess NLL, nats per token), and how far
off are their simplest statistics (a total variation).

In an exact world the reference is its joint distribution. A model of text has
no known joint, so its reference is its own writing, one by one in uniformly
random order: the excess is that of the chain-rule NLL under the same model in
random order (the NELBO, with the same random masks for all), the total
variation that of adjacent pairs of tokens, pooled over positions. Such a model
is one that ships, or a user's own: a file of train.export, or a checkpoint
directory. Rows call it by its name and a digest of what it holds.
"""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns
from punt_jax import checkpoints, files, oracles, samplers
from punt_jax.checks import numbers
from punt_jax.generation import generator, quality
from punt_jax.generation.warm_up import distances
from punt_jax.oracles import named

NAMES = (*named.NAMES, *checkpoints.names())
# What the settings of a world may be, see checks.numbers.
WORLD = {
  'vocab': (2, 2**12), 'beta': (-1e3, 1e3), 'states': (1, 2**12),
  'checks': (0.0, 1.0), 'weight': (1, 2**12), 'paragraphs': (1, 2**12),
  'details': (1, 2**12), 'down': (-1e3, 1e3), 'up': (-1e3, 1e3),
}


class Subject(NamedTuple):
  """A model at one length, and what is known of it."""

  name: str
  length: int  # L
  vocab: int  # V
  params: Any
  model: Callable  # params -> Denoiser, traceable
  errors: Callable  # Decoded of empty canvases at temperature 1 -> columns
  world: Any = None  # oracles.World of params; None for text
  text: Any = None  # vocabulary.Text; None in a world
  alike: Any = None  # (L, L) for samplers.fit_influence; None in a world

  def empty(self, rows):
    """Canvases (rows, L) of MASK."""
    return np.full((rows, self.length), self.vocab, np.int32)


def of(name, length, settings, seed, rows=0, draws=0) -> Subject:
  """The world or the model of text `name`; worlds of one length share a key.

  Args:
    name: of NAMES, or the path of a model.
    length: L.
    settings: of a world.
    seed: of it, or of the texts.
    rows: see of_text; 0 where nobody asks for errors.
    draws: likewise.
  """
  if name in named.NAMES:
    key = jax.random.fold_in(jax.random.key(seed), length)
    return of_world(name, length, settings, key)
  return of_text(name, length, rows, draws, seed)


def of_world(name, length, settings, key) -> Subject:
  """The world `name` of oracles.named, drawn with `key`.

  Raises:
    ValueError: one sentence: an unknown name, or settings of another length.
  """
  params = named.draw(name, key, length, settings)
  make = lambda params: named.make(name, params, length, settings)
  world = make(params)

  def errors(decoded):
    given = np.full(decoded.tokens.shape, world.vocab)
    return columns.errors(world, decoded, given)

  return Subject(
    name, length, world.vocab, params,
    lambda params: oracles.as_denoiser(make(params)), errors, world,
  )


def of_text(name, length, rows, draws, seed) -> Subject:
  """A model of text, and `rows` texts it is compared with.

  Args:
    name: of checkpoints.names(), or a path.
    length: L.
    rows: canvases that the model writes one by one, when errors are first
      asked for; twice, so that the floor is known.
    draws: masks per text when it is scored.
    seed: of the texts and the masks.
  """
  loaded = load(name)
  reference = []

  def errors(decoded):
    if not reference:
      reference.append(text_errors(loaded, length, rows, draws, seed))
    return reference[0](decoded)

  return Subject(
    label(name), length, loaded.text.vocab, loaded.params, loaded.denoiser,
    errors, text=loaded.text, alike=distances(length),
  )


def text_errors(loaded, length, rows, draws, seed):
  """Decoded -> columns, of texts of a Pretrained; see `of_text`."""
  score = quality.scorer(loaded, draws, seed)
  build = lambda params, _: (loaded.denoiser(params), samplers.uniform(1))
  write = punt_jax.compile(build)
  empty = np.full((rows, length), loaded.text.vocab, np.int32)
  exact, other = (
    np.asarray(write(loaded.params, (), jax.random.key(seed), empty).tokens)
    for seed in (seed + 1000, seed + 2000)
  )
  nats = lambda tokens: np.array(score(tokens)) * math.log(2)
  mean, spread = nats(exact)

  def errors(decoded):
    found, error = nats(decoded.tokens)
    return {
      'excess_nll': float(found - mean),
      'excess_nll_error': math.hypot(error, spread),
      'excess_nll_floor': float(spread),
      'pair_tv': pair_tv(decoded.tokens, exact),
      'pair_tv_error': 0.0,
      'pair_tv_floor': pair_tv(other, exact),
      'impossible': 0.0,
    }

  return errors


def check_numbers(config, limits):
  """checks.numbers of a config and of its settings of worlds."""
  numbers(config, limits)
  some = {k: limit for k, limit in WORLD.items() if k in config.settings}
  numbers(config.settings, some, 'settings.')


def check(name, length, settings):
  """Names a subject that does not exist, or not of this length. Runs nothing.

  Raises:
    ValueError: one sentence.
  """
  if name not in NAMES and not pathlib.Path(name).exists():
    raise ValueError(
      f'unknown subject {name!r}: use one of {", ".join(NAMES)}, or the path of'
      ' a model'
    )
  if name in named.NAMES:
    draw = lambda key: named.draw(name, key, length, settings)
    params = draw(jax.random.key(0))
    make = lambda params: named.make(name, params, length, settings) and None
    jax.eval_shape(make, params)
    return
  loaded = load(name)
  tokens = jax.ShapeDtypeStruct((1, length), np.int32)

  def look(params, tokens):
    model = loaded.denoiser(params)
    memo = model.init(tokens, tokens >= 0)
    return model.ask(memo, tokens, tokens[:, 0] >= 0)[1].features

  jax.eval_shape(look, loaded.params, tokens)


@functools.lru_cache(2)
def load(name):
  """A model of text: checkpoints.Pretrained.

  Raises:
    ValueError: one sentence: there is none, or it has no vocabulary.
  """
  loaded = checkpoints.load(name)
  generator.need_text(loaded)
  return loaded


@functools.cache
def label(name):
  """What rows call a subject: 'chain', 'shakespeare', 'my_model-1a2b3c4d'.

  Of a file or folder it is the name without its path, and the start of a
  SHA-256 of its content, so that another model in its place has other rows.
  """
  path = pathlib.Path(name)
  if name in NAMES or not path.exists():
    return name
  digest = hashlib.sha256()
  for file in sorted(path.iterdir()) if path.is_dir() else [path]:
    if file.is_file():
      inside = bytes.fromhex(files.digest(file))
      digest.update(file.name.encode() * path.is_dir() + inside)
  stem = path.resolve().name.removesuffix('.safetensors')
  return f'{stem}-{digest.hexdigest()[:8]}'


def offers(name):
  """What the subject `name` can be asked beyond log-probabilities."""
  if name in named.NAMES:
    return frozenset({'in_order'})
  return load(name).offers


def pair_tv(tokens, others):
  """Total variation between the adjacent pairs of tokens of two (B, L)."""
  both = [
    np.stack([x[:, :-1], x[:, 1:]], -1).reshape(-1, 2) for x in (tokens, others)
  ]
  _, codes = np.unique(np.concatenate(both), axis=0, return_inverse=True)
  n, codes = len(both[0]), codes.ravel()
  shares = [
    np.bincount(x, minlength=codes.max() + 1) / len(x)
    for x in (codes[:n], codes[n:])
  ]
  return float(np.abs(np.subtract(*shares)).sum() / 2)


def tv(row):
  """(total variation, its error, its floor) of a row, whichever it has."""
  key = 'unigram_tv' if 'unigram_tv' in row else 'pair_tv'
  return row[key], row[f'{key}_error'], row[f'{key}_floor']
