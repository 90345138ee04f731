"""What the main job is to do: from a config to settings that are checked."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

import punt_jax
from punt_jax import checkpoints
from punt_jax.checks import known, numbers
from punt_jax.cli import configs
from punt_jax.generation import generator, options, warm_up
from punt_jax.text.vocabulary import Text
from punt_jax.types import BuildFn, Device, Sampler, Tree
from punt_jax.viz import terminal

# 128 characters, as long as the canvas.
PROMPT = """\
ROMEO:
What ______ is this that ______ upon the night,
____________________________ so fair?

JULIET:
__________________________"""
LIMITS = {  # of the numbers of the config, see checks.numbers
  'rows': (1,), 'length': (1,), 'temperature': (0.0,), 'top_p': (0.0, 1.0),
  'seed': (0,), 'draws': (1,), 'warm_up': (1,),
}
FILM = ('punt', 'one_by_one')


def defaults(typed: Callable[[str], str | None] | None = None) -> Any:
  """The config, unless another is given; see command.run_config."""
  del typed
  config = ml_collections.ConfigDict()
  config.model = 'shakespeare'  # or the path of a file of train.export
  config.prompt = PROMPT  # _ is a blank to fill
  config.escapes = False  # \n in the prompt is a line break
  config.rows = 4  # of each canvas
  config.length = 128  # characters of a canvas
  config.temperature = 0.5  # of the drafts; tests and scores use 1
  config.top_p = 1.0  # of the drafts
  config.block_length = 0  # of samplers that do not say; 0: all at once
  config.seed = 0  # of the drafts and scores
  config.draws = 8  # masks per row for the score
  config.warm_up = 4  # canvases from which `influence` learns its table
  config.film = FILM  # whom film.html shows
  # Forward passes per row near PUNT's, but for one_by_one, the reference,
  # and influence, which does not need them.
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(epsilon=0.2)
  config.samplers.influence = dict(kappa=0.03)
  config.samplers.one_by_one = dict()
  config.samplers.top_k = dict(k=3)
  config.samplers.uniform = dict(k=3)
  config.samplers.maskgit = dict(steps=46)
  config.samplers.entropy_bound = dict(gamma=5.0)
  config.samplers.dilated = dict(base=2.0, block_length=8)
  config.samplers.halton = dict(steps=46)
  config.samplers.threshold = dict(tau=0.2)
  config.samplers.factor = dict(f=3.3)
  config.sampler = configs.placeholders()  # one of them alone, if it is named
  return config


class Page(NamedTuple):
  """A canvas to fill."""

  number: int
  name: str
  tokens: np.ndarray  # (B, L) int32
  length: int  # positions that are valid, the first of each row

  @property
  def valid(self) -> np.ndarray:
    """(B, L) bool: all but the padding."""
    inside = np.arange(self.tokens.shape[1]) < self.length
    return np.broadcast_to(inside, self.tokens.shape)


class Job(NamedTuple):
  """A run whose settings have all been checked."""

  config: Any
  loaded: checkpoints.Pretrained
  choices: list[options.Choice]
  film: list[options.Choice]  # those that are filmed
  pages: list[Page]
  devices: Sequence[Device] | None  # None for one
  learned: warm_up.Learned  # zeros until a sampler needs it


def prepare(config: Any) -> Job:
  """Checks a config and loads its model. Writes nothing.

  Raises:
    ValueError: one sentence about what the user gave.
  """
  numbers(config, LIMITS)
  generator.checked(generator.DEFAULTS._replace(
    **{name: config[name] for name in ('temperature', 'top_p', 'seed')}
  ))
  choices = configs.choose(config)
  loaded = checkpoints.load(config.model)
  blocks = generator.blocks_of(loaded)
  choices = [options.fitted(choice, blocks) for choice in choices]
  text = generator.need_text(loaded)
  devices = jax.local_devices()
  job = Job(
    config, loaded, choices, cast(config, choices),
    pages(config, text), devices if len(devices) > 1 else None,
    warm_up.Learned(
      np.zeros((config.length, config.length), np.float32), 0, 0,
      np.zeros(config.length),
    ),
  )
  for choice in choices:
    build, hyperparams = builder(job, choice)
    build(loaded.params, hyperparams)  # names a value that is out of range
  return job


def learn_first(job: Job) -> Job:
  """The job with what its samplers must be told, if one of them must.

  From one-by-one sampling of config.warm_up canvases at temperature 1.
  """
  config, loaded = job.config, job.loaded
  learns = {x.learns for x in job.choices if x.learns is not None}
  if not learns:
    return job
  vocab = generator.need_text(loaded).vocab
  learned = warm_up.learn(
    loaded.denoiser, loaded.params, vocab, config.length,
    config.warm_up, config.seed + 1, warm_up.distances(config.length),
    profile='sizes' in learns,
  )
  passes = learned.passes + learned.more
  print(f'learned {" and ".join(sorted(learns))} from {passes} passes')
  return job._replace(learned=learned)


def cast(config: Any, choices: list[options.Choice]) -> list[options.Choice]:
  """Who is filmed: those that config.film names, or the only one."""
  if len(choices) == 1:
    return choices
  names = [choice.name for choice in choices]
  return [
    choices[names.index(known('sampler of config.film:', name, names))]
    for name in config.film
  ]


def pages(config: Any, text: Text) -> list[Page]:
  """The empty canvas, and the prompt if there is one."""
  shape = config.rows, config.length
  empty = Page(
    0, 'empty canvas', np.full(shape, text.vocab, np.int32), config.length
  )
  prompt = configs.unescaped(config.prompt, config.escapes)
  if not prompt:
    return [empty]
  try:
    ids = text.encode(prompt, '_')
  except ValueError as error:
    raise ValueError(f'the prompt: {error}') from None
  if text.vocab not in ids:
    raise ValueError('the prompt has no blank: write _ for each one to fill')
  if len(ids) > config.length:
    raise ValueError(
      f'the prompt has {len(ids)} positions, more than the canvas: use'
      f' --config.length={len(ids)}, or a shorter --config.prompt, or none'
    )
  row = np.pad(ids, (0, config.length - len(ids)))
  return [empty, Page(1, 'prompt', np.tile(row, (config.rows, 1)), len(ids))]


def builder(
  job: Job, choice: options.Choice,
  wrap: Callable[[Sampler], Sampler] = lambda sampler: sampler,
) -> tuple[BuildFn, Tree]:
  """(build, hyperparameters) for punt_jax.compile; all numbers are traced."""
  config = job.config
  asked = options.asks(choice, job.loaded)
  hyperparams = dict(
    sampler=warm_up.hyperparams_of(choice, job.learned),
    temperature=config.temperature, top_p=config.top_p,
  )

  def build(params, hyperparams):
    model = job.loaded.denoiser(params, **asked)
    if config.temperature != 1:
      model = punt_jax.temper(model, hyperparams['temperature'])
    if config.top_p != 1:
      model = punt_jax.top_p(model, hyperparams['top_p'])
    return model, wrap(choice.make(hyperparams['sampler']))

  return build, hyperparams


def describe(job: Job) -> str:
  """The model and what it is asked, in a line."""
  config = job.config
  name = pathlib.Path(config.model).name.removesuffix('.safetensors')
  rows = terminal.counted(config.rows, 'row')
  said = (
    f'{name}, {rows} x {config.length} characters, '
    f'temperature {config.temperature:g}'
  )
  said += f', top-p {config.top_p:g}' if config.top_p != 1 else ''
  if job.devices:
    said += f', on {len(job.devices)} devices'
  return said
