"""Trained orders: those that ship, and files of train.orders."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import errors

from punt_jax.checkpoints import saving
from punt_jax.checkpoints.pretrained import ASSETS
from punt_jax.models import orders
from punt_jax.types import FilePath, Tree

SHIPPED = ASSETS / 'orders'


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
  if card.get('kind') not in orders.KINDS:
    raise ValueError(f'{path} holds no order: train one with train.orders')
  module, make = orders.KINDS[card['kind']]
  apply = functools.partial(make, module(**card['module']))
  return Order(params, apply, card)


def find(name: str, kind: str) -> Order:
  """The network of this kind that is called `name`, or lies at that path.

  Its function says so in a ValueError when it is used beside a denoiser whose
  features have another width.

  Raises:
    ValueError: one sentence: it is not there, damaged, or of another kind.
  """
  path = SHIPPED / f'{name}.safetensors'
  if not path.exists():
    path = pathlib.Path(name)
    if path.suffix != '.safetensors' or not path.is_file():
      raise ValueError(f'there is no order {name}: {said()}')
  found = load(path)
  if found.card['kind'] != kind:
    raise ValueError(
      f'the order {name} is of the kind {found.card["kind"]!r}, and one of the'
      f' kind {kind!r} is needed'
    )

  def apply(params):
    network = found.apply(params)

    def call(*seen):
      try:
        return network(*seen)
      except errors.ScopeParamShapeError as error:
        raise ValueError(
          f'the order {name} was trained beside {found.card["denoiser"]} and'
          ' does not fit the features of this denoiser: train one for it'
        ) from error

    return call

  return found._replace(apply=apply)


def said() -> str:
  """Which orders there are."""
  names = sorted(file.stem for file in SHIPPED.glob('*.safetensors'))
  ship = f'one of {", ".join(names)}, or ' if names else ''
  return f'use {ship}the path of an order.safetensors of train.orders'
