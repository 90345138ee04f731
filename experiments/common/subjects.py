"""What samplers are tried on: an exact world, or a model of text.

Both answer the same questions about finished canvases: how far is their
information above that of exact ones (excess NLL, nats per token), and how far
off are their simplest statistics (a total variation).

In an exact world the reference is its joint distribution. A model of text has
no known joint, so its reference is its own writing, one by one in uniformly
random order: the excess is that of the chain-rule NLL under the same model in
random order (the NELBO, with the same random masks for all), the total
variation that of adjacent pairs of characters, pooled over positions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns
from punt_jax import checkpoints, checks, oracles, samplers
from punt_jax.generation import quality
from punt_jax.generation.warm_up import distances
from punt_jax.oracles import named

NAMES = (*named.NAMES, *checkpoints.names())


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
    name: of NAMES.
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
  """A model of text that ships, and `rows` texts it is compared with.

  Args:
    name: of checkpoints.names().
    length: L.
    rows: canvases that the model writes one by one, when errors are first
      asked for; twice, so that the floor is known.
    draws: masks per text when it is scored.
    seed: of the texts and the masks.
  """
  loaded = checkpoints.load(name)
  reference = []

  def errors(decoded):
    if not reference:
      reference.append(text_errors(loaded, length, rows, draws, seed))
    return reference[0](decoded)

  return Subject(
    name, length, loaded.text.vocab, loaded.params, loaded.denoiser,
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

  def distance(tokens, others):
    a, b = pairs(tokens, loaded.text.vocab), pairs(others, loaded.text.vocab)
    return float(np.abs(a - b).sum() / 2)

  def errors(decoded):
    found, error = nats(decoded.tokens)
    return {
      'excess_nll': float(found - mean),
      'excess_nll_error': math.hypot(error, spread),
      'excess_nll_floor': float(spread),
      'pair_tv': distance(decoded.tokens, exact),
      'pair_tv_error': 0.0,
      'pair_tv_floor': distance(other, exact),
      'impossible': 0.0,
    }

  return errors


def check(name, length, settings):
  """Names a subject that does not exist, or not of this length. Runs nothing.

  Raises:
    ValueError: one sentence.
  """
  checks.known('subject', name, NAMES)
  if name in named.NAMES:
    draw = lambda key: named.draw(name, key, length, settings)
    params = draw(jax.random.key(0))
    make = lambda params: named.make(name, params, length, settings) and None
    jax.eval_shape(make, params)


def offers(name):
  """What the subject `name` can be asked beyond log-probabilities."""
  if name in named.NAMES:
    return frozenset({'in_order'})
  return checkpoints.load(name).offers


def pairs(tokens, vocab):
  """Shares (V * V,) of adjacent pairs of tokens (B, L)."""
  codes = tokens[:, :-1] * vocab + tokens[:, 1:]
  counts = np.bincount(codes.ravel(), minlength=vocab * vocab)
  return counts / counts.sum()


def tv(row):
  """(total variation, its error, its floor) of a row, whichever it has."""
  key = 'unigram_tv' if 'unigram_tv' in row else 'pair_tv'
  return row[key], row[f'{key}_error'], row[f'{key}_floor']
