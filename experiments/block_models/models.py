"""Small transformers, full or block-causal, of an exact world or of a text."""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common import subjects
from punt_jax.checkpoints import saving
from punt_jax.models import transformer
from punt_jax.viz.progress import progress
from train import data as data_lib
from train import step as step_lib


class Source(NamedTuple):
  """What models learn from, and what their samples are compared with."""

  data: data_lib.Data
  world: Any  # oracles.World, or None for text
  exact: Any  # (n, L) int32 of the distribution, never trained on
  others: Any  # likewise


def put(config, **values):
  """A config with other values, and with more."""
  return type(config)({**config.to_dict(), **values})


def of_world(name, length, settings, seed, training):
  """Fresh samples of a world of oracles.named, the same world for all seeds.

  Args:
    name: of named.NAMES.
    length: L.
    settings: of the world.
    seed: of the world and of what is held out; training.seed is of the batches.
    training: batch, heldout, seed.
  """
  world = subjects.of(name, length, settings, seed).world
  key = jax.random.fold_in(jax.random.key(seed), length)
  held, exact, others = (
    np.asarray(world.sample(jax.random.fold_in(key, n), training.heldout))
    for n in range(3)
  )
  batches = jax.random.fold_in(jax.random.key(training.seed), length)
  data = data_lib.Data(
    world.vocab,
    lambda n: np.asarray(
      world.sample(jax.random.fold_in(batches, n), training.batch)
    ),
    held, 1.0, floor=float(-world.log_prob(held).mean()) / length,
  )
  return Source(data, world, exact, others)


def of_text(training, length):
  """Windows of a text; those held out are also what samples are compared with.

  Args:
    training: data (path, tokens, heldout), batch, seed.
    length: L.
  """
  found = data_lib.text_data(
    put(training, data={**training.data, 'length': length})
  )
  return Source(found, None, found.heldout[::2], found.heldout[1::2])


def network(vocab, length, block_length, model, places):
  """A Transformer, with full attention where block_length is 0.

  Args:
    vocab: V.
    length: L.
    block_length: of a block-causal one, a divisor of L.
    model: width, layers, heads, taps.
    places: whether positions are known one by one, as those of a world have
      distributions of their own.
  """
  return transformer.Transformer(
    vocab, **model, places=length if places else 0,
    attention='block_causal' if block_length else 'full',
    block_length=block_length,
  )


def learn(training, module, data, file):
  """A trained model -> (its parameters, {'training_seconds': float}).

  Trained as by train.main, unless `file` is there already.

  Args:
    training: what train/step.py reads.
    module: of `network`.
    data: train.data.Data.
    file: safetensors of the parameters (their moving average).
  """
  file, start = pathlib.Path(file), time.monotonic()
  if file.exists():
    return saving.import_params(file)
  state = step_lib.init_state(training, module, data.heldout.shape[1])
  update = step_lib.make_update(training, module, jax.local_devices()[:1])
  for n in progress(range(training.steps), file.stem, unit='step'):
    state, _ = update(state, data.batch(n))
  jax.block_until_ready(state)
  facts = {'training_seconds': time.monotonic() - start}
  saving.export_params(file, state.ema, facts)
  return state.ema, facts


def score(training, module, data, params, draws):
  """What a row says about a trained model: how well it predicts.

  `nelbo` of all that is held out, nats per token, with the error of its masks;
  `exact_nll` of the same, None for text.
  """
  evaluate = step_lib.make_evaluate(module, training.batch)
  found = data_lib.score(data, evaluate, params, len(data.heldout), draws, 0)
  return {
    'nelbo': found['heldout_nats'],
    'nelbo_error': found['heldout_nats_error'],
    'exact_nll': data.floor,
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
  }
