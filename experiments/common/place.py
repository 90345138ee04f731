"""What samplers are compared on: an exact world, or a model of text."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common import columns, subjects
from punt_jax import checkpoints, metrics, oracles
from punt_jax.checks import known
from punt_jax.generation.warm_up import distances, learn
from punt_jax.oracles import named

NAMES = (*named.NAMES, *checkpoints.names())


class Place(NamedTuple):
  """A world or model of some length, and canvases to start from."""

  params: Any
  world: Any  # oracles.World of these params; None for text
  key: jax.Array  # of the runs
  empty: np.ndarray  # (B, L)
  shown: np.ndarray  # (B, L): a share of the tokens of exact samples
  errors: Callable  # Decoded of `empty` at temperature 1 -> {name: number}
  learned: Any  # learn.Learned if a sampler needs it


def check(config, name, length):
  """Names a place that does not exist, or not of this length. Runs nothing."""
  known('world', name, NAMES)
  if name in named.NAMES:
    settings = config.settings.to_dict()
    params = named.draw(name, jax.random.key(0), length, settings)
    model = model_of(config, name, length)
    jax.eval_shape(lambda params: model(params) and None, params)


def offers(name):
  """What a model gives beyond log-probabilities, see Pretrained.offers."""
  if name in named.NAMES:
    return frozenset({'in_order'})
  return checkpoints.load(name).offers


def model_of(config, name, length):
  """params -> Denoiser, traceable."""
  if name not in named.NAMES:
    return functools.partial(checkpoints.load(name).denoiser, attention=True)
  settings = config.settings.to_dict()
  return lambda params: oracles.as_denoiser(
    named.make(name, params, length, settings)
  )


def prepare(config, name, length, learns=()):
  """The Place of this name and length. Worlds of one length share keys.

  Args:
    config: of the frontier.
    name: one of NAMES.
    length: L.
    learns: what samplers need to be told, see door.Choice.
  """
  key = jax.random.fold_in(jax.random.key(config.seed), length)
  own, runs, exact, seen = jax.random.split(key, 4)
  model = model_of(config, name, length)
  if name in named.NAMES:
    settings = config.settings.to_dict()
    params = named.draw(name, own, length, settings)
    world = named.make(name, params, length, settings)
    vocab, rows, alike = world.vocab, config.rows, None
    samples = np.asarray(world.sample(exact, rows))
    noise = metrics.estimate(metrics.excess_nll(world, samples)).stderr
    errors = functools.partial(world_errors, world, noise)
  else:
    loaded = checkpoints.load(name)
    params, world, vocab = loaded.params, None, loaded.text.vocab
    rows, alike = config.text_rows, distances(length)
    judge = subjects.text_errors(config, loaded, length)
    errors = functools.partial(text_errors, judge)
    samples = np.full((rows, length), vocab)
  empty = np.full((rows, length), vocab, np.int32)
  seen = np.asarray(jax.random.bernoulli(seen, config.shown, empty.shape))
  learned = None if not learns else learn(
    model, params, vocab, length, config.warm_up, config.seed, alike,
    profile='sizes' in learns,
  )
  shown = np.where(seen, samples, empty)
  return Place(params, world, runs, empty, shown, errors, learned)


def text_errors(judge, decoded):
  """Both errors of text, under the names that rows have here."""
  found = judge(decoded)
  return {k.replace('law', 'pair_tv'): v for k, v in found.items()}


def world_errors(world, noise, decoded):
  """Both errors, and the noise of as many exact samples."""
  given = np.full(decoded.tokens.shape, world.vocab)
  return {
    **columns.errors(world, decoded, given), 'excess_nll_floor': noise
  }
