"""Parameters from the tensors of a checkpoint and back, a tensor at a time.

models/layout.py says which tensor is which piece of which parameter.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from punt_jax.checkpoints import tensors
from punt_jax.models import layout, sharding
from punt_jax.models.layout import Layout, Piece
from punt_jax.types import Array


def places(
  plan: Layout, like: dict[str, Any], stored: tensors.Tensors
) -> dict[str, list[Piece]]:
  """{tensor: its Pieces}; names and shapes are those of the files.

  Args:
    plan: Layout.
    like: {parameter: ShapeDtypeStruct}.
    stored: the tensors that there are.

  Raises:
    ValueError: one sentence naming the first tensor that does not fit.
  """
  known = layout.pieces(plan, like)
  for name, parts in known.items():
    shape = layout.whole(parts)
    found = stored.shapes.get(name, (None,))[0]
    if found is None or tuple(found) != shape:
      said = 'is missing' if found is None else f'has shape {tuple(found)}'
      raise ValueError(
        f'{stored.where}: the tensor {name} {said:.200}, config.json asks for'
        f' {shape}: the files do not belong to this config'
      )
  ignored = re.compile('|'.join(plan.ignored) or r'(?!)')
  for name in stored.shapes:
    fine = name in known or name in plan.copies or ignored.fullmatch(name)
    if not fine:
      raise ValueError(
        f'{stored.where}: the tensor {name:.80} has no place in the network'
        ' that config.json describes: the files do not belong to this config'
      )
  return known


def read(
  plan: Layout, like: dict[str, Any], stored: tensors.Tensors,
  mesh: Mesh | None = None,
) -> dict[str, Array]:
  """{parameter: array}: the host holds one tensor and the pages of one file.

  Args:
    plan: Layout.
    like: {parameter: ShapeDtypeStruct}.
    stored: the tensors.
    mesh: places the parameters by models.sharding; None for one device.

  Raises:
    ValueError: one sentence: as of `places`, or a tensor holds no finite
      floating-point numbers.
  """
  known = places(plan, like, stored)
  where = {
    path: sharding.spec(plan.module, path, x.shape, mesh)
    for path, x in like.items()
  }
  params = {
    path: jnp.zeros(x.shape, x.dtype, device=where[path])
    for path, x in like.items()
  }
  for name in stored.shapes:
    if name not in known:
      continue
    tensor, start = tensors.weight(stored, name), 0
    for path, index, shape, transpose in known[name]:
      rows = tensor[start : start + shape[0]]
      start += shape[0]
      place, split = where[path], mesh is not None
      if isinstance(place, NamedSharding):
        place = sharding.of_piece(place, len(index), transpose)
      rows = jax.make_array_from_callback(shape, place, rows.__getitem__)
      params[path], finite = _put(params[path], rows, index, transpose, split)
      if not finite:  # this waits: one tensor at a time is on its way
        raise tensors.not_finite(stored, name)
  return params


def write(
  plan: Layout, params: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
  """(name, tensor) of every tensor of a checkpoint, from {parameter: array}.

  Raises:
    ValueError: one sentence, if a parameter is not finite.
  """
  for name, parts in layout.pieces(plan, params).items():
    found = []
    for path, index, _, transpose in parts:
      array = np.asarray(params[path][index] if index else params[path])
      if not np.isfinite(array).all():
        raise ValueError(f'the parameter {path} holds NaN or infinity')
      found.append(array.swapaxes(-1, -2) if transpose else array)
    tensor = np.concatenate(found) if len(found) > 1 else found[0]
    yield name, np.ascontiguousarray(tensor)


@functools.partial(jax.jit, donate_argnums=0, static_argnums=(3, 4))
def _put(param, rows, index, transpose, split):
  """Rows into their parameter, in place -> (parameter, all finite)."""
  rows = (rows.swapaxes(-1, -2) if transpose else rows).astype(param.dtype)
  finite = jnp.isfinite(rows).all()
  if not index:
    return rows, finite
  start = *index, *(0 for _ in rows.shape)
  rows = rows.reshape(*(1 for _ in index), *rows.shape)
  put = lambda param, rows: jax.lax.dynamic_update_slice(param, rows, start)
  if split:
    return put(param, rows), finite
  return jax.lax.platform_dependent(
    param, rows, cpu=functools.partial(_as_bits, put), default=put
  ), finite


def _as_bits(put, param, rows):
  """Else a CPU makes float32 of all of a bfloat16 parameter, and back."""
  bits = f'uint{8 * param.dtype.itemsize}'
  cast = jax.lax.bitcast_convert_type
  return cast(put(cast(param, bits), cast(rows, bits)), param.dtype)
