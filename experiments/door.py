"""The door: where names and numbers of a config become samplers.

A sampler is looked up by name in punt_jax.samplers.__all__, its knobs by name
in its signature; one more, `block`, wraps any of them in samplers.blocks (0:
the whole canvas at once). Behind this door nothing knows of configs.
"""

import inspect
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np
from ml_collections import config_dict

from punt_jax import samplers
from punt_jax.select import known

FIXED = (str, int)
KINDS = {str: 'a word', int: 'a whole number', numbers.Real: 'a number'}


class Choice(NamedTuple):
  """A sampler with its settings, every knob of them known and in range."""

  name: str
  words: dict  # fixed when it is compiled: strings (score, ...) and whole
  # numbers that are shapes, known by a default that is an int
  knobs: dict  # numbers (epsilon, ...): may be traced
  make: Callable  # knobs -> Sampler; called inside `build`
  learns: bool = False  # needs one knob more, `table` (experiments/learn.py)

  def settings(self):
    """All of it as JSON values, which know no infinity."""
    finite = lambda v: isinstance(v, str) or math.isfinite(v)
    both = {**self.knobs, **self.words}
    return {k: v if finite(v) else str(v) for k, v in both.items()}

  def __str__(self):
    short = lambda v: v if isinstance(v, str) else f'{v:g}'
    return ', '.join(f'{k} {short(v)}' for k, v in self.settings().items())


def signature(name):
  """{knob: its default, or inspect.Parameter.empty} of a sampler.

  Those that take functions or arrays are left out: None, and `table`.

  Raises:
    ValueError: an unknown sampler; the sentence lists the known ones.
  """
  make = getattr(samplers, known('sampler', name, samplers.__all__))
  parameters = inspect.signature(make).parameters.items()
  return {
    knob: p.default for knob, p in parameters
    if p.default is not None and knob != 'table'
  } | {'block': 0.0}


def kind(default):
  """The type of the values of a knob with this default."""
  return type(default) if type(default) in FIXED else numbers.Real


def choose(name, settings) -> Choice:
  """The sampler `name` with `settings`, a dict; None leaves a knob unset.

  Raises:
    ValueError: one sentence: an unknown sampler, a knob that it does not
      have, needs or understands, or that is out of range.
  """
  defaults = signature(name)
  settings = {k: v for k, v in settings.items() if v is not None}
  for knob, value in settings.items():
    known(f'knob of {name}:', knob, defaults)
    if not isinstance(value, kind(defaults[knob])):
      said = KINDS[kind(defaults[knob])]
      raise ValueError(f'{knob} = {value!r} of {name} must be {said}')
  for knob, default in defaults.items():
    if default is inspect.Parameter.empty and knob not in settings:
      raise ValueError(f'{name} needs a value for its knob {knob}')
  settings = {k: settings[k] for k in defaults if k in settings}
  words = {k: v for k, v in settings.items() if kind(defaults[k]) in FIXED}
  knobs = {k: v for k, v in settings.items() if k not in words}
  if knobs.get('block') == 0:
    del knobs['block']

  def make(knobs):
    own = {k: v for k, v in knobs.items() if k != 'block'}
    sampler = getattr(samplers, name)(**words, **own)
    if 'block' in knobs:
      sampler = samplers.blocks(sampler, knobs['block'])
    return sampler

  learns = 'table' in inspect.signature(getattr(samplers, name)).parameters
  table = {'table': np.zeros((1, 1), np.float32)} if learns else {}
  make({**knobs, **table})  # names the knob that is out of range
  return Choice(name, words, knobs, make, learns)


def placeholders():
  """config.sampler: no name, and every knob of every sampler, all unset.

  So each can be set on the command line: --config.sampler.name=punt
  --config.sampler.epsilon=0.05.
  """
  config = ml_collections.ConfigDict({'name': config_dict.placeholder(str)})
  for name in samplers.__all__:
    for knob, default in signature(name).items():
      is_fixed = kind(default) in FIXED
      config[knob] = config_dict.placeholder(
        type(default) if is_fixed else float
      )
  return config
