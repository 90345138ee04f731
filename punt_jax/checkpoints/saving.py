"""Saving and restoring: orbax for training, safetensors for weights.

A training checkpoint holds the state (parameters, their average, the
optimizer) and JSON (the data's step, the config). A safetensors file holds
one tree of parameters, named by their path, and strings in its header.
orbax is imported when it is first needed: it takes as long as JAX itself.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from punt_jax import files, jsonl
from punt_jax.checkpoints import tensors
from punt_jax.types import FilePath, Tree

DEEP = 16  # parts of a parameter's name

def open_checkpoints(folder: FilePath, keep: int = 2) -> Any:
  """An orbax CheckpointManager that keeps the last `keep` checkpoints."""
  import orbax.checkpoint as ocp

  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, enable_async_checkpointing=False
  )
  return ocp.CheckpointManager(
    pathlib.Path(folder).absolute(), options=options
  )


def save(manager: Any, step: int, state: Tree, extra: Any) -> None:
  """Writes a pytree of arrays and a JSON value; done when it returns."""
  import orbax.checkpoint as ocp

  leaves = {f'{i:04d}': x for i, x in enumerate(jax.tree.leaves(state))}
  manager.save(
    step,
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(leaves), extra=ocp.args.JsonSave(extra)
    ),
  )


def restore(manager: Any, like: Tree) -> tuple[Tree, Any] | None:
  """The newest checkpoint, or None if there is none.

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
  import orbax.checkpoint as ocp

  step = manager.latest_step()
  if step is None:
    return None
  folder = manager.directory / str(step)
  leaves, tree = jax.tree.flatten(like)
  want = {f'{i:04d}': _target(x) for i, x in enumerate(leaves)}
  try:
    stored: Any = ocp.StandardCheckpointHandler().metadata(folder / 'state')
    fits = {k: x.shape for k, x in stored.items()} == {
      k: x.shape for k, x in want.items()
    }
    placed = any(x.sharding is not None for x in want.values())
    found: Any = fits and manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(want if placed else None),
        extra=ocp.args.JsonRestore(),
      ),
    )
  except Exception as error:  # orbax and tensorstore raise many kinds
    raise ValueError(
      f'the checkpoint {folder} cannot be read ({type(error).__name__}): it is'
      ' truncated or damaged; delete it to go on from an older one'
    ) from error
  if not fits:
    raise ValueError(
      f'the checkpoint {folder} holds other shapes than this model and'
      ' optimizer: it was written with other settings; use another workdir'
    )
  state = [found['state'][k] for k in sorted(want)]
  return jax.tree.unflatten(tree, state), found['extra']


def _target(x):
  place = getattr(x, 'sharding', None)
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


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
