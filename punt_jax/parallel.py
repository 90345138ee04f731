"""Decoding on all devices of this process, rows split between them.

One pure function per device, each with its own while_loop: rows need different
numbers of steps, and a device that is done does not wait for the others. There
is no collective in it. Through pmap (the default; since jax 0.8 it is itself
jit of shard_map) or through shard_map.
"""

import jax
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from punt_jax.select import known


def decode_on_devices(per_device, devices=None, through='pmap'):
  """Spreads a decode over devices.

  Args:
    per_device: (params, knobs, key, rows (B,), tokens, given, valid) ->
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
  mapped = spread(per_device, devices)

  def run(params, knobs, key, *batch):
    rows = batch[0].shape[0]
    short = -rows % len(devices)
    fill = lambda x: np.pad(x, [(0, short)] + [(0, 0)] * (np.ndim(x) - 1))
    out = mapped(params, knobs, key, *(fill(np.asarray(x)) for x in batch))
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

  def run(params, knobs, key, *batch):
    out = mapped(params, knobs, key, *map(split, batch))
    return jax.tree.map(join, out)

  run.lower = lambda params, knobs, key, *batch: mapped.lower(
    params, knobs, key, *map(split, batch)
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
