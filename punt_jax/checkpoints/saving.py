"""Saving and restoring: orbax for training, safetensors for weights.

A training checkpoint holds the state (parameters, their average, the
optimizer) and JSON (the data's step, the config). A safetensors file holds
one tree of parameters, named by their path, and strings in its header.
orbax is imported when it is first needed: it takes as long as JAX itself.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from punt_jax import files
from punt_jax.types import FilePath, Tree


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
  """
  from safetensors.numpy import save

  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='.')
  arrays = {k: np.asarray(x, order='C') for k, x in flat.items()}
  header = {k: json.dumps(v) for k, v in metadata.items()}
  files.write(path, save(arrays, metadata=header))


def import_params(path: FilePath) -> tuple[Tree, dict[str, Any]]:
  """Reads what `export_params` wrote: (params, metadata).

  Raises:
    ValueError: one sentence, if the file is missing or damaged.
  """
  import safetensors

  try:
    with safetensors.safe_open(path, 'numpy') as file:
      header = file.metadata() or {}
      flat = {k: file.get_tensor(k) for k in file.keys()}
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'{path} is not a readable safetensors file ({error}): fetch it again'
    ) from error
  metadata = {k: json.loads(v) for k, v in header.items()}
  return traverse_util.unflatten_dict(flat, sep='.'), metadata


def check_shapes(params: Tree, like: Tree, where: Any) -> None:
  """Raises ValueError naming the first parameter whose shape differs."""
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='.')
  want: dict[str, Any] = traverse_util.flatten_dict(like, sep='.')
  for name in sorted(set(flat) | set(want)):
    shapes = [np.shape(t[name]) if name in t else None for t in (flat, want)]
    if shapes[0] != shapes[1]:
      raise ValueError(
        f'{where}: parameter {name} has shape {shapes[0]}, but the model'
        f' needs {shapes[1]} (None: absent)'
      )
