"""What the ways to learn an order share: a state, an optimizer, a shape."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from punt_jax.sampler import look
from punt_jax.types import Canvas
from train.step import decay_steps


class State(NamedTuple):
  """Everything that changes during training."""

  step: Any  # () int32, updates done
  params: Any
  opt: Any  # optax state


class Method(NamedTuple):
  """A way to learn an order on a task."""

  kind: str  # of the network, see models.orders.KINDS
  init: Callable  # key -> params
  advance: Callable  # (State, updates done) -> (State, {name: scalar})
  evaluate: Callable  # State -> {name: number}
  keep: Callable  # params -> those of the network


def optimizer(config, epochs=1):
  """optax: clip the gradient's norm, then Adam with a cosine decay.

  Args:
    config: rate, warmup, decay or steps, and clip.
    epochs: times that each update descends.
  """
  rate = optax.warmup_cosine_decay_schedule(
    0.0, config.rate, config.warmup * epochs, decay_steps(config) * epochs,
    0.01 * config.rate,
  )
  return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))


def start(config, init) -> State:
  """A fresh State, from config.seed."""
  params = jax.jit(init)(jax.random.key(config.seed))
  return State(jnp.zeros((), jnp.int32), params, optimizer(config).init(params))


def descend(rule, state, grad) -> State:
  """One update of the optimizer."""
  updates, opt = rule.update(grad, state.opt, state.params)
  return State(state.step + 1, optax.apply_updates(state.params, updates), opt)


def view_of(model, tokens):
  """What `model` says of canvases (N, L): their View, with unread drafts."""
  rows = len(tokens)
  valid, masked = jnp.ones(tokens.shape, bool), tokens == model.vocab
  return look(
    jax.random.split(jax.random.key(0), rows), jnp.zeros(rows, jnp.int32),
    Canvas(tokens, valid, masked, masked, masked.sum(-1)),
    model.init(tokens, valid), model,
  )[2]


def example(task):
  """A View of one row, to initialize networks with."""
  model = task.loaded.denoiser(task.loaded.params)
  return view_of(model, jnp.full((1, task.length), model.vocab))
