"""One training update on all devices, and the held-out NELBO.

pmap splits the rows of a batch over the devices; the state is the same on
all of them (in_axes and out_axes None: nothing is stacked or gathered). Masks
come from one key per row of the whole batch, so the number of devices
changes nothing but the order of float32 sums.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from punt_jax import corruption
from punt_jax.models import transformer


class State(NamedTuple):
  """Everything that changes during training, except the data's step."""

  step: Any  # () int32, updates done
  params: Any
  ema: Any  # exponential moving average of params
  opt: Any  # optax state


def decay_steps(config):
  """Steps over which the learning rate falls; None where it is constant."""
  if config.get('final_share') == 1:
    return None
  return config.get('decay') or config.get('steps')


def warm_up(config):
  """The steps over which the rate rises and falls.

  Raises:
    ValueError: the warm-up leaves no step for that.
  """
  steps = decay_steps(config) or config.steps
  if not 0 <= config.warmup < steps:
    raise ValueError(
      f'config.warmup = {config.warmup} must be less than the {steps} steps'
      ' over which the learning rate rises and falls: set --config.warmup=0, or'
      ' use more steps'
    )
  return steps


def schedule(config, peak):
  """Linear warm-up, then cosine decay to config.final_share of the peak.

  It falls over config.decay steps, or all of them, and then stays.

  Raises:
    ValueError: see `warm_up`.
  """
  steps = warm_up(config)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=peak,
    warmup_steps=config.warmup,
    decay_steps=steps,
    end_value=config.final_share * peak,
  )


def adamw(config):
  """AdamW for every parameter (Loshchilov and Hutter, 2019)."""
  rate = schedule(config, config.adam_rate)
  return optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay)


def muon(config):
  """Muon for the blocks' matrices (Jordan et al., 2024), AdamW for the rest.

  optax applies weight decay to Muon's share only.
  """
  whole = optax.contrib.MuonDimensionNumbers()

  def share(params):
    def which(path, _):
      names = {getattr(part, 'key', None) for part in path}
      return whole if names & set(transformer.MATRICES) else None

    return jax.tree_util.tree_map_with_path(which, params)

  return optax.contrib.muon(
    schedule(config, config.muon_rate),
    weight_decay=config.weight_decay,
    adam_learning_rate=schedule(config, config.adam_rate),
    adam_b2=0.99,
    muon_weight_dimension_numbers=share,
  )


OPTIMIZERS = {'muon': muon, 'adamw': adamw}


def optimizer(config):
  """optax: clip the gradient's norm, then what config.optimizer names."""
  rule = OPTIMIZERS[config.optimizer](config)
  return optax.chain(optax.clip_by_global_norm(config.clip), rule)


def init_state(config, module, length):
  """A fresh State, from config.seed."""
  key = jax.random.fold_in(jax.random.key(config.seed), 0)
  tokens = jnp.zeros((1, length), jnp.int32)
  params = jax.jit(module.init)(key, tokens)['params']
  opt = optimizer(config).init(params)
  return State(jnp.zeros((), jnp.int32), params, params, opt)


def block_length(module):
  """Positions of a block; 0 of a network with full attention."""
  return getattr(module, 'block_length', 0)


def logits_of(module, params, tokens):
  """tokens with MASK (B, L) -> (B, L, V), as corruption.py asks for them.

  A block-causal network is shown `tokens` in the blocks before each block.
  """
  if not block_length(module):
    return lambda hidden: module.apply({'params': params}, hidden)
  return lambda hidden: module.apply(
    {'params': params}, hidden, tokens, method='two_halves'
  )


def make_update(config, module, devices):
  """update(state, tokens (B, L)) -> (State, dict of scalar metrics).

  Metrics are nats per token: loss, nelbo; and the gradient's norm before
  clipping.
  """
  rule = optimizer(config)
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  count = config.batch

  def update(state, tokens, rows):
    def objective(params):
      losses = corruption.diffusion_loss(
        jax.random.fold_in(key, state.step),
        rows,
        count,
        tokens,
        logits_of(module, params, tokens),
        module.vocab,
        config.loss_weight,
        block_length(module),
      )
      return losses.loss.mean(), losses.nelbo.mean()

    (loss, nelbo), grad = jax.value_and_grad(objective, has_aux=True)(
      state.params
    )
    loss, nelbo, grad = jax.lax.pmean((loss, nelbo, grad), 'devices')
    updates, opt = rule.update(grad, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    # The average forgets faster at the start, so that it has no start bias.
    done = state.step + 1.0
    rate = jnp.maximum(1.0 - config.ema, 1.0 / (0.1 * done + 1.0))
    ema = optax.incremental_update(params, state.ema, rate)
    norm = optax.tree_utils.tree_norm(grad)
    metrics = {'loss': loss, 'nelbo': nelbo, 'grad': norm}
    return State(state.step + 1, params, ema, opt), metrics

  mapped = jax.pmap(
    update,
    axis_name='devices',
    in_axes=(None, 0, 0),
    out_axes=None,
    devices=devices,
  )
  mesh = jax.sharding.Mesh(np.array(devices), ('devices',))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def advance(state, tokens):
    if state.step.sharding != everywhere:  # or all is compiled once more
      state = jax.device_put(state, everywhere)
    return mapped(state, *_split(tokens, len(devices)))

  return advance


def _split(tokens, n):
  """tokens (B, L) -> (n, B / n, L) and row numbers (n, B / n)."""
  rows, length = tokens.shape
  numbers = np.arange(rows, dtype=np.int32).reshape(n, -1)
  return tokens.reshape(n, -1, length), numbers


def make_evaluate(module, batch):
  """evaluate(params, tokens (n, L), draws, seed) -> (mean, error) NELBO.

  Nats per token, with the Monte-Carlo standard error of the masks; the same
  seed uses the same masks.
  """

  @jax.jit
  def draw(params, key, rows, count, tokens):
    logits = logits_of(module, params, tokens)
    return corruption.nelbo_draw(
      key, rows, count, tokens, logits, module.vocab, block_length(module)
    )

  def evaluate(params, tokens, draws=2, seed=0):
    count = len(tokens)
    found = np.zeros((draws, count))
    for n in range(draws):
      key = jax.random.fold_in(jax.random.key(seed), n)
      for start in range(0, count, batch):
        # A ragged last batch is filled with its first row, then cut.
        index = np.arange(start, start + batch)
        index = np.where(index < count, index, start)
        nats = draw(params, key, index.astype(np.int32), count, tokens[index])
        stop = min(start + batch, count)
        found[n, start:stop] = np.asarray(nats)[: stop - start]
    return corruption.nelbo_mean(found)

  return evaluate
