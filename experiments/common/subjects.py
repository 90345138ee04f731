"""What a contender is tried on: an exact world, or a model of text.

Both answer the same questions: how far is the information of the finished
canvases above that of exact ones (excess NLL, nats per token), and how far off
are their simplest statistics (law error, a total variation).

In an exact world the reference is its law. A model of text has no known joint,
so its reference is its own writing, one by one in uniformly random order: the
excess is that of the chain-rule NLL under the same model in random order (the
NELBO, with the same random masks for all), the law error that of adjacent
pairs of characters, pooled over positions.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns
from punt_jax import checkpoints, oracles, samplers
from punt_jax.generation import quality
from punt_jax.generation.warm_up import distances
from punt_jax.oracles import named


class Subject(NamedTuple):
  """A world or a model at one length."""

  vocab: int
  params: Any
  model: Callable  # params -> Denoiser, traceable
  alike: Any  # (L, L) for samplers.fit_influence; None in a world
  decode: Any  # tokens (L,) -> string; None in a world
  errors: Any  # Decoded of empty canvases -> {name: number}


def prepare(config, name, length, extra=()) -> Subject:
  """The subject called `name`, one of worlds.NAMES or a pretrained model.

  Text has no `errors` yet, see `judged`.

  Args:
    config: its seed, and its settings of worlds.
    name: which.
    length: L.
    extra: settings that take the place of the config's.
  """
  if name not in named.NAMES:
    loaded = checkpoints.load(name)
    return Subject(
      loaded.text.vocab, loaded.params, loaded.denoiser, distances(length),
      loaded.text.decode, None,
    )
  settings = config.settings.to_dict() | dict(extra)
  key = jax.random.fold_in(jax.random.key(config.seed), length)
  params = named.draw(name, key, length, settings)
  make = lambda params: named.make(name, params, length, settings)
  model = lambda params: oracles.as_denoiser(make(params))
  world = make(params)
  errors = functools.partial(world_errors, world)
  return Subject(world.vocab, params, model, None, None, errors)


def judged(config, name, length) -> Subject:
  """`prepare`, and for text the reference rows are written, one by one."""
  subject = prepare(config, name, length)
  if subject.errors:
    return subject
  errors = text_errors(config, checkpoints.load(name), length)
  return subject._replace(errors=errors)


def world_errors(world, decoded):
  """Both errors of samples of an exact world."""
  given = np.full(decoded.tokens.shape, world.vocab)
  found = columns.errors(world, decoded, given)
  kept = ('gap', 'gap_error', 'excess_nll', 'excess_nll_error', 'impossible')
  law = {
    f'law{end}': found[f'unigram_tv{end}'] for end in ('', '_error', '_floor')
  }
  return {key: found[key] for key in kept} | law


def text_errors(config, loaded, length):
  """`errors` of a pretrained model."""
  score = quality.scorer(loaded, config.draws, config.seed)
  build = lambda params, knobs: (loaded.denoiser(params), samplers.uniform(1))
  write = punt_jax.compile(build)
  empty = np.full((config.text_rows, length), loaded.text.vocab, np.int32)
  exact, other = (
    np.asarray(write(loaded.params, (), jax.random.key(seed), empty).tokens)
    for seed in (config.seed + 1000, config.seed + 2000)
  )
  nats = lambda tokens: np.array(score(tokens)) * math.log(2)
  reference, reference_error = nats(exact)

  def errors(decoded):
    mean, error = nats(decoded.tokens)
    return {
      'excess_nll': mean - reference,
      'excess_nll_error': math.hypot(error, reference_error),
      'excess_nll_floor': reference_error,
      'law': distance(decoded.tokens, exact),
      'law_error': 0.0,
      'law_floor': distance(other, exact),
      'impossible': 0.0,
    }

  def distance(tokens, others):
    a, b = pairs(tokens, loaded.text.vocab), pairs(others, loaded.text.vocab)
    return float(np.abs(a - b).sum() / 2)

  return errors


def pairs(tokens, vocab):
  """Shares (V * V,) of adjacent pairs of tokens (B, L)."""
  codes = tokens[:, :-1] * vocab + tokens[:, 1:]
  counts = np.bincount(codes.ravel(), minlength=vocab * vocab)
  return counts / counts.sum()
