"""What is audited: a model of an exact world, and PUNT on film with it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from experiments.audit import numbers, trained
from experiments.common import subjects
from punt_jax import samplers, select
from punt_jax.oracles import named
from punt_jax.sampler import look

ORDER = 'entropy'  # of the positions


class Audited(NamedTuple):
  """A model of a world, and who judges it."""

  subject: subjects.Subject  # of the world; `params` and `model` are those of
  # the transformer if one has learned it
  conditionals: Callable  # as numbers.effects takes them
  key: jax.Array  # of the runs
  facts: dict | None = None  # about training


def prepare(
  name, length, settings, seed, chunk, training=None, file=None
) -> Audited:
  """A world, or a transformer; worlds of one length share keys.

  Args:
    name: of the world.
    length: L.
    settings: of the world.
    seed: of the world and the runs.
    chunk: canvases that are asked about at once.
    training, file: see trained.learn; None for the world itself.
  """
  key = jax.random.fold_in(jax.random.key(seed), length)
  own, runs = jax.random.split(key)
  subject = subjects.of_world(name, length, settings, own)
  if training is None:
    judge = exact(lambda params: named.make(name, params, length, settings))
    ask = in_chunks(judge, subject.params, chunk)
    return Audited(subject, ask, runs)
  module, params, facts = trained.learn(training, subject, file)
  logits = lambda params, tokens: module.apply({'params': params}, tokens)
  denoiser = lambda params: punt_jax.from_logits(
    lambda tokens, valid: logits(params, tokens), module.vocab
  )

  def judge(params, tokens):
    log_p = jax.nn.log_softmax(logits(params, tokens))
    return log_p, jnp.ones(tokens.shape[:1], bool)

  subject = subject._replace(params=params, model=denoiser)
  return Audited(subject, in_chunks(judge, params, chunk), runs, facts)


def exact(make):
  """The judge (see `in_chunks`) of make(params), a World."""

  def judge(params, tokens):
    world = make(params)
    return world.logits(tokens), world.log_prob(tokens) > -jnp.inf

  return judge


def in_chunks(judge, params, chunk):
  """conditionals(tokens (..., L)) of judge(params, (N, L)), compiled once."""
  jitted = jax.jit(judge)

  def conditionals(tokens):
    flat = tokens.reshape(-1, tokens.shape[-1])
    full = np.resize(flat, (-(-len(flat) // chunk) * chunk, flat.shape[1]))
    parts = [
      jax.tree.map(np.asarray, jitted(params, full[i : i + chunk]))
      for i in range(0, len(full), chunk)
    ]
    log_p, possible = map(np.concatenate, zip(*parts, strict=True))
    shape = tokens.shape[:-1]
    log_p = log_p[: len(flat)].reshape(*tokens.shape, -1)
    return log_p, possible[: len(flat)].reshape(shape)

  return conditionals


def witnessed(sampler, score):
  """PUNT; Move.info is (Rounds, drafts (B, L), rank (B, L)), once more."""
  order = select.score_fn(score)

  def step(keys, t, canvas, carry, memo, model):
    _, _, view = look(keys, t, canvas, memo, model)
    move, carry, memo = sampler.step(keys, t, canvas, carry, memo, model)
    rank = jax.vmap(select.rank)(jax.vmap(order)(view), canvas.masked)
    return move._replace(info=(move.info, view.drafts, rank)), carry, memo

  return sampler._replace(step=step)


def camera(model, first):
  """shoot(params, epsilon, key, tokens) -> (Film, Decoded), numpy.

  Args:
    model: params -> Denoiser.
    first: bit order; epsilon is traced.
  """

  def build(params, epsilon):
    punt = samplers.punt(epsilon, score=ORDER, first=first)
    return model(params), witnessed(punt, ORDER)

  run = punt_jax.compile(build, driver=punt_jax.decode.film)

  def shoot(*what):
    decoded, moves = jax.tree.map(np.asarray, run(*what))
    rounds, drafts, rank = moves.info
    tests = rounds.asked[..., None] & ~np.isnan(rounds.divergence)
    return numbers.Film(
      decoded.tokens, decoded.when, decoded.log_q, rank, drafts, rounds.shown,
      tests,
    ), decoded

  return shoot
