"""Saving and restoring: orbax for training, safetensors for weights.

A training checkpoint holds the state (parameters, their average, the
optimizer), JSON (the data's step, the config), and a digest of both. A
safetensors file holds one tree of parameters, named by their path, and strings
in its header. orbax is imported when it is first needed: it takes as long as
JAX itself.
"""

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from punt_jax import files, jsonl
from punt_jax.checkpoints import digests, quiet, tensors
from punt_jax.types import FilePath, Tree

DEEP = 16  # parts of a parameter's name
DIGEST = 'digest'  # key beside the extra JSON


def check_folder(folder: FilePath) -> None:
  """Raises ValueError for a path below which orbax reads nothing back."""
  path = str(pathlib.Path(folder).absolute())
  if found := sorted(set(path) & set('[]\\')):
    raise ValueError(
      f'{folder}: checkpoints cannot be read back from a folder with'
      f' {" or ".join(found)} in its path: use another'
    )


def open_checkpoints(
  folder: FilePath, keep: int = 2, read_only: bool = False
) -> Any:
  """An orbax CheckpointManager that keeps the last `keep` checkpoints.

  Args:
    folder: of checkpoints alone; made unless it is only read.
    keep: how many stay.
    read_only: whether nothing is written, not even the folder, so that a run
      may go on meanwhile.

  Raises:
    ValueError: see `check_folder`.
  """
  import orbax.checkpoint as ocp

  check_folder(folder)
  path = pathlib.Path(folder).absolute()

  def look():
    options = ocp.CheckpointManagerOptions(
      max_to_keep=None if read_only else keep,
      enable_async_checkpointing=False,
      read_only=read_only,
      create=not read_only,
    )
    manager = ocp.CheckpointManager(path, options=options)
    manager.latest_step()  # what is there is read when it is first asked for
    return manager

  manager, failed = quiet.call(look)
  if failed:
    raise ValueError(f'no checkpoints can be kept in {folder} ({failed})')
  return manager


def tidy(folder: FilePath) -> None:
  """Removes what a kill or a full disk has left half written.

  For who has the folder alone: it takes what another process is writing, too.
  """
  for part in pathlib.Path(folder).glob('*.orbax-checkpoint-tmp*'):
    shutil.rmtree(part, ignore_errors=True)


def save(
  manager: Any, step: int, state: Tree, extra: Mapping[str, Any]
) -> None:
  """Writes a pytree of arrays and a JSON object; done when it returns.

  Raises:
    ValueError: one sentence, if it cannot be written. The checkpoints before it
      stay.
  """
  import orbax.checkpoint as ocp

  leaves = {f'{i:04d}': x for i, x in enumerate(jax.tree.leaves(state))}
  about = {**extra, DIGEST: _digest(leaves, extra)}
  args = ocp.args.Composite(
    state=ocp.args.StandardSave(leaves), extra=ocp.args.JsonSave(about)
  )
  _, failed = quiet.call(lambda: manager.save(step, args=args))
  if failed:
    tidy(manager.directory)
    raise ValueError(
      f'the checkpoint {manager.directory / str(step)} cannot be written'
      f' ({failed}): those before it stay; make room there and run the same'
      ' command again'
    )


def restore(manager: Any, like: Tree) -> tuple[Tree, Any] | None:
  """The newest checkpoint, or None if there is none.

  What was saved with a digest is compared with it, where this process holds all
  of it; checkpoints of older versions have none.

  Args:
    manager: from `open_checkpoints`.
    like: pytree with the shapes and types that are expected. Leaves that say
      where they are to be (jax.ShapeDtypeStruct with a sharding, or arrays)
      are read to there, whatever devices and processes wrote them; others to
      the devices that they were written from.

  Returns:
    (state like `like`, extra JSON), or None.

  Raises:
    ValueError: one sentence, if the checkpoint is damaged or holds other
      shapes.
  """
  step = manager.latest_step()
  if step is None:
    return None
  folder = manager.directory / str(step)
  leaves, tree = jax.tree.flatten(like)
  want = {f'{i:04d}': x for i, x in enumerate(leaves)}
  found, failed = quiet.call(lambda: _read(manager, step, want))
  if failed and not folder.exists():  # a run that goes on has put it away
    manager.reload()
    return restore(manager, like)
  if failed in quiet.SYSTEM:
    raise ValueError(f'the checkpoint {folder} cannot be read: {failed}')
  if failed:
    raise ValueError(
      f'the checkpoint {folder} cannot be read ({failed}): it is truncated or'
      ' damaged; delete it to go on from an older one'
    )
  if found is None:
    raise ValueError(
      f'the checkpoint {folder} holds other shapes than this model and'
      ' optimizer: it was written with other settings; use another workdir'
    )
  state, extra = found
  said = extra.pop(DIGEST, None)
  if said and said != (_digest(state, extra) or said):
    raise ValueError(
      f'the checkpoint {folder} is damaged: it does not hold what was saved;'
      ' delete it to go on from an older one'
    )
  state = [_as(state[k], want[k]) for k in sorted(want)]
  return jax.tree.unflatten(tree, state), extra


def _read(manager, step, want):
  """({name: array as stored}, JSON), or None where shapes differ."""
  import orbax.checkpoint as ocp

  folder = manager.directory / str(step) / 'state'
  stored: Any = ocp.StandardCheckpointHandler().metadata(folder)
  shapes = [{k: x.shape for k, x in tree.items()} for tree in (stored, want)]
  if shapes[0] != shapes[1]:
    return None
  places = {k: getattr(x, 'sharding', None) for k, x in want.items()}
  target = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[k])
    for k, x in stored.items()
  } if any(places.values()) else None
  found: Any = manager.restore(
    step,
    args=ocp.args.Composite(
      state=ocp.args.StandardRestore(target), extra=ocp.args.JsonRestore()
    ),
  )
  return found['state'], found['extra']


def _as(array, like):
  """With the type of `like`, if that says where it is to be."""
  placed = getattr(like, 'sharding', None) is not None
  return array.astype(like.dtype) if placed else array


def _digest(leaves, extra):
  """SHA-256 of arrays by name and a JSON object; None if some lie elsewhere."""
  if not all(getattr(x, 'is_fully_addressable', True) for x in leaves.values()):
    return None
  return digests.of(extra, sorted(leaves.items()))


def export_params(
  path: FilePath, params: Tree, metadata: dict[str, Any]
) -> None:
  """Writes a tree of parameters as safetensors.

  Args:
    path: file to write.
    params: nested dict of arrays.
    metadata: dict of JSON values for the header.

  Raises:
    ValueError: one sentence, if a parameter is not finite.
  """
  from safetensors.numpy import save

  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='.')
  arrays = {k: np.asarray(x, order='C') for k, x in flat.items()}
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise ValueError(
        f'{path} is not written: the parameter {name} holds NaN or infinity'
      )
  header = {k: json.dumps(v) for k, v in metadata.items()}
  files.write(path, save(arrays, metadata=header))


def import_params(
  path: FilePath, needs: Sequence[str] = ()
) -> tuple[Tree, dict[str, Any]]:
  """Reads what `export_params` wrote: (params, metadata).

  Args:
    path: file to read.
    needs: what the header must have.

  Returns:
    nested dict of float32 np.ndarrays, and JSON values.

  Raises:
    ValueError: one sentence: the file is missing, damaged, or somebody else's,
      or a parameter is not floating-point or not finite.
  """
  stored = tensors.open_tensors(path)
  lacks = sorted(set(needs) - set(stored.metadata))
  if lacks:
    raise ValueError(
      f'{path} has no {lacks[0]!r} in its header, so it is no file of'
      ' train.export: if it is part of a checkpoint directory, give the folder'
      f' that has the config.json: {pathlib.Path(path).parent}'
    )
  metadata, flat = {}, {}
  for key, value in stored.metadata.items():
    try:
      metadata[key] = jsonl.decode(value.encode())
    except ValueError as error:
      raise ValueError(
        f'{path}: {key!r:.40} in its header is not JSON ({error}): it was not'
        ' written here'
      ) from None
  for name in stored.shapes:
    with np.errstate(over='ignore'):
      flat[name] = tensors.weight(stored, name).astype(np.float32, copy=False)
    if not np.isfinite(flat[name]).all():
      raise tensors.not_finite(stored, name)
    parts = name.split('.')
    roots = {'.'.join(parts[:n]) for n in range(1, len(parts))}
    if len(parts) > DEEP or not all(parts) or roots & set(stored.shapes):
      raise ValueError(f'{path}: {name!r:.80} is no name of a parameter')
  return traverse_util.unflatten_dict(flat, sep='.'), metadata


def check_shapes(params: Tree, like: Tree, where: Any) -> None:
  """Raises ValueError naming the first parameter whose shape differs."""
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='.')
  want: dict[str, Any] = traverse_util.flatten_dict(like, sep='.')
  for name in sorted(set(flat) | set(want)):
    shapes = [np.shape(t[name]) if name in t else None for t in (flat, want)]
    if shapes[0] != shapes[1]:
      raise ValueError(
        f'{where}: parameter {name:.80} has shape {shapes[0]}, but the model'
        f' needs {shapes[1]} (None: absent)'
      )
