"""The generator: prompts of different lengths in, finished texts out.

Rows are padded on the left to one of a few lengths, so that one compilation
serves many prompts; behind a prompt stand max_new_tokens masks, or masks stand
anywhere in it (Settings.blank). Row `number` of a job is the same whatever
batch it is in: its sample depends on the seed, the number and its tokens.
"""

import contextlib
import functools
import inspect
import re
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
from punt_jax.generation import options, prompts
from punt_jax.generation.prompts import need_text
from punt_jax.generation.settings import DEFAULTS, Settings, checked
from punt_jax.types import BuildFn, Decoded, Denoiser, Messages, Tree, short


class Written(NamedTuple):
  """One finished row; plain numbers, ready for JSON."""

  number: int  # of the row
  text: str  # what was written, cut before the first end token; with blanks
  # the whole prompt, filled; special tokens are left out
  tokens: list[int]  # ids written, in the order of their positions; end tokens
  # follow a text that ended early
  count: int  # of them, those before the first end token
  nfe: int
  depth: int
  positions: int  # computed for the row
  steps: int
  log_q: float  # nats
  seconds: float  # that its batch took, compilation aside
  shared: int  # rows in the batch

  __repr__ = short


class Generator(NamedTuple):
  """A model with a sampler, ready to write."""

  encode: Callable[[str | Messages], np.ndarray]  # (n,) ids, V at blanks;
  # ValueError if the model cannot take it
  write: Callable[
    [Sequence[np.ndarray], Sequence[int]], Iterator[list[Written]]
  ]  # of (n,) ids and their row numbers: batches, as they finish, longest first


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
  text = need_text(loaded)
  build, hyperparams, static = builder(settings, loaded, choice)
  build(loaded.params, hyperparams)  # names a value that is out of range
  key = jax.random.key(settings.seed)
  devices = jax.local_devices()
  spread = mesh is None and len(devices) > 1
  params = parallel.everywhere(loaded.params) if spread else loaded.params

  def compiled(length):
    most = options.most_steps(choice, length)

    def make():
      if tell:
        tell(told(loaded, settings, length))
      run = punt_jax.compile(
        build, most, devices if spread else None, mesh=mesh
      )
      # A canvas with nothing to write: compiles, and costs nothing.
      run(params, hyperparams, key, np.zeros((settings.batch, length), int))
      return run

    program = static, settings.batch, length, most, mesh
    return once(loaded.denoiser, program, make)

  def write(given, numbers):
    if not all(0 <= number < 2**31 for number in numbers):
      raise ValueError(
        f'row numbers lie in [0, 2**31), not in {min(numbers)} to'
        f' {max(numbers)}: other rows would draw like them'
      )
    rows = [prompts.canvas(settings, text.vocab, ids) for ids in given]
    lengths = [prompts.padded(settings, loaded, len(row)) for row in rows]
    for length, batch in prompts.batches(lengths, settings.batch):
      run = compiled(length)
      mine = [rows[i] for i in batch]
      tokens, valid = prompts.lay(mine, settings.batch, length)
      named = np.zeros(settings.batch, np.int32)
      named[: len(batch)] = [numbers[i] for i in batch]
      start = time.perf_counter()
      with calling([name(numbers[i]) for i in batch]):
        out = run(params, hyperparams, key, tokens, valid=valid, rows=named)
        out = jax.tree.map(np.asarray, out)
        options.check_finished(choice, out)
      seconds = time.perf_counter() - start
      yield [
        written(settings, loaded, rows[i], numbers[i], out, r)._replace(
          seconds=seconds, shared=len(batch)
        ) for r, i in enumerate(batch)
      ]

  encode = functools.partial(prompts.encode, settings, loaded)
  return Generator(encode, write)


@contextlib.contextmanager
def calling(names: Sequence[str]) -> Iterator[None]:
  """Sentences about `row 1` of a batch name names[1] instead."""
  try:
    yield
  except ValueError as error:
    call = lambda row: (
      names[int(row[1])] if int(row[1]) < len(names) else row.group()
    )
    raise ValueError(re.sub(r'\brow (\d+)', call, str(error))) from None


def told(loaded: Pretrained, settings: Settings, length: int) -> str:
  """What to say before a program is compiled."""
  canvases = 'canvas' if settings.batch == 1 else 'canvases'
  said = (
    f'compiling for {settings.batch} {canvases} of {length} positions, once for'
    f' every multiple of {settings.bucket}'
  )
  if length > loaded.length:
    said += f'; the model was trained on {loaded.length} positions'
  return said


_MADE = []  # (denoiser, key, what was made of them), the newest last


def once(denoiser: Any, key: Any, make: Callable[[], Any]) -> Any:
  """make(), or what it gave for this very denoiser and an equal key.

  So that a second call of `prepare` compiles nothing anew. The last 16 are
  kept; they hold programs, no weights.
  """
  for whose, its, made in _MADE:
    if whose is denoiser and its == key:
      return made
  made = make()
  _MADE.append((denoiser, key, made))
  del _MADE[:-16]
  return made


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
  window = None
  if settings.kv_cache:
    if 'block_length' not in choice.traced:
      raise ValueError('kv_cache needs blocks: set block_length as well')
    window = int(choice.traced['block_length'])
  asked = options.asks(choice, loaded, window)
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
    window, tuple(gone), tuple(ends), bool(orders), heated, cut, less, stops,
    settings.judged,
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


def before_end(loaded: Pretrained, ids: np.ndarray) -> int:
  """How many of the ids (n,) stand before the first token that ends a text."""
  ended = np.isin(ids, prompts.ends_of(loaded))
  return int(ended.argmax()) if ended.any() else len(ids)


def plain(loaded: Pretrained, ids: np.ndarray) -> str:
  """The text of ids (n,), special tokens left out."""
  gone = np.isin(ids, prompts.special_of(loaded))
  return need_text(loaded).decode(np.asarray(ids)[~gone])


def written(
  settings: Settings, loaded: Pretrained, row: np.ndarray, number: int,
  out: Decoded, r: int,
) -> Written:
  """Row r of a Decoded whose canvas was `row`, as numbers and a text."""
  tokens = np.asarray(out.tokens)[r, -len(row) :]
  ids = tokens[row == need_text(loaded).vocab]
  count = before_end(loaded, ids)
  shown = tokens if settings.blank else ids[:count]
  one = lambda values: values[r].item()
  return Written(
    number, plain(loaded, shown), ids.tolist(), count, one(out.meter.nfe),
    one(out.meter.depth), one(out.meter.positions), one(out.steps),
    one(out.log_q), 0.0, 0,
  )
