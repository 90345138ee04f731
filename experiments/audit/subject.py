"""What is audited: a model of an exact world, and PUNT on film with it."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from experiments.audit import model as audit_model
from experiments.audit import numbers
from punt_jax import oracles, samplers, select
from punt_jax.oracles import named
from punt_jax.sampler import look

ORDER = 'entropy'  # of the positions


class Subject(NamedTuple):
  """A model of a world, and the world."""

  params: Any
  model: Callable  # params -> Denoiser, traceable
  law: Callable  # as audit_numbers.effects takes it
  world: oracles.World
  empty: np.ndarray  # (B, L)
  key: jax.Array  # of the runs


def prepare(config, model, name, length, workdir):
  """(Subject, facts about training); worlds of one length share keys."""
  key = jax.random.fold_in(jax.random.key(config.seed), length)
  own, runs = jax.random.split(key)
  settings = config.settings.to_dict()
  drawn = named.draw(name, own, length, settings)
  world = named.make(name, drawn, length, settings)
  empty = np.full((config.rows, length), world.vocab, np.int32)
  if model == 'exact':
    make = lambda params: named.make(name, params, length, settings)
    params, facts = drawn, None
    denoiser = lambda params: oracles.as_denoiser(make(params))

    def judge(params, tokens):
      law = make(params)
      return law.logits(tokens), law.log_prob(tokens) > -jnp.inf

  else:
    file = pathlib.Path(workdir, f'{name}_{length}.safetensors')
    module, params, facts = audit_model.learn(
      config.training, name, length, drawn, settings, file
    )
    logits = lambda params, tokens: module.apply({'params': params}, tokens)
    denoiser = lambda params: punt_jax.from_logits(
      lambda tokens, valid: logits(params, tokens), module.vocab
    )

    def judge(params, tokens):
      log_p = jax.nn.log_softmax(logits(params, tokens))
      return log_p, jnp.ones(tokens.shape[:1], bool)

  law = in_chunks(judge, params, config.chunk)
  return Subject(params, denoiser, law, world, empty, runs), facts


def in_chunks(judge, params, chunk):
  """law(tokens (..., L)) of judge(params, (N, L)); a compilation for all."""
  jitted = jax.jit(judge)

  def law(tokens):
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

  return law


def witnessed(sampler, score):
  """PUNT; Move.info is (Rounds, drafts (B, L), rank (B, L)), once more."""
  order = select.score_fn(score)

  def step(keys, t, canvas, carry, memo, model):
    _, _, view = look(keys, t, canvas, memo, model)
    move, carry, memo = sampler.step(keys, t, canvas, carry, memo, model)
    rank = jax.vmap(select.rank)(jax.vmap(order)(view), canvas.masked)
    return move._replace(info=(move.info, view.drafts, rank)), carry, memo

  return sampler._replace(step=step)


def camera(subject, first):
  """shoot(epsilon) -> (Film, Decoded), numpy; one compilation."""

  def build(params, epsilon):
    punt = samplers.punt(epsilon, score=ORDER, first=first)
    return subject.model(params), witnessed(punt, ORDER)

  run = punt_jax.compile(build, driver=punt_jax.decode.film)

  def shoot(epsilon):
    decoded, moves = jax.tree.map(
      np.asarray, run(subject.params, epsilon, subject.key, subject.empty)
    )
    rounds, drafts, rank = moves.info
    tests = rounds.asked[..., None] & ~np.isnan(rounds.divergence)
    return numbers.Film(
      decoded.tokens, decoded.when, decoded.log_q, rank, drafts, rounds.shown,
      tests,
    ), decoded

  return shoot
