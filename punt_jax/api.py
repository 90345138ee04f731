"""The public doors: a user's build function in, a jitted sampler out.

`sample` is pure and traceable. `compile` is the jit of it with checks on the
host. Denoisers and samplers hold functions, so they are never arguments of a
jitted function: build(params, hyperparams) -> (Denoiser, Sampler) runs inside.
Weights and hyperparameters (epsilon, temperature, ...) are traced, so one
compilation serves a whole sweep and no weight becomes a constant.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from punt_jax import canvas, checks, contract, parallel
from punt_jax import decode as loop
from punt_jax import rows as rows_lib
from punt_jax.types import (
  Array,
  ArrayLike,
  BuildFn,
  CompiledFn,
  Decoded,
  Denoiser,
  Device,
  Move,
  Result,
  RunFn,
  Sampler,
  Scalar,
  Tree,
)


class Steps(NamedTuple):
  """A run taken apart; see `step`."""

  start: RunFn[loop.Run]
  advance: Callable[[Tree, Tree, loop.Run], tuple[loop.Run, Move]]  # of params,
  # hyperparams and a run


def sample(
  key: Array | int, denoiser: Denoiser, sampler: Sampler, tokens: ArrayLike,
  given: ArrayLike | None = None, valid: ArrayLike | None = None,
  max_steps: Scalar | None = None, rows: ArrayLike | None = None,
) -> Decoded:
  """Fills a canvas. Pure and traceable: works under jit, vmap and scan.

  Values on a device, or traced, are not looked at: ids out of [0, V] and a
  given MASK pass there. What went wrong in a run is in the result:
  Decoded.fault. `compile` is the jit of this that says so in a sentence.

  Args:
    key: of jax.random, or an int. Row r draws from fold_in(key, r).
    denoiser: Denoiser.
    sampler: Sampler.
    tokens: (B, L) int, ids in [0, V], V = MASK.
    given: (B, L) bool, positions that stay as they are; tokens != V by default.
    valid: (B, L) bool, what is not padding; everything by default.
    max_steps: steps a row may take, a number or traced; L by default, which is
      enough for any sampler that writes at least one position per step and
      remasks none.
    rows: (B,) int in [0, 2 ** 31), the rows' numbers in the whole job; 0, 1,
      ... by default. Rows of one number draw the same.

  Raises:
    ValueError: one sentence: wrong shapes or dtypes, or what is no key,
      Denoiser or Sampler; NumPy values that `compile` would refuse.
  """
  batch = canvas.shaped(tokens, given, valid, rows)
  contract.built((denoiser, sampler))
  if not any(isinstance(x, jax.Array) for x in batch):
    batch = canvas.checked(denoiser, *batch)
  state = _start(rows_lib.as_key(key), (denoiser, sampler), *batch)
  return loop.decode(state, denoiser, sampler, _most(max_steps, state.tokens))


def compile(
  build: BuildFn, max_steps: int | None = None,
  devices: Sequence[Device] | None = None,
  driver: Callable[..., Result] = loop.decode, through: str = 'pmap',
  mesh: Mesh | None = None, check: bool = True,
) -> CompiledFn[Result]:
  """Compiles decoding, once per shape.

  Args:
    build: (params, hyperparams) -> (Denoiser, Sampler), both pytrees of arrays
      and numbers; runs under jit.
    max_steps: see `sample`; a whole number, not traced.
    devices: None for the default device, or a list of devices to spread the
      rows over (driver `decode` only).
    driver: decode.decode, or decode.film to get (Decoded, Move) with every
      step's Move stacked to (max_steps, B, ...).
    through: 'pmap' or 'shard_map' when there are devices.
    mesh: from parallel.mesh, instead of devices: groups of devices that split
      the weights, as checkpoints.load(..., mesh=mesh) places them.
    check: whether values are checked, before and after, which waits for the
      result. False, on one device: `run` only sends the program on its way.

  Returns:
    run(params, hyperparams, key, tokens, given=None, valid=None, rows=None) ->
    Decoded, the arguments as in `sample`. It raises ValueError, naming the row,
    for ids out of range, wrong shapes, a given MASK, hyperparameters out of
    range, and, naming the step as well, log-probabilities that are not finite.

  Raises:
    ValueError: what is no function, no number, or does not go together.
  """
  checks.function('build', build)
  checks.function('driver', driver)
  if max_steps is not None:
    max_steps = checks.whole('max_steps', max_steps, 0)

  def per_device(params, hyperparams, key, *batch):
    made = build(params, hyperparams)
    state = _start(key, made, *batch)
    return driver(state, *made, _most(max_steps, state.tokens))

  if devices is None and mesh is None:
    mapped = jax.jit(per_device)
  elif driver is not loop.decode:
    raise ValueError('devices: only the driver `decode` runs on several')
  elif not check:
    raise ValueError('check=False is for one device: several meet on the host')
  elif mesh is None:
    mapped = parallel.decode_on_devices(per_device, devices, through)
  elif devices is None:
    mapped = parallel.decode_on_mesh(per_device, mesh)
  else:
    raise ValueError('give devices or a mesh, not both')

  def run(params, hyperparams, key, tokens, given=None, valid=None, rows=None):
    key, batch = rows_lib.as_key(key), canvas.shaped(tokens, given, valid, rows)
    if not check:
      return mapped(params, hyperparams, key, *batch)
    batch = canvas.checked(_model(build, params, hyperparams), *batch)
    out = mapped(params, hyperparams, key, *batch)
    canvas.no_fault(out if driver is loop.decode else out[0])
    return out

  made: Any = run  # the type of a function knows no attributes
  made.lower = mapped.lower
  return made


def step(build: BuildFn) -> Steps:
  """Compiles single steps, for ablations and notebooks.

  Example: `run = start(params, hyperparams, key, tokens)`, then as often as
  wanted `run, move = advance(params, hyperparams, run)`. Whether its numbers
  were finite is in run.fault, see Decoded.
  """
  checks.function('build', build)

  @jax.jit
  def begin(params, hyperparams, key, *batch):
    return _start(key, build(params, hyperparams), *batch)

  @jax.jit
  def advance(params, hyperparams, run):
    return loop.advance(run, *build(params, hyperparams))

  def start(
    params, hyperparams, key, tokens, given=None, valid=None, rows=None
  ):
    batch = canvas.shaped(tokens, given, valid, rows)
    batch = canvas.checked(_model(build, params, hyperparams), *batch)
    state = begin(params, hyperparams, rows_lib.as_key(key), *batch)
    return _bound(params, state)

  return Steps(start, advance)


def _bound(params, state):
  """`state`, bound to the device of the params if they are, as all later ones.

  Else the first step would be compiled twice.
  """
  bound = [
    x for x in jax.tree.leaves(params)
    if isinstance(x, jax.Array) and x.committed and len(x.devices()) == 1
  ]
  return jax.device_put(state, *bound[0].devices()) if bound else state


def watch(
  build: BuildFn, max_steps: int | None = None
) -> RunFn[Iterator[tuple[loop.Run, Move]]]:
  """Compiles one step and loops in Python.

  Returns:
    run(params, hyperparams, key, tokens, given=None, valid=None, rows=None), an
    iterator over (Run, Move) after each step. It raises ValueError as that of
    `compile` does; after a step whose log-probabilities were not finite, in
    the place of the next.
  """
  steps = step(build)
  if max_steps is not None:
    max_steps = checks.whole('max_steps', max_steps, 0)

  def run(params, hyperparams, key, tokens, given=None, valid=None, rows=None):
    state = steps.start(params, hyperparams, key, tokens, given, valid, rows)
    advance = lambda state: steps.advance(params, hyperparams, state)
    most = _most(max_steps, state.tokens)
    return _looked_at(loop.watch(state, advance, most))

  return run


def stream(
  build: BuildFn, max_steps: int | None = None
) -> RunFn[Iterator[tuple[loop.Run, Array]]]:
  """Decodes a block at a time, to be read while it is written.

  One program and one wait for the device per block of samplers.blocks, instead
  of one per step as in `watch`. Other samplers end all at once.

  Returns:
    run(params, hyperparams, key, tokens, given=None, valid=None, rows=None), an
    iterator over (Run, settled): the run whenever a row has finished a block or
    is done, and settled (B, L) bool, where its tokens will not change any more.
    The last Run is the end: decode.finish makes of it the Decoded that
    `compile` gives. What the model remembers is not in it. It raises ValueError
    as that of `watch` does.
  """
  begin = step(build).start
  if max_steps is not None:
    max_steps = checks.whole('max_steps', max_steps, 0)

  def go(params, hyperparams, state, cache):
    made = build(params, hyperparams)
    most = _most(max_steps, state.tokens)
    state = loop.flow(_with_cache(state, cache), *made, most)
    told = loop.settled(state, *made), loop.going(state, most)
    return _with_cache(state, ()), state.memo.cache, *told

  go = jax.jit(go, donate_argnums=3)  # one cache, not two

  def run(params, hyperparams, key, tokens, given=None, valid=None, rows=None):
    state = begin(params, hyperparams, key, tokens, given, valid, rows)
    state, cache = _with_cache(state, ()), state.memo.cache
    more = bool(loop.going(state, _most(max_steps, state.tokens)))
    while more:
      state, cache, settled, more = go(params, hyperparams, state, cache)
      yield state, settled
      canvas.no_fault(state)

  return run


def _with_cache(state, cache):
  return state._replace(memo=state.memo._replace(cache=cache))


def _looked_at(frames):
  for state, move in frames:
    yield state, move
    canvas.no_fault(state)


def _most(max_steps, tokens):
  """How many steps a row may take on this canvas."""
  if max_steps is None:
    return tokens.shape[1]
  if isinstance(max_steps, jax.Array):
    return contract.array('max_steps', max_steps, (), jnp.integer)
  return checks.whole('max_steps', max_steps, 0)


def _start(key, made, ids, tokens, given, valid) -> loop.Run:
  """The run of what `build` made, before its first step."""
  model, sampler = contract.built(made)
  count = tokens.shape[0]
  ids = jnp.arange(count) if ids is None else jnp.asarray(ids, jnp.int32)
  valid = jnp.ones(tokens.shape, bool) if valid is None else valid
  tokens = jnp.asarray(tokens, jnp.int32)
  keys = rows_lib.fold_rows(key, ids)
  return loop.start(keys, tokens, given, valid, model, sampler)


def _model(build, params, hyperparams) -> Denoiser:
  """What `build` makes, with the concrete numbers, so that bad ones are named.

  Its functions have been traced: only its vocab and mask mean something.
  """
  made = []

  def probe(params):
    made.append(contract.built(build(params, hyperparams))[0])

  jax.eval_shape(probe, params)
  return made[0]
