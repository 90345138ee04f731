"""Tensors from the files that torch.save writes, without torch.

Such a file is a pickle, a program that could run anything. Three fences:

1. `_harmless` reads it with Python's pickletools, which executes nothing. It
   refuses or replaces all instructions that tensors do not need, and ends at
   a length beyond the file or a memo that is larger than the pickle.
2. `_Unpickler`, Python's own, finds no name but those listed below, and makes
   of these only objects of this file, which have no powers.
3. Its dicts become lists of pairs: no key is hashed, as that may take ages or
   overflow C's stack.

Two layouts: a zip archive, and before torch 1.6 pickles in a row with the
tensors' bytes behind them.
"""

import io
import math
import mmap
import pathlib
import pickle
import pickletools
import struct
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from punt_jax import files
from punt_jax.types import FilePath

STORAGES = {  # torch's name -> type of its elements
  'torch.DoubleStorage': np.dtype('<f8'),
  'torch.FloatStorage': np.dtype('<f4'),
  'torch.HalfStorage': np.dtype('<f2'),
  'torch.BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'torch.LongStorage': np.dtype('<i8'),
  'torch.IntStorage': np.dtype('<i4'),
  'torch.ShortStorage': np.dtype('<i2'),
  'torch.CharStorage': np.dtype('i1'),
  'torch.ByteStorage': np.dtype('u1'),
  'torch.BoolStorage': np.dtype('?'),
  'torch.ComplexFloatStorage': np.dtype('<c8'),
  'torch.ComplexDoubleStorage': np.dtype('<c16'),
}
UTILS = 'torch._utils._rebuild_'
BUILDERS = {
  'collections.OrderedDict', UTILS + 'parameter', UTILS + 'tensor',
  UTILS + 'tensor_v2',
}
DROPPED = {  # what may be there and is left out, with all that it holds
  'argparse.Namespace', 'builtins.set', '__builtin__.set',
  'collections.Counter', 'collections.defaultdict', 'pathlib.PosixPath',
  'numpy.dtype', 'numpy.core.multiarray.scalar',
  'numpy._core.multiarray.scalar', '_codecs.encode', 'torch.Size',
  'torch.device',
  *(f'torch.{kind}{bits}' for kind in ('int', 'uint', 'float')
    for bits in (8, 16, 32, 64)),
  'torch.bfloat16', 'torch.bool',
}
NAMES = BUILDERS | DROPPED | set(STORAGES)
PLAIN = frozenset((  # instructions that are followed as they stand
  'PROTO MARK STOP POP POP_MARK NONE NEWTRUE NEWFALSE'
  ' INT BININT BININT1 BININT2 LONG LONG1 BINFLOAT'
  ' BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8'
  ' BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8'
  ' EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS'
  ' SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET'
  ' GLOBAL STACK_GLOBAL REDUCE BINPERSID'
).split())
REPLACED = {  # instruction -> what is followed instead
  'FRAME': b'',
  'EMPTY_DICT': b'ccollections\nOrderedDict\n)R',
  'EMPTY_SET': pickle.EMPTY_LIST,
  'ADDITEMS': pickle.APPENDS,
  'FROZENSET': pickle.TUPLE,
  'NEWOBJ': pickle.REDUCE,
  'BUILD': pickle.POP,  # an object's state: of no use here
}
STEPS = 5_000_000  # instructions of a pickle
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old layout
VERSION = 1001  # the second
VALUES = 300_000  # entries of its dicts
LETTERS = 1000  # of a tensor's name
SHARED = 8  # most elements of all tensors, per byte of the file


class _Name(NamedTuple):
  """A listed name; never what it stands for."""

  full: str

  def __call__(self, *arguments):
    """What a call of it makes."""
    if self.full == 'collections.OrderedDict' and not arguments:
      return _Dict([])
    if self.full == UTILS + 'parameter' and arguments:
      return arguments[0]
    if self.full in (UTILS + 'tensor', UTILS + 'tensor_v2'):
      storage, offset, shape, strides = arguments[:4]
      if type(storage) is not _Storage or len(shape) != len(strides):
        raise ValueError('it has a tensor without a storage')
      offset = _counts((offset,))[0]
      return _Tensor(storage, offset, _counts(shape), _counts(strides))
    if self.full in DROPPED:
      return _Other()
    raise ValueError(f'it calls {self.full} in an unknown way')


class _Other:
  """Any value that is left out."""

  __slots__ = ()

  def __setitem__(self, key, value):
    """Leaves it out, too."""


class _Dict(NamedTuple):
  """The pairs of a dict, in the order in which they were put there."""

  pairs: list

  def __setitem__(self, key, value):
    self.pairs.append((key, value))


class _Storage(NamedTuple):
  """A run of elements in the file."""

  key: str
  dtype: np.dtype
  first: int  # element that is its element 0


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides count elements."""

  storage: _Storage
  offset: int
  shape: tuple
  strides: tuple


def read_torch(path: FilePath) -> dict[str, np.ndarray]:
  """The tensors of a file of torch.save.

  Returns:
    {name: read-only np.ndarray}. Dicts in dicts are joined with '.', what is
    no tensor is left out. The arrays are views of the mapped file.

  Raises:
    ValueError: one sentence, if the file is missing, damaged or of another
      kind, or if its pickle asks for anything but tensors.
  """
  path = pathlib.Path(path)
  if not files.size(path):
    raise ValueError(f'there is no file {path}, or it is empty')
  try:
    with path.open('rb') as file:
      data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  except OSError as error:
    raise ValueError(f'{path} cannot be read: {error.strerror}') from None
  try:
    reader = _from_zip if data[:4] == b'PK\x03\x04' else _from_row
    value, runs = reader(data)
    tensors = _flat(value)
    # Views may repeat elements: written out they could fill any disk.
    size = sum(math.prod(x.shape) for x in tensors.values())
    if size > SHARED * len(data):
      raise ValueError(f'its tensors have {size} elements, which is too many')
    return {name: _array(name, x, runs) for name, x in tensors.items()}
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _from_zip(data):
  """(value, {key: uint8 array}) of a zip archive."""
  found = {}
  try:
    with zipfile.ZipFile(data) as archive:
      entries = archive.infolist()
  except (ValueError, zipfile.BadZipFile, RuntimeError, struct.error) as error:
    raise ValueError(
      f'truncated, or no zip archive of torch.save ({error})'
    ) from error
  for info in entries:
    head = data[info.header_offset : info.header_offset + 30]
    sizes = [int.from_bytes(head[i : i + 2], 'little') for i in (26, 28)]
    start = info.header_offset + 30 + sum(sizes)
    plain = info.compress_type == 0 and info.file_size == info.compress_size
    if not plain or info.flag_bits & 1:
      raise ValueError(f'{info.filename[:80]!r} is compressed or encrypted')
    if head[:4] != b'PK\x03\x04' or start + info.file_size > len(data):
      raise ValueError(f'{info.filename[:80]!r} reaches beyond the file')
    name = info.filename.partition('/')[2]  # the first folder is any
    found[name] = (start, info.file_size)
  if 'data.pkl' not in found or 'constants.pkl' in found:
    raise ValueError('a zip archive, but not one that torch.save writes')
  content = lambda name: slice(found[name][0], sum(found[name]))
  if 'byteorder' in found and data[content('byteorder')] != b'little':
    raise ValueError('its numbers are not little-endian')
  data.seek(found['data.pkl'][0])
  value, _ = _load(data)
  runs = {
    name.removeprefix('data/'): np.frombuffer(data, np.uint8, size, start)
    for name, (start, size) in found.items() if name.startswith('data/')
  }
  return value, runs


def _from_row(data):
  """(value, {key: uint8 array}) of the layout before torch 1.6."""
  try:
    magic, _ = _load(data)
  except ValueError:
    magic = None
  if magic != MAGIC or type(magic) is not int:
    raise ValueError('not a file of torch.save')
  (version, _), (system, _) = _load(data), _load(data)
  if version != VERSION or not isinstance(system, _Dict):
    raise ValueError('an unknown version of torch.save')
  if not any(k == 'little_endian' and v is True for k, v in system.pairs):
    raise ValueError('its numbers are not little-endian')
  (value, storages), (keys, _) = _load(data), _load(data)
  known, runs = {}, {}
  for storage in storages:
    if known.setdefault(storage.key, storage.dtype) != storage.dtype:
      raise ValueError(f'storage {storage.key[:80]!r} has two types')
  if not isinstance(keys, list):
    raise ValueError('it has no list of storages')
  for key in keys:
    if not isinstance(key, str) or key in runs or key not in known:
      raise ValueError('its list of storages makes no sense')
    size = int.from_bytes(data.read(8), 'little') * known[key].itemsize
    if size > len(data) - data.tell():
      raise ValueError(f'truncated or damaged: storage {key[:80]!r} is not all')
    runs[key] = np.frombuffer(data, np.uint8, size, data.tell())
    data.seek(size, 1)
  return value, runs


def _load(data):
  """(value, [_Storage]) of the pickle at which `data` stands.

  Time and memory are proportional to the bytes of the pickle.

  Args:
    data: a mmap; it is left behind the pickle.

  Raises:
    ValueError: one sentence.
  """
  try:
    unpickler = _Unpickler(io.BytesIO(_harmless(data)), encoding='latin-1')
    unpickler.storages = []
    return unpickler.load(), unpickler.storages
  except Exception as error:  # Python names no end of what may be raised
    raise ValueError(f'its pickle cannot be read: {error}') from error


def _harmless(data: Any):
  """The bytes of a pickle, with no instruction but those of PLAIN."""
  made = bytearray()
  for step, (code, arg, start) in enumerate(pickletools.genops(data)):
    if code.name not in PLAIN and code.name not in REPLACED:
      raise ValueError(f'its instruction {code.name} is refused here')
    if step >= STEPS:
      raise ValueError(f'it has more than {STEPS} instructions')
    if code.name == 'LONG_BINPUT' and (arg or 0) > step:
      raise ValueError(f'it has no {arg} values to remember')
    plain = data[start : data.tell()]
    made += REPLACED[code.name] if code.name in REPLACED else plain
  return made


class _Unpickler(pickle.Unpickler):
  """Follows a harmless pickle; notes the storages."""

  storages: list[_Storage]

  def find_class(self, module, name):
    full = f'{module}.{name}'
    if full not in NAMES:
      raise ValueError(
        f'it asks for {full[:80]!r}, which is no part of a tensor, and was not'
        ' executed; if you trust the file, load it with torch and save its'
        ' state_dict alone'
      )
    return _Name(full)

  def persistent_load(self, pid):
    pid = list(pid) if type(pid) is tuple else []
    if len(pid) not in (5, 6) or pid[0] != 'storage' or type(pid[2]) is not str:
      raise ValueError('it refers to something that is no storage')
    kind = pid[1].full if type(pid[1]) is _Name else None
    if kind not in STORAGES:
      raise ValueError(f'it has a storage of the kind {kind}')
    view = pid[5] if len(pid) == 6 else None  # (key, first element, elements)
    first = 0 if view is None else _counts(view[1:2])[0]
    self.storages.append(_Storage(pid[2], STORAGES[kind], first))
    return self.storages[-1]


def _counts(values):
  """A tuple of numbers >= 0, or a ValueError."""
  if not isinstance(values, (tuple, list)) or len(values) > 32 or not all(
    type(n) is int and 0 <= n < 2**62 for n in values
  ):
    raise ValueError('a tensor has an impossible shape, offset or stride')
  return tuple(values)


def _flat(value):
  """{name: _Tensor} of dicts in dicts."""
  if not isinstance(value, _Dict):
    raise ValueError('it holds no dict of tensors')
  found, left, seen = {}, [('', value)], 0
  while left:
    prefix, node = left.pop()
    for key, x in node.pairs:
      seen += 1
      if not isinstance(key, (str, int)):
        continue
      name = f'{prefix}{key}'
      if seen > VALUES or len(name) > LETTERS:
        raise ValueError('its dicts are too many, too deep or in a circle')
      if isinstance(x, _Dict):
        left.append((name + '.', x))
      elif isinstance(x, _Tensor):
        if name in found:
          raise ValueError(f'two tensors are called {name!r}')
        found[name] = x
  if not found:
    raise ValueError('it holds no tensor')
  return dict(sorted(found.items()))


def _array(name, tensor, runs):
  """The array that a _Tensor describes."""
  key, dtype = tensor.storage.key, tensor.storage.dtype
  if key not in runs:
    raise ValueError(f'the storage {key[:80]!r} of tensor {name!r} is absent')
  run = runs[key]
  first = tensor.storage.first + tensor.offset
  whole = run[: run.size // dtype.itemsize * dtype.itemsize].view(dtype)
  axes = list(zip(tensor.shape, tensor.strides, strict=True))
  if 0 in tensor.shape:
    return np.zeros(tensor.shape, dtype)
  if first + sum((n - 1) * s for n, s in axes) >= whole.size:
    raise ValueError(f'tensor {name!r} reaches beyond its storage')
  view = np.lib.stride_tricks.as_strided(
    whole[first:], tensor.shape,
    # The stride of an axis of one element is not used, and may be anything.
    [s * dtype.itemsize * (n > 1) for n, s in axes], writeable=False,
  )
  return np.require(view, requirements='A')
