"""Decoding on many devices, rows split between them.

One pure function per device, each with its own while_loop: rows need different
numbers of steps, and a device that is done does not wait for the others. There
is no collective in it. Through pmap (the default; since jax 0.8 it is itself
jit of shard_map) or through shard_map.

On a mesh such a function runs per group of devices that share the weights
(models/sharding.py): collectives stay inside a group.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from punt_jax.checks import known, whole
from punt_jax.types import Device, Tree

AXES = 'data', 'model'  # of a mesh: rows are split over one, weights over both


def mesh(
  data: int, model: int = 1, devices: Sequence[Device] | None = None
) -> Mesh:
  """A grid of devices: `data` groups of `model` devices each.

  Args:
    data: groups; each decodes its own share of the rows.
    model: devices that a group splits the weights over.
    devices: those of all processes by default.

  Raises:
    ValueError: one sentence, if data x model is not the number of devices.
  """
  devices = list(devices or jax.devices())
  data, model = whole('data', data, 0), whole('model', model, 0)
  if data * model != len(devices):
    raise ValueError(
      f'a mesh of {data} x {model} devices cannot be made of {len(devices)}:'
      ' the product must be the number of devices'
    )
  # Auto axes: the default of make_mesh has changed between jax versions.
  return jax.make_mesh(
    (data, model), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices
  )


def everywhere(
  params: Tree, devices: Sequence[Device] | None = None
) -> Tree:
  """A copy of the parameters on each device, for decode_on_devices.

  It would otherwise make one anew in every call.
  """
  devices = list(devices or jax.local_devices())
  grid = mesh(len(devices), 1, devices)
  return jax.device_put(params, NamedSharding(grid, PartitionSpec()))


def my_rows(count: int) -> np.ndarray:
  """Numbers of the rows of a job, of `count`, that are this process's."""
  whole('count', count, 0, 2**28)
  return np.array_split(np.arange(count), jax.process_count())[
    jax.process_index()
  ]


def decode_on_devices(
  per_device: Callable[..., Any],
  devices: Sequence[Device] | None = None, through: str = 'pmap',
) -> Callable[..., Any]:
  """Spreads a decode over devices.

  Args:
    per_device: (params, hyperparams, key, rows (B,), tokens, given, valid) ->
      Decoded, the last three (B, L).
    devices: devices of this process; all of them by default.
    through: 'pmap' or 'shard_map'.

  Returns:
    The same function for any number of rows. A ragged last share is filled
    with rows that have no valid position: they cost nothing and are cut off.
    Meter.forwards has an entry per device.
  """
  devices = list(devices or jax.local_devices())
  known('way', through, ('pmap', 'shard_map'))
  spread = _pmap if through == 'pmap' else _shard_map
  return _ragged(spread(per_device, devices), len(devices))


def decode_on_mesh(
  per_group: Callable[..., Any], mesh: Mesh
) -> Callable[..., Any]:
  """Spreads a decode over groups of devices that share the weights.

  Every group of the axis 'data' has its own while_loop. Inside a group the
  compiler splits the work as the parameters are split over 'model'.

  Args:
    per_group: as per_device of decode_on_devices.
    mesh: with the axes AXES, from `mesh`; it may span processes, which then
      all call with the same arguments and all get the whole result.

  Returns:
    As decode_on_devices; Meter.forwards has an entry per group. Parameters
    on the mesh's devices stay as they are placed, others are copied to all.
  """
  if tuple(mesh.axis_names) != AXES or set(mesh.axis_types) != {AxisType.Auto}:
    raise ValueError(
      f'the mesh has the axes {mesh.axis_names}, {mesh.axis_types}: make it'
      ' with punt_jax.parallel.mesh'
    )
  whole, split = PartitionSpec(), PartitionSpec(AXES[0])
  mapped = jax.jit(
    jax.shard_map(
      per_group,
      mesh=mesh,
      in_specs=(whole, whole, whole, split, split, split, split),
      out_specs=split,
      axis_names={AXES[0]},  # the compiler sees to the other axis
      check_vma=False,
    )
  )
  rows = NamedSharding(mesh, split)
  devices = set(mesh.devices.flat)

  def place(x):  # jit copies what is on the host to all devices
    away = isinstance(x, jax.Array) and x.sharding.device_set != devices
    return np.asarray(x) if away else x

  def share(x):
    return jax.make_array_from_callback(x.shape, rows, x.__getitem__)

  def run(params, hyperparams, key, *batch):
    inputs = jax.tree.map(place, (params, hyperparams))
    return jax.tree.map(_to_host, mapped(*inputs, key, *map(share, batch)))

  run.lower = mapped.lower
  return _ragged(run, mesh.shape[AXES[0]])


def _to_host(x):
  """A whole array, on every process."""
  if x.is_fully_addressable:
    return np.asarray(x)
  return multihost_utils.process_allgather(x, tiled=True)


def _ragged(mapped, shares):
  """`mapped` for any number of rows; see decode_on_devices."""

  def run(params, hyperparams, key, *batch):
    rows = batch[0].shape[0]
    short = -rows % shares
    fill = lambda x: np.pad(x, [(0, short)] + [(0, 0)] * (np.ndim(x) - 1))
    whole = [fill(np.asarray(x)) for x in batch]
    out = mapped(params, hyperparams, key, *whole)
    cut = jax.tree.map(lambda x: x[:rows], out)
    meter = cut.meter._replace(forwards=out.meter.forwards)
    return cut._replace(meter=meter)

  run.lower = mapped.lower
  return run


def _pmap(per_device, devices):
  """Rows reshaped to (devices, share) and back, on the host."""
  in_axes = (None, None, None, 0, 0, 0, 0)
  mapped = jax.pmap(per_device, in_axes=in_axes, devices=devices)
  split = lambda x: x.reshape((len(devices), -1) + x.shape[1:])
  join = lambda x: np.asarray(x).reshape((-1,) + x.shape[2:])

  def run(params, hyperparams, key, *batch):
    out = mapped(params, hyperparams, key, *map(split, batch))
    return jax.tree.map(join, out)

  run.lower = lambda params, hyperparams, key, *batch: mapped.lower(
    params, hyperparams, key, *map(split, batch)
  )
  return run


def _shard_map(per_device, devices):
  # Auto axes: the default of make_mesh has changed between jax versions.
  mesh = jax.make_mesh(
    (len(devices),), ('rows',), axis_types=(AxisType.Auto,), devices=devices
  )
  whole, split = PartitionSpec(), PartitionSpec('rows')
  return jax.jit(
    jax.shard_map(
      per_device,
      mesh=mesh,
      in_specs=(whole, whole, whole, split, split, split, split),
      out_specs=split,
      check_vma=False,  # the loop's carry starts out the same on all devices
    )
  )
