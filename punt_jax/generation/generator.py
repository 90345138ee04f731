"""The generator: prompts of different lengths in, finished texts out.

Rows are padded on the left to one of a few lengths, so that one compilation
serves many prompts; behind a prompt stand max_new_tokens masks, or masks stand
anywhere in it (Settings.blank). Row `number` of a job is the same whatever
batch it is in: its sample depends on the seed, the number and its tokens.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import punt_jax
from punt_jax import parallel, samplers, select
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import options, prompts, streams
from punt_jax.generation.batches import (
  Plan,
  Written,
  blocks_of,
  calling,
  laid,
  once,
  told,
  written,
)
from punt_jax.generation.batches import before_end as before_end
from punt_jax.generation.batches import plain as plain
from punt_jax.generation.prompts import need_text
from punt_jax.generation.settings import DEFAULTS, Settings, checked
from punt_jax.generation.streams import Piece as Piece
from punt_jax.types import BuildFn, Denoiser, Device, Messages, Tree


class Generator(NamedTuple):
  """A model with a sampler, ready to write."""

  encode: Callable[[str | Messages], np.ndarray]  # (n,) ids, V at blanks;
  # ValueError if the model cannot take it
  write: Callable[
    [Sequence[np.ndarray], Sequence[int]], Iterator[list[Written]]
  ]  # of (n,) ids and their row numbers: batches, as they finish, longest first
  stream: Callable[
    [Sequence[np.ndarray], Sequence[int]], Iterator[Piece]
  ]  # the same rows, piece by piece


def prepare(
  loaded: Pretrained, choice: options.Choice, settings: Settings = DEFAULTS,
  mesh: Mesh | None = None, tell: Callable[[str], Any] | None = None,
  name: Callable[[int], str] = 'row {}'.format,
) -> Generator:
  """A Generator.

  Args:
    loaded: checkpoints.Pretrained.
    choice: options.Choice, the sampler.
    settings: Settings.
    mesh: of parallel.mesh, if `loaded` is placed on one.
    tell: called with a sentence when something takes time: before a program is
      compiled; None: nobody is told.
    name: what to call a row, by its number, where the model fails on it.

  Raises:
    ValueError: one sentence: a setting that is out of range, or asks what this
      model or sampler cannot do.
  """
  settings = checked(settings)
  need_text(loaded)
  choice = options.fitted(choice, blocks_of(loaded))
  made = builder(settings, loaded, choice)
  made[0](loaded.params, made[1])  # names a value that is out of range
  plan = Plan(loaded, choice, settings, *made, mesh, tell, name)
  devices = jax.local_devices()
  spread = mesh is None and len(devices) > 1
  params = parallel.everywhere(loaded.params) if spread else loaded.params
  return Generator(
    functools.partial(prompts.encode, settings, loaded),
    functools.partial(write, plan, params, devices if spread else None),
    functools.partial(streams.stream, plan),
  )


def write(
  plan: Plan, params: Tree, devices: Sequence[Device] | None,
  given: Sequence[np.ndarray], numbers: Sequence[int],
) -> Iterator[list[Written]]:
  """Generator.write, the weights on these devices; None: as they are."""
  key = jax.random.key(plan.settings.seed)

  def compiled(batch):
    count, length = batch.tokens.shape
    most = options.most_steps(plan.choice, length)

    def make():
      if plan.tell:
        plan.tell(told(plan.loaded, plan.settings, length))
      run = punt_jax.compile(plan.build, most, devices, mesh=plan.mesh)
      # A canvas with nothing to write: compiles, and costs nothing.
      run(params, plan.hyperparams, key, np.zeros((count, length), int))
      return run

    program = plan.static, count, length, most, plan.mesh
    return once(plan.loaded.denoiser, program, make)

  for batch in laid(plan, given, numbers):
    run = compiled(batch)
    start = time.perf_counter()
    with calling([plan.name(number) for number in batch.numbers]):
      out = run(
        params, plan.hyperparams, key, batch.tokens, valid=batch.valid,
        rows=batch.named,
      )
      out = jax.tree.map(np.asarray, out)
      options.check_finished(plan.choice, out)
    seconds = time.perf_counter() - start
    yield [
      written(plan.settings, plan.loaded, row, number, out, r)._replace(
        seconds=seconds, shared=len(batch.rows)
      )
      for r, (row, number) in enumerate(
        zip(batch.rows, batch.numbers, strict=True)
      )
    ]


def builder(
  settings: Settings, loaded: Pretrained, choice: options.Choice
) -> tuple[BuildFn, Tree, tuple]:
  """(build, hyperparameters, static) for punt_jax.compile.

  All numbers are traced; `static` tells programs apart.

  Raises:
    ValueError: what the sampler needs and the model does not have.
  """
  ends = prompts.ends_of(loaded)
  banned = [*settings.ban, *(ends if settings.blank else [])]
  gone = [*prompts.ids_of(loaded, banned), *need_text(loaded).unused]
  orders = order_of(choice, ends) if settings.eos_last and ends else {}
  choice = options.fitted(choice, blocks_of(loaded))
  window = None
  if settings.kv_cache and not choice.blocks:
    if 'block_length' not in choice.traced:
      raise ValueError('kv_cache needs blocks: set block_length as well')
    window = int(choice.traced['block_length'])
  exact = settings.kv_cache is not False
  asked = options.asks(choice, loaded, window, exact)
  if choice.learns:
    raise ValueError(
      f'{choice.name} is told {choice.learns} that it learns from empty'
      ' canvases, which texts have no time for: use punt-jax demo, or'
      ' punt_jax.compile'
    )
  hyperparams = dict(
    sampler={name: float(value) for name, value in choice.traced.items()},
    temperature=float(settings.temperature), top_p=float(settings.top_p),
    penalty=float(settings.eos_penalty),
  )
  heated, cut = settings.temperature != 1, settings.top_p != 1
  less = bool(settings.eos_penalty and ends)
  stops = bool(settings.stop and ends)
  # A network is known by what it is, not by the name of its file.
  network = choice.make if set(options.NETWORKS) & set(choice.static) else None
  static = (
    choice.name, tuple(choice.static.items()), network, tuple(choice.traced),
    choice.blocks, tuple(asked.items()), tuple(gone), tuple(ends),
    bool(orders), heated, cut, less, stops, settings.judged,
  )
  denoiser = loaded.denoiser  # alone: a program that is kept holds no weights

  def build(params, hyperparams):
    model = denoiser(params, **asked)
    if gone:
      model = without(model, gone)
    if less:
      model = punt_jax.bias(model, ends, -hyperparams['penalty'])
    if heated:
      model = punt_jax.temper(model, hyperparams['temperature'])
    if cut:
      model = punt_jax.top_p(model, hyperparams['top_p'])
    if settings.judged:
      model = punt_jax.judge_drafts(model)
    sampler = choice.make({**hyperparams['sampler'], **orders})
    if stops:
      sampler = samplers.stop(sampler, ends)
    return model, sampler

  return build, hyperparams, static


def order_of(choice: options.Choice, ends: Sequence[int]) -> dict[str, Any]:
  """Hyperparameters that make a sampler write end tokens last."""
  hyperparams = inspect.signature(getattr(samplers, choice.name)).parameters
  if 'score' not in hyperparams:
    raise ValueError(
      f'{choice.name} has no order in which end tokens could be last: use'
      ' eos_last=False'
    )
  score = choice.static.get('score', hyperparams['score'].default)
  last = {'score': select.eos_last(score, ends)}
  waits = {'admit': select.eos_waits(ends)} if 'admit' in hyperparams else {}
  return last | waits


def without(model: Denoiser, ids: Sequence[int]) -> Denoiser:
  """The model given that none of these tokens occurs, scores included."""
  punt_jax.ban(model, ids)  # names ids out of range, and that none is left
  gone = np.isin(np.arange(model.vocab), ids)

  def read(features):
    logp = model.read(features)
    return jax.nn.log_softmax(jnp.where(gone, -np.inf, logp))

  return model._replace(read=read)


