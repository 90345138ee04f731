"""Trained orders: those that ship, and files of train.orders."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import errors

from punt_jax import files
from punt_jax.checkpoints import cards, saving
from punt_jax.checkpoints.pretrained import ASSETS
from punt_jax.models import orders
from punt_jax.types import FilePath, Tree, View

SHIPPED = ASSETS / 'orders'
SURE = 4  # numbers that Pairs sees beside the features


class Order(NamedTuple):
  """A trained network."""

  params: Tree
  apply: Callable[[Tree], Callable]  # what samplers.learned or thin takes
  card: dict[str, Any]  # how it was trained, for which denoiser


def load(path: FilePath) -> Order:
  """A network from a file that train/orders/ wrote.

  Raises:
    ValueError: one sentence, if the file is missing, damaged or another's.
  """
  params, card = saving.import_params(path)
  kind = card.get('kind')
  if not isinstance(kind, str) or kind not in orders.KINDS:
    raise ValueError(f'{path} holds no order: train one with train.orders')
  network, make = orders.KINDS[kind]
  module = cards.module(network, card.get('module'), path)
  cards.check(params, module, path, *_seen(kind, params))
  return Order(params, functools.partial(make, module), card)


def _seen(kind, params):
  """What a network is applied to, as wide as the features that it knows."""
  like: Any = jax.ShapeDtypeStruct
  number, whole = like((1, 1), 'float32'), like((1, 1), 'int32')
  first = params.get('features' if kind == 'policy' else 'hidden', {})
  rows = np.shape(first.get('kernel', ())) if isinstance(first, dict) else ()
  width = (rows or (0,))[0] - (0 if kind == 'policy' else SURE)
  row = View(
    whole, whole, whole, whole, whole, number, number, number, number, number,
    total=like((1,), 'int32'), step=like((1,), 'int32'),
    features=like((1, 1, max(width, 1)), 'float32'),
  )
  return (row, like((1,), 'float32')) if kind == 'policy' else (row,)


def path_of(name: str) -> pathlib.Path:
  """The file of an order that is called `name`, or lies at that path.

  Raises:
    ValueError: it is not there.
  """
  path = SHIPPED / f'{name}.safetensors'
  if not os.path.isfile(path):
    path = pathlib.Path(name)
    if path.suffix != '.safetensors' or files.size(path) is None:
      raise ValueError(f'there is no order {name:.200}: {said()}')
  return path


def find(name: str, kind: str) -> Order:
  """The network of this kind that is called `name`, or lies at that path.

  Its function says so in a ValueError when it is used beside a denoiser whose
  features have another width.

  Raises:
    ValueError: one sentence: it is not there, damaged, or of another kind.
  """
  found = load(path_of(name))
  if found.card['kind'] != kind:
    raise ValueError(
      f'the order {name} is of the kind {found.card["kind"]!r}, and one of the'
      f' kind {kind!r} is needed'
    )

  beside = str(found.card.get('denoiser'))

  def apply(params):
    network = found.apply(params)

    def call(*seen):
      try:
        return network(*seen)
      except errors.ScopeParamShapeError as error:
        raise ValueError(
          f'the order {name} was trained beside {beside:.80} and'
          ' does not fit the features of this denoiser: train one for it'
        ) from error

    return call

  return found._replace(apply=apply)


def said() -> str:
  """Which orders there are."""
  names = sorted(file.stem for file in SHIPPED.glob('*.safetensors'))
  ship = f'one of {", ".join(names)}, or ' if names else ''
  return f'use {ship}the path of an order.safetensors of train.orders'
