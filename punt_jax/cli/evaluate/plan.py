"""What an evaluation will ask of whom: checked before anything is computed."""

import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from punt_jax import checkpoints, checks, extras
from punt_jax.checkpoints import Pretrained
from punt_jax.cli import configs
from punt_jax.cli.evaluate import sandbox, scoring
from punt_jax.cli.evaluate.guesses import guesses
from punt_jax.cli.sweep import Point, grid
from punt_jax.generation import generator, likelihood, options
from punt_jax.types import FilePath

TASKS = pathlib.Path(__file__).parent / 'tasks'
# What an answer depends on beside prompt, length, model, sampler and seed.
CONDITIONS = (
  'prefix', 'kv_cache', 'temperature', 'top_p', 'judged', 'stop', 'eos_last',
  'eos_penalty', 'ban', 'dtype',
)


class Place(NamedTuple):
  """A task, and a way to answer its questions."""

  name: str  # of the task
  task: Any  # of lm-eval
  config: Any  # for the generator
  sampler: str  # 'random' for random tokens, 'likelihood' where none writes
  settings: dict[str, Any]
  shots: int  # examples before a question
  engine: Any  # harness.Engine
  questions: str = ''  # a digest of them, and of how they are asked
  model: str = ''  # a digest of it

  def point(self) -> Point:
    """What its row is about."""
    length = self.config.max_new_tokens
    return Point(
      self.name, length, self.sampler, self.settings,
      {
        'shots': self.shots, 'seed': self.config.seed,
        'questions': self.questions, **self.conditions(),
      },
    )

  def conditions(self) -> dict[str, Any]:
    """{one of CONDITIONS: its value}."""
    return {key: self.config[key] for key in CONDITIONS}


def import_harness() -> ModuleType:
  """punt_jax.generation.harness, offline and quiet.

  Raises:
    ValueError: the extra is not installed.
  """
  for name in (
    'HF_HUB_OFFLINE', 'HF_DATASETS_OFFLINE', 'TQDM_DISABLE',
    'HF_DATASETS_DISABLE_PROGRESS_BARS',
  ):
    os.environ.setdefault(name, '1')
  for name in 'immutabledict', 'langdetect', 'nltk', 'punkt', 'lm_eval':
    extras.load(name, 'evaluate')
  from punt_jax.generation import harness

  logging.getLogger('lm_eval').setLevel(logging.CRITICAL)
  return harness


def prepare(
  config: Any, harness: ModuleType, folder: FilePath, may_run_code: bool
) -> list[Place]:
  """Every Place of a config, those of a task together, the floor first."""
  if not config.data:
    raise ValueError('say where the questions are, with --data=DIR')
  checks.numbers(config, {'limit': (0,), 'draws': (1,)})
  configs.check_numbers(config)
  for name in config.tasks:
    own = config.tasks[name]
    limits = {'shots': (0,), **configs.LIMITS}
    limits = {key: limits[key] for key in limits if key in own}
    checks.numbers(own, limits, f'tasks.{name}.')
  tasks = load_tasks(config, folder, may_run_code)
  loaded = configs.load(config)
  generator.need_text(loaded)
  if config.chat and loaded.chat is None:
    raise ValueError(
      f'{config.model} has no chat template: use --config.chat=False, or a'
      ' config for base models'
    )
  digest = checkpoints.digest(loaded)
  loaded = harness.shared(loaded, configs.mesh(config))
  return [
    place._replace(
      model=digest,
      engine=engine_of(place, harness, loaded, encode, write, config, digest)
    )
    for name, task in tasks.items()
    for place, encode, write in places(config, name, task, loaded)
  ]


def places(
  config: Any, name: str, task: Any, loaded: Pretrained
) -> Iterator[tuple[Place, Callable[..., np.ndarray], Callable | None]]:
  """Yields (Place without its engine, encode, write) of a task."""
  own = task_config(config, name)
  made, _ = made_for(own, loaded, name)
  shots, questions = config.tasks[name].get('shots', 0), asked(task)
  if task.OUTPUT_TYPE != 'generate_until':
    said = 'likelihood', {'draws': config.draws}
    place = Place(name, task, own, *said, shots, None, questions)
    yield place, made.encode, None
    return
  guess = guesses(configs.settings(own), loaded)
  place = Place(name, task, own, 'random', {}, shots, None, questions)
  yield place, made.encode, guess
  for one in swept(config, own):
    made, choice = made_for(one, loaded, name)
    said = choice.name, choice.settings()
    place = Place(name, task, one, *said, shots, None, questions)
    yield place, made.encode, made.write


def asked(task: Any) -> str:
  """Of what is asked and how: a SHA-256's first letters.

  Of the rows of its files and of the task file, wherever they lie.
  """
  told = task.dump_config()
  told['metadata'] = {**told.get('metadata', {}), 'data': None}  # where it lies
  data = {split: list(rows) for split, rows in task.dataset.items()}
  said = json.dumps([told, data], sort_keys=True, default=str)
  said = re.sub(' at 0x[0-9a-f]+', '', said)  # where a function lies
  return hashlib.sha256(said.encode()).hexdigest()[:16]


def made_for(
  config: Any, loaded: Pretrained, name: str
) -> tuple[generator.Generator, options.Choice]:
  """(Generator, Choice) for a task; an error says where settings stand."""
  try:
    return configs.generate_with(config, loaded)
  except ValueError as error:
    raise ValueError(
      f'{name}: {error}; what a task sets stands under config.tasks.{name}'
    ) from None


def engine_of(
  place: Place, harness: ModuleType, loaded: Pretrained,
  encode: Callable[..., np.ndarray], write: Callable | None, config: Any,
  digest: str,
) -> Any:
  """The harness.Engine of a Place, and all that its answers depend on.

  What a task asks of texts (generation_kwargs) is not looked at, but for the
  strings that end them: the config says it.
  """
  _, *said, _ = place.point()  # the length, the sampler, its settings
  said += [place.config.seed, place.conditions()]
  writer = harness.Writer(encode, write, said)
  score = likelihood.scorer(
    configs.settings(place.config), loaded, config.draws
  )
  return harness.Engine(
    config.model, lambda wanted: writer, score, loaded, said,
    place.config.prefix, digest,
    likelihood.judge(configs.settings(place.config), loaded),
  )


def load_tasks(
  config: Any, folder: FilePath, may_run_code: bool
) -> dict[str, Any]:
  """{name: task of lm-eval}, with its questions."""
  from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

  manager = TaskManager(
    include_path=[str(TASKS), *([config.more] if config.more else [])],
    include_defaults=False, metadata={'data': config.data},
  )
  there = manager.all_subtasks
  for name in config.tasks:
    checks.known('task', name, there)
  if not config.tasks:
    raise ValueError(f'config.tasks is empty: name some of {", ".join(there)}')
  if 'ifeval' in config.tasks:
    scoring.ready_ifeval(folder)
  tasks = manager.load(list(config.tasks))['tasks']
  unsafe = [n for n, task in tasks.items() if getattr(task, 'UNSAFE_CODE', 0)]
  if unsafe and not may_run_code:
    raise ValueError(
      f'{" and ".join(unsafe)} would run programs that the model writes: agree'
      ' with --allow_code_execution, or choose other tasks'
    )
  if unsafe:
    sandbox.check()
    if not sandbox.reads_little():
      print(
        'this kernel has no Landlock: programs that the model writes cannot'
        ' send or change anything, but they can read what you can'
      )
  return {name: tasks[name] for name in config.tasks}


def task_config(config: Any, name: str) -> Any:
  """The generator's config for a task, with what the task says instead."""
  own = config.copy_and_resolve_references()
  settings = config.tasks[name].to_dict()
  for key in settings:
    checks.known(f'setting of {name}:', key, ('shots', *configs.defaults()))
  own.update({k: v for k, v in settings.items() if k != 'shots'})
  own.chat = False  # what is encoded has been through the template
  first = next(iter(swept(config, own)), None)
  if first is None:
    raise ValueError('config.samplers is empty: name at least one sampler')
  return first


def swept(config: Any, own: Any) -> Iterator[Any]:
  """Configs of the generator: `own` with each setting of each sampler.

  Those of config.samplers; of one alone, if config.sampler names it, and then
  what is set there stands in for what is listed.
  """
  wanted, only = config.samplers, config.sampler.name
  for name in wanted if only is None else [only]:
    hyperparams = {
      hyperparam: value for hyperparam, value in wanted.get(name, {}).items()
      if config.sampler.get(hyperparam) is None
    }
    for setting in grid(hyperparams):
      one = own.copy_and_resolve_references()
      one.samplers = {name: setting}
      one.sampler.name = name
      yield one
