"""Where names and numbers become samplers.

A sampler is looked up by name in punt_jax.samplers.__all__, its knobs by name
in its signature. Three more wrap any: `block_length` in samplers.blocks (0:
the whole canvas at once) with its `refresh`, `particles` in samplers.smc (1:
none).
A knob that is a trained network (`policy` of learned, `head` of influence) is a
word: the name of an order that ships, or a file of train.orders.
"""

import inspect
import itertools
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from punt_jax import samplers
from punt_jax.checkpoints import order_files
from punt_jax.checks import in_range, known

FIXED = (str, int)
LEARNED = ('table', 'sizes')
NETWORKS = {'policy': 'policy', 'head': 'pairs'}  # knob: kind of the network
# Not the sampler's own.
WRAPPERS = 'block_length', 'refresh', 'particles', 'head'
KINDS = {str: 'a word', int: 'a whole number', numbers.Real: 'a number'}


class Choice(NamedTuple):
  """A sampler with its settings, every knob of them known and in range."""

  name: str
  words: dict  # fixed when it is compiled: strings (score, ...) and whole
  # numbers that are shapes, known by a default that is an int
  knobs: dict  # numbers (epsilon, ...): may be traced
  make: Callable  # knobs -> Sampler; called inside `build`
  learns: str | None = None  # the knob that warm_up.py gives
  needs: str | None = None  # see Traits, like the next
  rewrites: bool = False

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

  Those that take functions or arrays are left out: None, and LEARNED, of which
  `sizes` has `steps` in its place, how many sizes are asked for, and `table` a
  `head`, '' for a table. A network is a word.

  Raises:
    ValueError: an unknown sampler; the sentence lists the known ones.
  """
  make = getattr(samplers, known('sampler', name, samplers.__all__))
  parameters = inspect.signature(make).parameters
  told = {'steps': inspect.Parameter.empty} if 'sizes' in parameters else {}
  told |= {'head': ''} if 'table' in parameters else {}
  return told | {
    knob: '' if knob in NETWORKS else p.default
    for knob, p in parameters.items()
    if p.default is not None and knob not in LEARNED
  } | {'block_length': 0.0, 'refresh': 1.0, 'particles': 1}


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
  if 'policy' in defaults and not settings.get('policy'):
    raise ValueError(f'{name} needs a policy: {order_files.said()}')
  settings = {k: settings[k] for k in defaults if k in settings}
  words = {k: v for k, v in settings.items() if kind(defaults[k]) in FIXED}
  knobs = {k: v for k, v in settings.items() if k not in words}
  if knobs.get('block_length') == 0:
    del knobs['block_length']
  if 'refresh' in knobs and 'block_length' not in knobs:
    raise ValueError(
      f'refresh = {knobs["refresh"]} of {name} needs a block_length'
    )
  if words.get('particles') == 1:
    del words['particles']
  if words.get('head') == '':
    del words['head']
  networks = networks_of(words)

  def make(knobs):
    given = {**words, **knobs, **networks}
    own = {k: v for k, v in given.items() if k not in WRAPPERS}
    sampler = getattr(samplers, name)(**own)
    if 'block_length' in knobs:
      refresh = knobs.get('refresh', 1.0)
      sampler = samplers.blocks(sampler, knobs['block_length'], refresh)
    if 'particles' in words:
      sampler = samplers.smc(sampler, words['particles'])
    return sampler

  own = inspect.signature(getattr(samplers, name)).parameters
  learns = next((k for k in LEARNED if k in own and k not in networks), None)
  trial = dict(knobs)
  if learns == 'table':
    trial['table'] = np.ones((1, 1))
  if learns == 'sizes':
    in_range('steps', trial.pop('steps'), 1)
    trial['sizes'] = np.ones(1)
  traits = make(trial).traits  # names the knob that is out of range
  return Choice(
    name, words, knobs, make, learns, traits.needs, traits.rewrites
  )


def asks(choice, loaded, window=None):
  """What loaded.denoiser is to be asked for, as keyword arguments.

  Args:
    choice: Choice.
    loaded: checkpoints.Pretrained.
    window: positions of the KV cache; None: it is not asked for.

  Raises:
    ValueError: the model does not offer it, or what the sampler needs.
  """
  asked = {choice.needs: True} if choice.needs else {}
  asked |= {'window': window} if window else {}
  for name in sorted(set(asked) - loaded.offers):
    raise ValueError(f'this model cannot be asked with {name}')
  asked.pop('in_order', None)  # whoever offers it always gives it
  return asked


def networks_of(words):
  """{argument of the sampler: function} of the words that name networks."""
  found = {}
  for knob, kind in NETWORKS.items():
    if knob in words:
      network = order_files.find(words[knob], kind)
      argument = 'table' if knob == 'head' else knob
      found[argument] = network.apply(network.params)
  return found


def grid(settings, length, shares=()):
  """{sampler: {knob: a value or several}} -> a Choice of each combination.

  They come in the order of samplers.__all__; those that share a compilation
  (a sampler and its words) stand together.

  Args:
    settings: the dict.
    length: L.
    shares: knobs that are given as shares of the length.

  Raises:
    ValueError: one sentence about an unknown sampler or a bad knob.
  """
  choices = []
  for name, knobs in settings.items():
    values = []
    for knob, value in knobs.items():
      several = value if isinstance(value, (tuple, list)) else (value,)
      if knob in shares:
        several = [max(1, round(share * length)) for share in several]
      values.append(dict.fromkeys(several))
    for setting in itertools.product(*values):
      choices.append(choose(name, dict(zip(knobs, setting, strict=True))))
  words = [tuple(choice.words.items()) for choice in choices]

  def order(choice):
    return (
      samplers.__all__.index(choice.name),
      words.index(tuple(choice.words.items())),
    )

  return sorted(choices, key=order)


def most_steps(choice, length):
  """Steps after which every sampler has finished a canvas of this length.

  Remasking samplers with a knob `steps` take as many, in each block; particles
  may wait for each other.
  """
  blocks = math.ceil(length / choice.knobs.get('block_length', length))
  steps = math.ceil(choice.knobs.get('steps', 0)) * blocks
  return max(length, steps) * choice.words.get('particles', 1)


def check_finished(choice, decoded):
  """Raises ValueError if a row still holds masks."""
  if not np.all(decoded.done):
    raise ValueError(
      f'{choice.name} ({choice}) did not finish row {np.argmin(decoded.done)}'
    )
