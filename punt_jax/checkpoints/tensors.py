"""Weights as files: safetensors, in one file or in shards with an index.

Opening reads the headers. A file is mapped while a tensor of it is read and
not longer, because mapped pages count as memory.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import ml_dtypes  # noqa: F401  numpy knows bfloat16 by name from here on
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from punt_jax.types import ArrayLike, FilePath

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
NAMES = {  # of a type, in numpy and in the file
  'float64': 'F64', 'float32': 'F32', 'float16': 'F16', 'bfloat16': 'BF16',
  'complex64': 'C64',
  'int64': 'I64', 'int32': 'I32', 'int16': 'I16', 'int8': 'I8',
  'uint64': 'U64', 'uint32': 'U32', 'uint16': 'U16', 'uint8': 'U8',
  'bool': 'BOOL',
}
TYPES = {code: name for name, code in NAMES.items()}


class Tensors(NamedTuple):
  """The tensors of a checkpoint; none has been read yet."""

  where: str  # for messages
  shapes: dict[str, tuple[tuple[int, ...], str]]  # and numpy's name of the type
  read: Callable[[str], np.ndarray]


def open_tensors(folder: FilePath) -> Tensors:
  """The tensors of a folder, or of one .safetensors file.

  Host memory is that of the headers, and of one tensor per `read`.

  Raises:
    ValueError: one sentence, if there are no weights, or a file is missing,
      damaged, contradicts the index, or is named outside of the folder.
  """
  folder = pathlib.Path(folder)
  index, shards = folder / INDEX, {}
  files = [file for file in (folder, folder / FILE) if file.is_file()]
  if not files and index.is_file():
    shards = listed(index)
    files = [folder / name for name in sorted(set(shards.values()))]
  if not files:
    raise ValueError(_nothing(folder))
  shapes, places = {}, {}
  for file in files:
    for name, shape in _header(file).items():
      if name in places:
        raise ValueError(
          f'{folder}: tensor {name!r} is both in {places[name].name} and in'
          f' {file.name}'
        )
      shapes[name], places[name] = shape, file
  for name, shard in shards.items():
    if name not in places or places[name].name != shard:
      raise ValueError(
        f'{index} says that tensor {name!r} is in {shard}, where it is not:'
        ' fetch the checkpoint again'
      )

  def read(name):
    with _opened(places[name]) as stored:
      return stored.get_tensor(name)

  return Tensors(str(folder), shapes, read)


def write_tensors(
  folder: FilePath, tensors: Iterable[tuple[str, ArrayLike]],
  shard_bytes: int = 2**31,
) -> int:
  """Writes `model.safetensors`, or shards and their index.

  Files get their names at the end, the last of them the one that makes the
  folder complete. Host memory is one shard.

  Args:
    folder: made if absent.
    tensors: iterable of (name, array).
    shard_bytes: a shard is closed before it would exceed this; a larger
      tensor has a shard to itself.

  Returns:
    bytes of all tensors.

  Raises:
    ValueError: one sentence; the folder holds weights already, or a name
      occurs twice.
  """
  folder = pathlib.Path(folder)
  for name in (FILE, INDEX):
    if (folder / name).exists():
      raise ValueError(f'{folder} holds weights already: use another folder')
  folder.mkdir(parents=True, exist_ok=True)
  parts = []  # (file, names in it)
  total = 0
  try:
    for shard in _shards(tensors, shard_bytes):
      parts.append((folder / f'model-{len(parts) + 1:05d}.part', list(shard)))
      total += _write(parts[-1][0], shard)
      shard.clear()  # before the next one is gathered
  except BaseException:
    for part, _ in parts:
      part.unlink(missing_ok=True)
    raise
  if not parts:
    raise ValueError(f'{folder}: there are no tensors to write')
  if len(parts) == 1:
    parts[0][0].replace(folder / FILE)
    return total
  files = {}
  for i, (part, names) in enumerate(parts, 1):
    shard = f'model-{i:05d}-of-{len(parts):05d}.safetensors'
    files |= dict.fromkeys(names, shard)
    part.replace(folder / shard)
  index = {'metadata': {'total_size': total}, 'weight_map': files}
  part = folder / 'index.part'
  part.write_text(json.dumps(index, indent=1), 'utf-8')
  part.replace(folder / INDEX)
  return total


def _nothing(folder):
  """Why a path without weights is not a checkpoint."""
  if not folder.is_dir():
    return f'there is no file or folder {folder}'
  names = sorted(file.name for file in folder.iterdir())
  said = f'{folder} holds neither {FILE} nor {INDEX}'
  for name in names:
    if name.endswith(('.safetensors', '.part')):
      return f'{said} but {name}: its writing or fetching was not finished'
    if name.endswith(('.bin', '.pt', '.ckpt', '.pth')):
      return f'{said} but {name}: use punt-jax convert'
  return said


def _object(data, where):
  """A JSON object from bytes; no key of it may occur twice."""

  def unique(pairs):
    if len(dict(pairs)) < len(pairs):
      raise ValueError('a name occurs twice')
    return dict(pairs)

  try:
    found = json.loads(data, object_pairs_hook=unique)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{where} is not readable JSON ({error})') from error
  if not isinstance(found, dict):
    raise ValueError(f'{where} is not a JSON object')
  return found


def listed(index: pathlib.Path) -> dict[str, str]:
  """{tensor: file name} of an index; every file lies beside it.

  Raises:
    ValueError: one sentence.
  """
  files = _object(index.read_bytes(), index).get('weight_map')
  if not isinstance(files, dict) or not files:
    raise ValueError(f'{index} has no "weight_map" of tensors to files')
  for name in files.values():
    plain = isinstance(name, str) and not set(name) & set('/\\\0')
    if not plain or name in ('', '.', '..'):
      raise ValueError(
        f'{index} names the file {name!r}: it must lie in the same folder'
      )
  return files


@contextlib.contextmanager
def _opened(path):
  """A safetensors file; what is wrong with it in one sentence."""
  if not path.is_file():
    raise ValueError(f'{path} is missing: fetch the checkpoint again')
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      yield file
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(
      f'{path} is truncated, damaged or no safetensors file ({error}): fetch'
      ' the checkpoint again'
    ) from None


def _header(path):
  """{name: (shape, numpy's name of the type)} of a safetensors file."""
  found = {}
  with _opened(path) as file:
    for name in file.keys():
      try:
        part = file.get_slice(name)
        found[name] = tuple(part.get_shape()), TYPES[part.get_dtype()]
      except (AttributeError, KeyError) as error:
        raise ValueError(
          f'{path}: tensor {name!r} has a type that is not read ({error})'
        ) from None
  return found


def _shards(tensors, shard_bytes):
  """Groups (name, array) into dicts of at most shard_bytes."""
  shard, size, seen = {}, 0, {'__metadata__'}
  for name, array in tensors:
    if name in seen:
      raise ValueError(f'the tensor name {name!r} is taken already')
    seen.add(name)
    array = np.asarray(array, order='C')
    array = array.astype(array.dtype.newbyteorder('<'), copy=False)
    if array.dtype.name not in NAMES:
      raise ValueError(f'tensor {name!r} has type {array.dtype}: cast it first')
    if shard and size + array.nbytes > shard_bytes:
      yield shard
      shard, size = {}, 0
    shard[name] = array
    size += array.nbytes
  if shard:
    yield shard


def _write(path, shard):
  """Writes one file; returns the bytes of its tensors."""
  safetensors_numpy.save_file(shard, path, {'format': 'pt'})
  return sum(array.nbytes for array in shard.values())
