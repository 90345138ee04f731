"""Weights split over devices: which axis of which parameter, in one table.

As in Megatron (Shoeybi et al., 2019, https://arxiv.org/abs/1909.08053): the
first matrix of attention and MLP by its outputs, the second by its inputs, so
that a layer needs two sums over the devices; embedding and head by vocabulary.
"""

import re
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import (
  Mesh,
  NamedSharding,
  PartitionSpec,
  Sharding,
  SingleDeviceSharding,
)

from punt_jax.readout import BLOCKS
from punt_jax.types import Tree

AXIS = 'model'  # of the mesh


def _all(module, size):
  return size


def _heads(module, size):
  """Attention by whole key heads, each with its queries."""
  return getattr(module, 'groups', module.heads)


def _blocks(module, size):
  """The vocabulary where the readout's blocks of it need no padding."""
  return 1 if size % BLOCKS else BLOCKS


SPLIT = (  # path -> axis, from the end, and how many pieces it may come in
  (r'(embed|decoder)/embedding', -2, _blocks),
  (r'(blocks|first)/(query|key|value)/(kernel|bias)', -1, _heads),
  (r'(blocks|first)/out/kernel', -2, _heads),
  (r'(blocks|first)/(experts/shared/)?(gate|up)/(kernel|bias)', -1, _all),
  (r'(blocks|first)/(experts/shared/)?down/kernel', -2, _all),
  (r'blocks/experts/(gate|up|down)', -3, _all),  # by experts
  (r'readout/(kernel|bias)', -1, _blocks),
)  # MDLM's query, key and value are one matrix: it stays whole


def spec(
  module: Any, path: str, shape: tuple[int, ...], mesh: Mesh | None = None
) -> Sharding:
  """The Sharding of a parameter; whole where nothing divides evenly.

  Args:
    module: flax module of a loaded model.
    path: '/'-joined path of the parameter.
    shape: its shape.
    mesh: with an axis AXIS, or None for the default device.
  """
  if mesh is None:
    return SingleDeviceSharding(jax.local_devices()[0])
  axes: list[str | None] = [None] * len(shape)
  for pattern, axis, pieces in SPLIT:
    if re.fullmatch(pattern, path):
      even = pieces(module, shape[axis]) % mesh.shape[AXIS] == 0
      axes[axis] = AXIS if even else None
  return NamedSharding(mesh, PartitionSpec(*axes))


def like(module: Any, params: Tree, mesh: Mesh | None = None) -> Tree:
  """`params` (arrays or shapes) as ShapeDtypeStructs that say where to be.

  Example: `saving.restore(manager, sharding.like(module, params, mesh))`.
  """
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
  placed = {
    path: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=spec(module, path, x.shape, mesh)
    )
    for path, x in flat.items()
  }
  return traverse_util.unflatten_dict(placed, sep='/')


def of_piece(
  place: NamedSharding, axes: int, transpose: bool
) -> NamedSharding:
  """The Sharding of a piece of a parameter placed so; see layout.Source."""
  found = list(place.spec[axes:])
  if transpose:
    found[-2:] = found[:-3:-1]
  return NamedSharding(place.mesh, PartitionSpec(*found))
