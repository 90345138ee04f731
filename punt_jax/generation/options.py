"""Where names and numbers become samplers.

Written as text a sampler is `punt(epsilon=0.05, first=msb)`: sampler_text.py.
It is looked up by name in punt_jax.samplers.NAMES, its hyperparameters by name
in its signature. Three more wrap any: `block_length` in samplers.blocks (0: the
whole canvas at once) with its `refresh`, `particles` in samplers.smc (1: none).
A model that is causal over blocks is decoded by its own (`fitted`), of which a
`block_length` cuts smaller ones.
A hyperparameter that is a trained network (`policy` of learned,
`head` of influence) is a word: the name of an order that ships, or a file of
train.orders.
"""

import functools
import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from punt_jax import files, samplers
from punt_jax.checkpoints import Pretrained, order_files
from punt_jax.checks import in_range, known
from punt_jax.generation.sampler_text import parse
from punt_jax.types import Decoded, Sampler

FIXED = (str, int)
LEARNED = ('table', 'sizes')
NETWORKS = {'policy': 'policy', 'head': 'pairs'}  # argument: kind of network
# Not the sampler's own.
WRAPPERS = 'block_length', 'refresh', 'particles', 'head'
USUAL = {  # of samplers that people name and say no more
  'punt': {'epsilon': 0.04},
  'top_k': {'k': 2, 'score': 'draft'},
  'uniform': {'k': 2},
  'entropy_bound': {'gamma': 0.1},
  'threshold': {'tau': 0.9},
  'factor': {'f': 1.0},
  'maskgit': {'steps': 64},
  'halton': {'steps': 64},
}
GIVEN = {'window': 'KV cache', 'in_order': 'in_order (one pass in an order)'}
KINDS = {str: 'a word', int: 'a whole number', numbers.Real: 'a number'}


class Choice(NamedTuple):
  """A sampler with its settings, every one of them known and in range."""

  name: str
  static: dict[str, Any]  # fixed when it is compiled: strings (score,
  # ...) and whole numbers that are shapes, known by a default that is an int
  traced: dict[str, Any]  # numbers (epsilon, ...): may be traced
  make: Callable[[dict[str, Any]], Sampler]  # called inside `build`
  learns: str | None = None  # the hyperparameter that warm_up.py gives
  needs: str | None = None  # see Traits, like the next
  rewrites: bool = False
  blocks: int = 0  # positions of a block of the model that it is fitted to

  def settings(self) -> dict[str, Any]:
    """All of it as JSON values, which know no infinity."""
    finite = lambda v: isinstance(v, str) or math.isfinite(v)
    own = {'block_length': self.blocks} if self.blocks else {}
    both = {**own, **self.traced, **self.static}
    return {k: v if finite(v) else str(v) for k, v in both.items()}

  def __str__(self):
    short = lambda v: v if isinstance(v, str) else f'{v:g}'
    return ', '.join(f'{k} {short(v)}' for k, v in self.settings().items())


def signature(name: str) -> dict[str, Any]:
  """{hyperparameter: its default, or inspect.Parameter.empty} of a sampler.

  Those that take functions or arrays are left out: None, and LEARNED, of which
  `sizes` has `steps` in its place, how many sizes are asked for, and `table` a
  `head`, '' for a table. A network is a word.

  Raises:
    ValueError: an unknown sampler; the sentence lists the known ones.
  """
  make = getattr(samplers, known('sampler', name, samplers.NAMES))
  parameters = inspect.signature(make).parameters
  told = {'steps': inspect.Parameter.empty} if 'sizes' in parameters else {}
  told |= {'head': ''} if 'table' in parameters else {}
  return told | {
    hyperparam: '' if hyperparam in NETWORKS else p.default
    for hyperparam, p in parameters.items()
    if p.default is not None and hyperparam not in LEARNED
  } | {'block_length': 0.0, 'refresh': 1.0, 'particles': 1}


def kind(default: Any) -> type:
  """The type of the values of a hyperparameter with this default."""
  return type(default) if type(default) in FIXED else numbers.Real


def choose(sampler: str, settings: Any = ()) -> Choice:
  """The sampler with these settings.

  Args:
    sampler: a name, or what `sampler_text.parse` reads.
    settings: dict; None leaves one unset. What stands in `sampler` comes first.

  Raises:
    ValueError: one sentence: an unknown sampler, a hyperparameter that it does
      not have, needs or understands, or that is out of range.
  """
  name, said = parse(sampler)
  defaults = signature(name)
  settings = {k: v for k, v in dict(settings).items() if v is not None} | said
  for hyperparam, value in settings.items():
    known(f'hyperparameter of {name}:', hyperparam, defaults)
    if not isinstance(value, kind(defaults[hyperparam])):
      said = KINDS[kind(defaults[hyperparam])]
      raise ValueError(f'{hyperparam} = {value!r} of {name} must be {said}')
  for hyperparam, default in defaults.items():
    if default is inspect.Parameter.empty and hyperparam not in settings:
      raise ValueError(
        f'{name} needs a value for its hyperparameter {hyperparam}'
      )
  if 'policy' in defaults and not settings.get('policy'):
    raise ValueError(f'{name} needs a policy: {order_files.said()}')
  settings = {k: settings[k] for k in defaults if k in settings}
  static = {k: v for k, v in settings.items() if kind(defaults[k]) in FIXED}
  hyperparams = {k: v for k, v in settings.items() if k not in static}
  if hyperparams.get('block_length') == 0:
    del hyperparams['block_length']
  if 'refresh' in hyperparams and 'block_length' not in hyperparams:
    raise ValueError(
      f'refresh = {hyperparams["refresh"]} of {name} needs a block_length'
    )
  if static.get('particles') == 1:
    del static['particles']
  if static.get('head') == '':
    del static['head']
  networks = networks_of(static)
  make = functools.partial(make_of, name, static, networks, 0)
  own = inspect.signature(getattr(samplers, name)).parameters
  learns = next((k for k in LEARNED if k in own and k not in networks), None)
  trial = dict(hyperparams)
  if learns == 'table':
    trial['table'] = np.ones((1, 1))
  if learns == 'sizes':
    in_range('steps', trial.pop('steps'), 1)
    trial['sizes'] = np.ones(1)
  traits = make(trial).traits  # names the hyperparameter that is out of range
  return Choice(
    name, static, hyperparams, make, learns, traits.needs, traits.rewrites
  )


def make_of(
  name: str, static: dict[str, Any], networks: dict[str, Any], whole: int,
  hyperparams: dict[str, Any],
) -> Sampler:
  """The sampler of a Choice; whole: positions of a block of the model, or 0."""
  given = {**static, **hyperparams, **networks}
  own = {k: v for k, v in given.items() if k not in WRAPPERS}
  sampler = getattr(samplers, name)(**own)
  if 'block_length' in given:
    refresh = hyperparams.get('refresh', 1.0)
    # Within a model's block they are cut where its own position says.
    aligned = whole > 0
    sampler = samplers.blocks(sampler, given['block_length'], refresh, aligned)
  if 'particles' in static:  # within a block they share what is before it
    sampler = samplers.smc(sampler, static['particles'])
  return samplers.blocks(sampler, whole, aligned=True) if whole else sampler


def fitted(choice: Choice, length: int) -> Choice:
  """The Choice for a model whose blocks have `length` positions; 0: none are.

  Raises:
    ValueError: a block_length that cuts no such block into equal parts.
  """
  if not length or choice.blocks == length:
    return choice
  traced, networks = dict(choice.traced), networks_of(choice.static)
  small = traced.get('block_length', length)
  if length % small:
    raise ValueError(
      f'block_length = {small:g}, and the blocks of this model have {length}'
      ' positions: leave it out, or give a divisor of that for smaller blocks'
      ' inside of them'
    )
  if 'refresh' in traced:
    raise ValueError(
      f'refresh = {traced["refresh"]:g} is for a KV cache that is approximate,'
      " and this model's is exact: leave it out"
    )
  traced.pop('block_length', None)
  inside = {'block_length': int(small)} if small < length else {}
  static = choice.static | inside
  make = functools.partial(make_of, choice.name, static, networks, length)
  return choice._replace(
    static=static, traced=traced, make=make, blocks=length
  )


def written(text: str, settings: Any = ()) -> Choice:
  """The sampler that a person wrote; what they left out is USUAL.

  Args:
    text: see `sampler_text.parse`.
    settings: dict, further values; those in the text come first.
  """
  name, _ = parse(text)
  return choose(text, {**USUAL.get(name, {}), **dict(settings)})


def asks(
  choice: Choice, loaded: Pretrained, window: int | None = None,
  cached: bool = True,
) -> dict[str, Any]:
  """What loaded.denoiser is to be asked for, as keyword arguments.

  Args:
    choice: Choice.
    loaded: checkpoints.Pretrained.
    window: positions of the approximate KV cache; None: it is not asked for.
    cached: whether with the exact one, of a model that the choice is fitted to.

  Raises:
    ValueError: the model does not offer it, or what the sampler needs.
  """
  asked = {choice.needs: True} if choice.needs else {}
  asked |= {'window': window} if window else {}
  for name in sorted(set(asked) - loaded.offers):
    raise ValueError(
      f'this model offers no {GIVEN.get(name, name)}: choose another sampler or'
      ' do without'
    )
  asked.pop('in_order', None)  # whoever offers it always gives it
  return asked | ({'cached': False} if choice.blocks and not cached else {})


def networks_of(static: dict[str, Any]) -> dict[str, Any]:
  """{argument of the sampler: function} of the words that name networks."""
  found = {}
  for hyperparam, kind in NETWORKS.items():
    if hyperparam in static:
      network = order_files.find(static[hyperparam], kind)
      argument = 'table' if hyperparam == 'head' else hyperparam
      found[argument] = network.apply(network.params)
  return found


def digests(choice: Choice) -> dict[str, str]:
  """{hyperparameter: digest of the file} of the networks that it names."""
  return {
    name: files.digest(order_files.path_of(choice.static[name]))
    for name in NETWORKS if name in choice.static
  }


def grid(
  settings: dict[str, Any], length: int, shares: Sequence[str] = ()
) -> list[Choice]:
  """{sampler: {name: a value or several}} -> a Choice of each combination.

  They come in the order of samplers.NAMES; those that share a compilation
  (a sampler and its static settings) stand together.

  Args:
    settings: the dict.
    length: L.
    shares: hyperparameters that are given as shares of the length.

  Raises:
    ValueError: one sentence about an unknown sampler or a bad hyperparameter.
  """
  choices = []
  for name, hyperparams in settings.items():
    values = []
    for hyperparam, value in hyperparams.items():
      several = value if isinstance(value, (tuple, list)) else (value,)
      if hyperparam in shares:
        for share in several:
          in_range(hyperparam, share, 0)
        several = [max(1, round(share * length)) for share in several]
      values.append(dict.fromkeys(several))
    for setting in itertools.product(*values):
      choices.append(choose(name, dict(zip(hyperparams, setting, strict=True))))
  static = [tuple(choice.static.items()) for choice in choices]

  def order(choice):
    return (
      samplers.NAMES.index(choice.name),
      static.index(tuple(choice.static.items())),
    )

  return sorted(choices, key=order)


def most_steps(choice: Choice, length: int) -> int:
  """Steps after which every sampler has finished a canvas of this length.

  Remasking samplers with a hyperparameter `steps` take as many, in each block;
  particles may wait for each other. Of a model's blocks one more may be cut by
  the end of the prompt.
  """
  whole = choice.blocks or length
  small = {**choice.static, **choice.traced}.get('block_length', whole)
  blocks = math.ceil(whole / small)
  blocks *= math.ceil(length / whole) + bool(choice.blocks)
  steps = math.ceil(choice.traced.get('steps', 0)) * blocks
  return max(length, steps) * choice.static.get('particles', 1)


def check_finished(choice: Choice, decoded: Decoded) -> None:
  """Raises ValueError if a row still holds masks."""
  if not np.all(decoded.done):
    raise ValueError(
      f'{choice.name} ({choice}) did not finish row {np.argmin(decoded.done)}'
    )
