"""Weights as files: safetensors, in one file or in shards with an index.

Opening reads the headers. A file is mapped while a few tensors of it are read
and not longer, because mapped pages count as memory.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  numpy knows bfloat16 by name from here on
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from punt_jax import files, jsonl
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
WEIGHTS = 'float64', 'float32', 'float16', 'bfloat16'
MOST = 2**26  # bytes of a header or an index
KEPT = 2**24  # bytes that are read of a file before it is mapped anew


class Tensors(NamedTuple):
  """The tensors of a checkpoint; none has been read yet."""

  where: str  # for messages
  shapes: dict[str, tuple[tuple[int, ...], str]]  # and numpy's name of the type
  read: Callable[[str], np.ndarray]
  metadata: dict[str, str] = {}  # of the header, if it is one file


def open_tensors(folder: FilePath) -> Tensors:
  """The tensors of a folder, or of one .safetensors file.

  Host memory is that of the headers, and of one tensor per `read`.

  Raises:
    ValueError: one sentence, if there are no weights, or a file is missing,
      damaged, contradicts the index, or is named outside of the folder.
  """
  folder = pathlib.Path(folder)
  index, shards, metadata = folder / INDEX, {}, {}
  found = [folder / FILE if folder.is_dir() else folder]
  if files.size(found[0]) is None:
    if files.size(index) is None:
      raise ValueError(_nothing(folder))
    shards = listed(index)
    found = sorted({folder / name for name in shards.values()})
  shapes, places = {}, {}
  for file in found:
    header, metadata = _header(file)
    for name, shape in header.items():
      if name in places:
        raise ValueError(
          f'{folder}: tensor {name!r:.80} is both in {places[name].name} and in'
          f' {file.name}'
        )
      shapes[name], places[name] = shape, file
  for name, shard in shards.items():
    if places.get(name) != folder / shard:
      raise ValueError(
        f'{index} says that tensor {name!r:.80} is in {shard:.80}, where it is'
        ' not: fetch the checkpoint again'
      )
  metadata = metadata if len(found) == 1 else {}
  return Tensors(str(folder), shapes, _reader(places), metadata)


def _reader(places):
  """Reads a tensor by its name, from {name: file}.

  Mapping a file anew reads its header: that of a thousand experts takes longer
  than one of them.
  """
  held, left = None, 0
  file: Any = None

  def read(name):
    nonlocal held, file, left
    path = places[name]
    now = path, files.size(path)
    if now != held or left <= 0:
      held = file = None
      with _guarded(path):
        file = safetensors.safe_open(path, 'numpy')
      held, left = now, KEPT
    with _guarded(path):
      tensor = file.get_tensor(name)
    left -= tensor.nbytes
    return tensor

  return read


def weight(stored: Tensors, name: str) -> np.ndarray:
  """A tensor of floating-point numbers; float64 becomes float32.

  Raises:
    ValueError: one sentence, if it holds another kind.
  """
  kind = stored.shapes[name][1]
  if kind not in WEIGHTS:
    raise ValueError(
      f'{stored.where}: the tensor {name:.80} holds {kind}, and weights are'
      f' {", ".join(WEIGHTS)}: fetch them unquantized'
    )
  tensor = stored.read(name)
  if kind == 'float64':
    with np.errstate(over='ignore'):
      tensor = tensor.astype('float32')
  return tensor


def not_finite(stored: Tensors, name: str) -> ValueError:
  """What to raise for a tensor with NaN or infinity."""
  return ValueError(
    f'{stored.where}: the tensor {name:.80} holds NaN or infinity: fetch the'
    ' checkpoint again'
  )


def write_tensors(
  folder: FilePath, tensors: Iterable[tuple[str, ArrayLike]],
  shard_bytes: int = 2**31,
) -> int:
  """Writes `model.safetensors`, or shards and their index.

  Files are synced and get their names at the end, the last of them the one that
  makes the folder complete. Host memory is one shard.

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
  vacant(folder)
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
  places = {}
  for i, (part, names) in enumerate(parts, 1):
    shard = f'model-{i:05d}-of-{len(parts):05d}.safetensors'
    places |= dict.fromkeys(names, shard)
    part.replace(folder / shard)
  index = {'metadata': {'total_size': total}, 'weight_map': places}
  files.write(folder / INDEX, json.dumps(index, indent=1))
  return total


def vacant(folder: FilePath) -> None:
  """Refuses a folder that holds weights, in a ValueError."""
  for name in (FILE, INDEX):
    if os.path.lexists(pathlib.Path(folder, name)):
      raise ValueError(f'{folder} holds weights already: use another folder')


def _nothing(folder):
  """Why a path without weights is not a checkpoint."""
  if not folder.is_dir():
    return f'there is no file or folder {folder}'
  names = sorted(os.listdir(folder))
  said = f'{folder} holds neither {FILE} nor {INDEX}'
  for name in names:
    if name.endswith(('.safetensors', '.part')):
      return f'{said} but {name}: its writing or fetching was not finished'
    if name.endswith(('.bin', '.pt', '.ckpt', '.pth')):
      return (
        f'{said} but {name}: use punt-jax convert --source={folder / name}'
        ' --out=NEW, and copy config.json and the tokenizer to NEW'
      )
  return said


def listed(index: pathlib.Path) -> dict[str, str]:
  """{tensor: file name} of an index; every file lies in its folder.

  Raises:
    ValueError: one sentence.
  """
  try:
    found = jsonl.decode(files.read(index, MOST), once=True)
  except ValueError as error:
    said = str(error).removeprefix(f'{index} ')
    raise ValueError(f'{index} is not readable JSON: {said}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{index} is not a JSON object')
  shards = found.get('weight_map')
  if not isinstance(shards, dict) or not shards:
    raise ValueError(f'{index} has no "weight_map" of tensors to files')
  for name in shards.values():
    plain = isinstance(name, str) and not set(name) & set('\\\0')
    if not plain or not name or name[0] == '/' or '..' in name.split('/'):
      raise ValueError(
        f'{index} names the file {name!r:.80}: it must lie in the same folder'
      )
  return shards


@contextlib.contextmanager
def _guarded(path):
  """Says what is wrong with a safetensors file in one sentence."""
  if files.size(path) is None:
    raise ValueError(f'{path} is missing: fetch the checkpoint again')
  try:
    yield
  except (safetensors.SafetensorError, OSError) as error:
    raise _damaged(path, error) from None


def _damaged(path, error):
  said = ' '.join(str(error).split())[:200]
  return ValueError(
    f'{path} is not a readable safetensors file: it is truncated, damaged or no'
    f' safetensors file at all ({said}); fetch it again'
  )


def _header(path):
  """({name: (shape, numpy's name of the type)}, metadata) of a file."""
  found = {}
  if files.size(path):
    try:
      with open(path, 'rb') as stream:
        size = int.from_bytes(stream.read(8), 'little')
        data = stream.read(size) if size <= MOST else b''
    except OSError as error:
      raise ValueError(f'{path} cannot be read: {error.strerror}') from None
    if size > MOST:
      raise _damaged(path, f'its header has {size} bytes')
  with _guarded(path), safetensors.safe_open(path, 'numpy') as file:
    # Its size, offsets and types are right, then.
    metadata = file.metadata() or {}
    for name in file.keys():
      try:
        part = file.get_slice(name)
        found[name] = tuple(part.get_shape()), TYPES[part.get_dtype()]
      except (AttributeError, KeyError) as error:
        raise ValueError(
          f'{path}: tensor {name!r:.80} has a type that is not read ({error})'
        ) from None
  try:  # the package takes the last of two entries with one name
    json.loads(data, object_pairs_hook=_once)
  except ValueError as error:
    raise _damaged(path, error) from None
  return found, metadata


def _once(pairs):
  """Refuses an object with a name twice; keeps nothing of it."""
  names = set()
  for name, _ in pairs:
    if name in names:
      raise ValueError(f'the name {name!r:.80} occurs twice')
    names.add(name)


def _shards(tensors, shard_bytes):
  """Groups (name, array) into dicts of at most shard_bytes."""
  shard, size, seen = {}, 0, {'__metadata__'}
  for name, array in tensors:
    if name in seen:
      raise ValueError(f'the tensor name {name!r:.80} is taken already')
    seen.add(name)
    array = np.asarray(array, order='C')
    array = array.astype(array.dtype.newbyteorder('<'), copy=False)
    if array.dtype.name not in NAMES:
      raise ValueError(
        f'tensor {name!r:.80} has type {array.dtype}: cast it first'
      )
    if shard and size + array.nbytes > shard_bytes:
      yield shard
      shard, size = {}, 0
    shard[name] = array
    size += array.nbytes
  if shard:
    yield shard


def _write(path, shard):
  """Writes one file; returns the bytes of its tensors."""
  path.touch()
  mode = path.stat().st_mode
  safetensors_numpy.save_file(shard, path, {'format': 'pt'})
  path.chmod(mode)  # the package lets nobody else read it
  files.sync(path)
  return sum(array.nbytes for array in shard.values())
