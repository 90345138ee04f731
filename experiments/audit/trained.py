"""A small transformer that has learned an exact world from its samples.

Between the two, the errors of a sampler come apart: what the model gets wrong
is known from the world, what the sampler does is judged by the model.
"""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from punt_jax.checkpoints import saving
from punt_jax.models import transformer
from punt_jax.viz.progress import progress
from train import step as step_lib


class Placed(NamedTuple):
  """A model of (N, L) tokens that knows where each of them stands.

  It looks like a flax module to train/step.py.
  """

  vocab: int  # V
  init: Callable  # (key, tokens) -> variables
  apply: Callable  # (variables, tokens (N, L)) -> (N, L, V) logits


def placed(vocab, length, model):
  """A Transformer whose input ids name a token and its place.

  Positions of a world have distributions of their own, and a Transformer alone
  tells them apart only by how far the ends are. Id i * (V + 1) + v is token v
  at position i, v = V is MASK; the first V columns of the readout are used.

  Args:
    vocab: V.
    length: L.
    model: width, layers, heads, taps.
  """
  ids = length * (vocab + 1)
  first = np.arange(0, ids, vocab + 1, dtype=np.int32)  # (L,)
  module = transformer.Transformer(vocab=ids - 1, **model)
  return Placed(
    vocab,
    lambda key, tokens: module.init(key, tokens + first),
    lambda variables, tokens: (
      module.apply(variables, tokens + first)[..., :vocab]
    ),
  )


def learn(config, subject, file):
  """A trained model -> (Placed, its parameters, facts).

  Trains on fresh samples of the world, with the loss and the update of the
  trainer, unless `file` is there already.

  Args:
    config: what train/step.py reads, and model, heldout.
    subject: of_world of experiments/common/subjects.py.
    file: safetensors of the parameters (their moving average) and the facts:
      `nelbo` of exact samples, nats per token, with the error of its masks;
      `entropy` of the world per token, and what these samples have.
  """
  length, world = subject.length, subject.world
  module = placed(world.vocab, length, config.model)
  file = pathlib.Path(file)
  if file.exists():
    return module, *saving.import_params(file)
  start = time.monotonic()
  key = jax.random.key(config.seed)
  key, last = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
  batch = jax.jit(
    lambda n: world.sample(jax.random.fold_in(key, n), config.batch)
  )
  state = step_lib.init_state(config, module, length)
  update = step_lib.make_update(config, module, jax.local_devices()[:1])
  what = f'{subject.name}: training'
  for n in progress(range(config.steps), what, unit='step'):
    state, _ = update(state, batch(n))
  tokens = np.asarray(world.sample(last, config.heldout))
  evaluate = step_lib.make_evaluate(module, config.batch)
  nelbo, error = evaluate(state.ema, tokens, draws=8)
  facts = {
    'nelbo': nelbo,
    'nelbo_error': error,
    'entropy': float(world.entropy()) / length,
    'exact_nll': -float(np.mean(world.log_prob(tokens))) / length,
    'parameters': sum(x.size for x in jax.tree.leaves(state.ema)),
    'training_seconds': time.monotonic() - start,
  }
  saving.export_params(file, state.ema, facts)
  return module, state.ema, facts
