"""The writer: prompts of different lengths in, finished texts out.

From a config (see `defaults`) and a model to functions that turn prompts into
tokens and tokens into texts. Rows are padded on the left to one of a few
lengths, so that one compilation serves many prompts; behind a prompt stand
config.new masks, or masks stand anywhere in it (config.blank). Row `number` of
a job is the same whatever batch it is in: its sample depends on the seed, the
number and its tokens.
"""

import functools
import inspect
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

import punt_jax
from punt_jax import checkpoints, checks, parallel, samplers, select
from punt_jax.cli import job as job_lib
from punt_jax.generation import options, prompts


class Writer(NamedTuple):
  """A model with a sampler, ready to write."""

  encode: Callable  # str, or messages [{'role', 'content'}, ...] -> (n,) ids,
  # V at blanks; ValueError if the model cannot take it
  write: Callable  # (list of (n,) ids, their row numbers) -> iterator over
  # batches, as they finish, longest first: lists of Written
  choice: options.Choice


class Written(NamedTuple):
  """One finished row; plain numbers, ready for JSON."""

  number: int  # of the row
  text: str  # what was written; with blanks the prompt around it as well;
  # cut before the first end token, special tokens left out
  tokens: list  # ids written, in order; a text that ended early is followed
  # by end tokens
  count: int  # of them, those before the first end token
  nfe: int
  depth: int
  positions: int  # computed for the row
  steps: int
  log_q: float  # nats
  seconds: float  # that its batch took, compilation aside
  shared: int  # rows in the batch


def defaults():
  """The part of a config that a writer reads."""
  config = ml_collections.ConfigDict()
  config.model = 'shakespeare'  # that ships, a file of train.export, a folder
  config.chat = False  # prompts are messages of a user to the model
  config.prefix = ''  # put before every prompt, a BOS for example
  config.blank = ''  # what stands for a position to fill in a prompt; then
  # nothing is written behind it, and no end token
  config.samples = 1  # texts per prompt
  config.new = 256  # tokens to write
  config.block = 0  # of them per block, left to right; 0: all
  config.window = False  # KV cache: probes compute the block, not the canvas
  config.batch = 8  # rows at a time
  config.group = 1  # devices that share the weights; 1: each has all of them
  config.dtype = ''  # of the weights, 'bfloat16' or 'float32'; '': as stored
  config.ignore = ()  # keys of config.json that do not change the network
  config.bucket = 64  # canvas lengths are multiples of it
  config.temperature = 0.0  # of the drafts
  config.top_p = 1.0
  config.judged = False  # scores and tests read the law of the drafts
  config.stop = True  # a row is done once all before its end token is written
  config.eos_last = False  # end tokens are written after all others
  config.eos_penalty = 0.0  # nats, taken from the end tokens' log-probability
  config.ban = ()  # names ('eos') or ids that do not exist for the model
  config.seed = 0
  # What config.sampler.name stands for, if nothing more is said.
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(epsilon=0.04)
  config.samplers.top_k = dict(k=2, score='draft')
  config.samplers.uniform = dict(k=2)
  config.samplers.entropy_bound = dict(gamma=0.1)
  config.samplers.threshold = dict(tau=0.9)
  config.samplers.factor = dict(f=1.0)
  config.samplers.maskgit = dict(steps=64)
  config.samplers.halton = dict(steps=64)
  config.sampler = options.placeholders()
  config.sampler.name = 'punt'
  return config


def find(config):
  """The model that config.model names: a folder, a file, or one that ships.

  Raises:
    ValueError: one sentence, see checkpoints.load.
  """
  path = pathlib.Path(config.model)
  if path.is_dir():
    return checkpoints.load(
      path, dtype=config.dtype or None, mesh=grid(config),
      ignore=tuple(config.ignore),
    )
  known = path.exists() or config.model in checkpoints.names()
  if known and (config.group != 1 or config.dtype or config.ignore):
    raise ValueError(
      'config.group, dtype and ignore are for checkpoint directories, and'
      f' {path} is none'
    )
  return checkpoints.load(config.model)


def need_text(loaded):
  """Raises ValueError if a checkpoints.Pretrained has no vocabulary."""
  if loaded.text is None:
    raise ValueError(
      'the model has no tokenizer.json, which texts need: copy the files of its'
      " tokenizer into its folder (for MDLM: GPT-2's)"
    )


def grid(config):
  """The mesh of config.group devices to a group, None for groups of one."""
  group = checks.whole('group', config.group, 1)
  count = len(jax.devices())
  return None if group == 1 else parallel.mesh(count // group, group)


def writer(config, loaded) -> Writer:
  """A Writer from a config and a checkpoints.Pretrained.

  Raises:
    ValueError: one sentence: a setting that is unknown, out of range, or asks
      what this model or sampler cannot do.
  """
  for name in ('new', 'batch', 'bucket'):
    checks.whole(name, config[name], 1)
  if config.sampler.name is None:
    raise ValueError('config.sampler.name is not set: say which sampler writes')
  need_text(loaded)
  (choice,) = job_lib.choose(config)
  build, knobs = builder(config, loaded, choice)
  build(loaded.params, knobs)  # names a value that is out of range
  key = jax.random.key(config.seed)
  mesh, devices = grid(config), jax.local_devices()
  spread = mesh is None and len(devices) > 1
  params = parallel.everywhere(loaded.params) if spread else loaded.params

  @functools.cache
  def compiled(length):
    run = punt_jax.compile(
      build, options.most_steps(choice, length), devices if spread else None,
      mesh=mesh,
    )
    fill = functools.partial(run, params, knobs, key)
    # A canvas with nothing to write: compiles, and costs nothing.
    fill(np.zeros((config.batch, length), np.int32))
    return fill

  def write(given, numbers):
    rows = [prompts.canvas(config, loaded.text.vocab, ids) for ids in given]
    lengths = [prompts.padded(config, loaded, len(row)) for row in rows]
    for length, batch in prompts.batches(lengths, config.batch):
      fill = compiled(length)
      mine = [rows[i] for i in batch]
      tokens, valid = prompts.lay(mine, config.batch, length)
      named = np.zeros(config.batch, np.int32)
      named[: len(batch)] = [numbers[i] for i in batch]
      start = time.perf_counter()
      out = fill(tokens, valid=valid, rows=named)
      out = jax.tree.map(np.asarray, out)
      seconds = time.perf_counter() - start
      options.check_finished(choice, out)
      yield [
        written(config, loaded, rows[i], numbers[i], out, r)._replace(
          seconds=seconds, shared=len(batch)
        ) for r, i in enumerate(batch)
      ]

  encode = functools.partial(prompts.encode, config, loaded)
  return Writer(encode, write, choice)


def builder(config, loaded, choice):
  """(build, knobs) for punt_jax.compile; all numbers are traced.

  Raises:
    ValueError: what the sampler needs and the model does not have.
  """
  ends = prompts.ends_of(loaded)
  gone = prompts.ids_of(loaded, [*config.ban, *(ends if config.blank else [])])
  orders = order_of(choice, ends) if config.eos_last and ends else {}
  if config.window and 'block' not in choice.knobs:
    raise ValueError('config.window needs blocks: set config.block as well')
  window = int(choice.knobs['block']) if config.window else None
  asked = options.asks(choice, loaded, window)
  if choice.learns:
    raise ValueError(
      f'{choice.name} is told {choice.learns} that it learns from empty'
      ' canvases: it runs in punt_jax.cli.demo alone'
    )
  knobs = dict(
    sampler=choice.knobs, temperature=config.temperature, top_p=config.top_p,
    penalty=config.eos_penalty,
  )

  def build(params, knobs):
    model = loaded.denoiser(params, **asked)
    if gone:
      model = without(model, gone)
    if config.eos_penalty:
      model = punt_jax.bias(model, ends, -knobs['penalty'])
    if config.temperature != 1:
      model = punt_jax.temper(model, knobs['temperature'])
    if config.top_p != 1:
      model = punt_jax.top_p(model, knobs['top_p'])
    if config.judged:
      model = punt_jax.judge_drafts(model)
    sampler = choice.make({**knobs['sampler'], **orders})
    if config.stop and ends:
      sampler = samplers.stop(sampler, ends)
    return model, sampler

  return build, knobs


def order_of(choice, ends):
  """Knobs that make a sampler write end tokens last."""
  knobs = inspect.signature(getattr(samplers, choice.name)).parameters
  if 'score' not in knobs:
    raise ValueError(
      f'{choice.name} has no order in which end tokens could be last: use'
      ' --config.eos_last=False'
    )
  score = choice.words.get('score', knobs['score'].default)
  last = {'score': select.eos_last(score, ends)}
  return last | ({'admit': select.eos_waits(ends)} if 'admit' in knobs else {})


def without(model, ids):
  """The model given that none of these tokens occurs, scores included."""
  punt_jax.ban(model, ids)  # names an id that is out of range

  def read(features):
    logp = model.read(features)
    return jax.nn.log_softmax(logp.at[..., np.asarray(ids)].set(-np.inf))

  return model._replace(read=read)


def written(config, loaded, row, number, out, r) -> Written:
  """Row r of a Decoded whose canvas was `row`, as numbers and a text."""
  tokens = out.tokens[r, -len(row) :]
  blank = row == loaded.text.vocab
  ids = tokens[blank]
  ended = np.isin(ids, prompts.ends_of(loaded))
  count = int(ended.argmax()) if ended.any() else len(ids)
  shown = tokens if config.blank else ids[:count]
  special = list((loaded.ids or {}).values())
  one = lambda values: values[r].item()
  return Written(
    number, loaded.text.decode(shown[~np.isin(shown, special)]), ids.tolist(),
    count, one(out.meter.nfe), one(out.meter.depth), one(out.meter.positions),
    one(out.steps), one(out.log_q), 0.0, 0,
  )
