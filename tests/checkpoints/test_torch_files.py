"""Files of torch.save: what is read, and what hostile ones come to."""

import argparse
import collections
import copyreg
import io
import os
import struct
import time
import zipfile

import numpy as np
import pytest

from punt_jax.checkpoints import tensors, torch_files
from punt_jax.cli import convert

START, END = b'\x80\x02', b'.'
NUMBERS = np.arange(6, dtype='<f4')  # the storage '0' of every file below


def dumps(value, protocol=2):
  import pickle

  return pickle.dumps(value, protocol)


def literal(value):
  return dumps(value)[2:-1]


def name(module, attribute):
  return f'c{module}\n{attribute}\n'.encode()


def tuple_of(*parts):
  return b'(' + b''.join(parts) + b't'


def called(function, *arguments):
  return function + tuple_of(*arguments) + b'R'


def dict_of(**values):
  pairs = b''.join(literal(key) + value for key, value in values.items())
  return b'}(' + pairs + b'u'


def storage(key='0', kind='FloatStorage', count=6, *more):
  return tuple_of(
    literal('storage'), name('torch', kind), literal(key), literal('cpu'),
    literal(count), *more,
  ) + b'Q'


def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None):
  return called(
    name('torch._utils', '_rebuild_tensor_v2'), of or storage(),
    literal(offset), literal(shape), literal(strides), literal(False),
    called(name('collections', 'OrderedDict')),
  )


def program(body):
  return START + body + END


def zipped(path, pickle, data=None, method=zipfile.ZIP_STORED):
  data = NUMBERS.tobytes() if data is None else data
  with zipfile.ZipFile(path, 'w', method) as archive:
    archive.writestr('any/data.pkl', pickle)
    archive.writestr('any/byteorder', b'little')
    archive.writestr('any/data/0', data)
  return path


def in_a_row(path, pickle, little=True, version=1001, keys=('0',), count=6):
  path.write_bytes(
    dumps(torch_files.MAGIC) + dumps(version) + dumps({'little_endian': little})
    + pickle + dumps(list(keys)) + struct.pack('<q', count)
    + NUMBERS.tobytes()
  )
  return path


@pytest.mark.parametrize('write', [zipped, in_a_row])
def test_views_of_a_storage(tmp_path, write):
  parameter = called(
    name('torch._utils', '_rebuild_parameter'), tensor((3,), (2,), 1),
    literal(True), called(name('collections', 'OrderedDict')),
  )
  model = dict_of(
    whole=tensor(), turned=tensor((3, 2), (1, 3)), odd=parameter,
    number=tensor((), (), 4), none=tensor((0, 9), (9, 1)), note=literal('text'),
    same=tensor((1, 6), (2**61, 1)),
  )
  options = called(name('argparse', 'Namespace')) + literal({'lr': 1}) + b'b'
  body = dict_of(model=model, args=options, step=literal(3))
  found = torch_files.read_torch(write(tmp_path / 'file', program(body)))
  grid = NUMBERS.reshape(2, 3)
  expected = {
    'model.whole': grid, 'model.turned': grid.T, 'model.odd': NUMBERS[1::2],
    'model.number': NUMBERS[4], 'model.none': np.zeros((0, 9)),
    'model.same': NUMBERS[None],
  }
  assert set(found) == set(expected)
  for key, array in expected.items():
    np.testing.assert_array_equal(found[key], array)
    assert found[key].dtype == np.float32


def test_a_view_of_an_old_storage(tmp_path):
  view = storage(
    '0', 'FloatStorage', 6, tuple_of(literal('1'), literal(2), literal(4))
  )
  body = dict_of(x=tensor((2,), (1,), 1, view))
  file = in_a_row(tmp_path / 'file', program(body))
  np.testing.assert_array_equal(torch_files.read_torch(file)['x'], [3, 4])


def test_text_of_python_2(tmp_path):
  count = storage('0', 'FloatStorage', 6).replace(literal(6), b'I6\n')
  body = b'}' + b'U\x01\xe9' + tensor(of=count) + b's'
  found = torch_files.read_torch(zipped(tmp_path / 'file', program(body)))
  np.testing.assert_array_equal(found['\xe9'], NUMBERS.reshape(2, 3))


@pytest.mark.parametrize('protocol', range(2, 6))
def test_what_is_no_tensor_is_left_out(tmp_path, protocol):
  value = {
    'plain': [True, None, 1.5, -(2**40), b'bytes', ('a', ('b',))],
    'sets': [{1, 2}, set()], 'counts': collections.Counter('aab'),
    'options': argparse.Namespace(lr=0.1, betas=[0.9, 0.99]),
    'default': collections.defaultdict(None, a=1),
    'keys': {None: 1, 1.5: 2, (1, (2, 3)): 4, b'b': 5},
  }
  newer = {4: frozenset('ab'), 5: bytearray(b'bytes')}
  value |= {since: x for since, x in newer.items() if since <= protocol}
  body = dumps(value, protocol)[:-1] + literal('x') + tensor() + b's.'
  found = torch_files.read_torch(zipped(tmp_path / 'file', body))
  assert list(found) == ['x']


def laugh(inner):
  """20 dicts, each twice in the next."""
  for i in range(20):
    mark = b'q' + bytes([100 + i])
    inner = b'}(' + literal('a') + inner + mark + literal('b') + b'h' + (
      bytes([100 + i]) + b'u'
    )
  return inner


def dict_of_keys(*keys):
  return b'}' + b''.join(key + literal(1) + b's' for key in keys)


def many_ids():
  """{name: persistent id that is none of a storage}."""
  parts = [
    literal('storage'), name('torch', 'FloatStorage'), literal('0'),
    literal('cpu'), literal(6),
  ]
  ids = {
    'none': b'N', 'text': literal('storage'), 'empty': b')',
    'list': b'](' + b''.join(parts) + b'e', 'short': tuple_of(*parts[:4]),
    'long': tuple_of(*parts, b'N', b'N'),
    'number as key': tuple_of(*parts[:2], literal(0), *parts[3:]),
    'nested': tuple_of(tuple_of(*parts)), 'dict': dict_of(a=literal(1)),
    'twice': tuple_of(*parts) + b'Q',
  }
  return {f'id {key}': (x + b'Q', 'no storage') for key, x in ids.items()}


def touching(canary):
  """{name: (pickle that would touch `canary`, what the refusal says)}."""
  shell = literal(f'touch {canary}')
  code = literal(f'open({str(canary)!r}, "w")')
  both = lambda module, attribute: literal(module) + literal(attribute)
  system = name('os', 'system')
  return {
    'os.system': (called(system, shell), "'os.system'"),
    'posix.system': (called(name('posix', 'system'), shell), 'posix'),
    'eval': (called(name('builtins', 'eval'), code), "'builtins.eval'"),
    'python2 eval': (called(name('__builtin__', 'eval'), code), 'eval'),
    'exec by its parts': (
      called(both('builtins', 'exec') + b'\x93', code), "'builtins.exec'",
    ),
    'getattr': (
      called(name('builtins', 'getattr'), name('os', 'system')), 'getattr',
    ),
    'torch.load': (called(name('torch', 'load'), code), "'torch.load'"),
    'dotted': (
      both('torch._utils', '_rebuild_tensor_v2.__globals__') + b'\x93',
      '__globals__',
    ),
    'dotted module': (
      both('collections.OrderedDict', '__init__') + b'\x93', '__init__',
    ),
    'walk': (
      b'\x80\x04' + both('argparse', 'Namespace.__init__.__globals__')
      + b'\x93', "'argparse.Namespace.__init__.__globals__'",
    ),
    'walk to os.system': (
      b'\x80\x04' + called(both('argparse', '_os.system') + b'\x93', shell),
      "'argparse._os.system'",
    ),
    'reconstructor': (
      called(name('copyreg', '_reconstructor'), name('argparse', 'Namespace'),
             name('builtins', 'object'), b'N'),
      "'copyreg._reconstructor'",
    ),
    'no string': (literal(1) + literal('system') + b'\x93', 'requires str'),
    'name as a name': (
      name('torch', 'Size') + literal('system') + b'\x93', 'requires str',
    ),
    'subprocess': (b'\x80\x04' + called(name('subprocess', 'Popen'), shell),
                   'subprocess.Popen'),
    'newobj': (system + tuple_of(shell) + b'\x81', "'os.system'"),
    'inst': (b'(' + shell + b'ios\nsystem\n', 'INST is refused'),
    'obj': (b'(' + name('argparse', 'Namespace') + shell + b'o',
            'OBJ is refused'),
    'extension': (b'\x82\x01' + tuple_of(shell) + b'R', 'EXT1 is refused'),
    'call of a call': (
      called(called(name('argparse', 'Namespace')), shell), 'not callable',
    ),
    'call of a string': (called(literal('os.system'), shell), 'not callable'),
    'text persistent id': (b'Pos.system\n', 'PERSID is refused'),
    'buffer': (b'\x97', 'NEXT_BUFFER is refused'),
    'module id': (
      tuple_of(literal('module'), literal('os'), shell, code, code) + b'Q',
      'no storage',
    ),
    'storage by string': (
      tuple_of(literal('storage'), literal('os.system'), literal('0'),
               literal('cpu'), literal(6)) + b'Q',
      'of the kind None',
    ),
    'name as id': (
      tuple_of(literal('storage'), name('torch', 'Size'), literal('0'),
               literal('cpu'), literal(6)) + b'Q',
      'of the kind torch.Size',
    ),
    'keywords': (
      name('argparse', 'Namespace') + b')' + dict_of(a=shell) + b'\x92',
      'NEWOBJ_EX is refused',
    ),
    'call with no tuple': (
      name('argparse', 'Namespace') + literal([1]) + b'R', 'tuple',
    ),
    'state of a name': (
      # As if 'torch.Size' could be told to be another name.
      b'(' + name('torch', 'Size') + b'q\xf0' + tuple_of(
        b'N', dict_of(full=literal('os.system'), __call__=system)
      ) + b'b' + called(b'h\xf0', shell) + b't', "'os.system'",
    ),
  }


HOSTILE = {
  'beyond its storage': (dict_of(x=tensor((7,), (1,))), 'reaches beyond'),
  'beyond by a stride': (dict_of(x=tensor((2, 3), (4, 1))), 'reaches beyond'),
  'beyond by an offset': (dict_of(x=tensor((1,), (1,), 6)), 'reaches beyond'),
  'wide type': (
    dict_of(x=tensor((4,), (1,), 0, storage('0', 'DoubleStorage'))), 'beyond',
  ),
  'negative stride': (dict_of(x=tensor((2,), (-1,), 1)), 'impossible'),
  'negative size': (dict_of(x=tensor((-2,), (1,))), 'impossible'),
  'negative offset': (dict_of(x=tensor((2,), (1,), -1)), 'impossible'),
  'size 2**70': (dict_of(x=tensor((2**70,), (0,))), 'impossible'),
  'no number': (dict_of(x=tensor(('a',), (1,))), 'impossible'),
  '100 axes': (dict_of(x=tensor((1,) * 100, (1,) * 100)), 'impossible'),
  'repeated 2**40 times': (dict_of(x=tensor((2**40,), (0,))), 'too many'),
  'shape without strides': (dict_of(x=tensor((2, 3), (1,))), 'storage'),
  'none of a huge many': (
    dict_of(x=tensor((0, 2**61, 2**61), (1, 1, 1))), 'too big|maximum',
  ),
  'no such storage': (dict_of(x=tensor(of=storage('1'))), 'is absent'),
  'path as a key': (
    dict_of(x=tensor(of=storage('../../etc/passwd'))), 'is absent',
  ),
  'unknown kind': (
    dict_of(x=tensor(of=storage('0', 'Size'))), 'of the kind torch.Size',
  ),
  'in a circle': (b'}q\x05(' + literal('a') + b'h\x05u', 'in a circle'),
  'laughs': (dict_of(x=laugh(tensor())), 'too many, too deep'),
  'hash bomb': (  # 2 ** 40 steps to hash
    dict_of_keys(b')q\xf0' + b'h\xf0\x86q\xf0' * 40), 'no tensor',
  ),
  'hash bomb of copies': (
    dict_of_keys(b')' + b'2\x86' * 40), 'DUP is refused',
  ),
  'hash bomb in a set': (
    b'\x8f(' + b')q\xf0' + b'h\xf0\x86q\xf0' * 40 + b'\x90', 'no dict',
  ),
  'hash bomb in a frozenset': (
    b'()q\xf0' + b'h\xf0\x86q\xf0' * 40 + b'\x91', 'no dict',
  ),
  'deep key': (dict_of_keys(b')' + b'\x85' * 200_000), 'no tensor'),
  'deep dicts': (
    (b'}' + literal('a')) * 20_000 + literal(1) + b's' * 20_000, 'too deep',
  ),
  'keys of one hash': (
    dict_of_keys(*(literal(i * (2**61 - 1)) for i in range(30_000))),
    'no tensor',
  ),
  'key of a surrogate': (
    dict_of(**{'\ud800': tensor((7,), (1,))}), r"'\\ud800' reaches beyond",
  ),
  'dict of pairs': (b'(' + literal('x') + tensor() + b'd', 'DICT is refused'),
  'no dict': (tensor(), 'no dict'),
  'no tensors': (dict_of(a=literal(1)), 'no tensor'),
  'one name twice': (
    b'}(' + literal('a.b') + tensor() + literal('a') + dict_of(b=tensor())
    + b'u', 'two tensors',
  ),
  'one key twice': (
    b'}(' + (literal('a') + tensor()) * 2 + b'u', 'two tensors',
  ),
  'memo at 2**32': (b']r\xff\xff\xff\xff', 'no 4294967295 values'),
  'string of 2**40 bytes': (b'\x8e' + struct.pack('<Q', 2**40), 'only'),
  'number of 2**31 bytes': (b'\x8b' + struct.pack('<i', 2**31 - 1), 'long4'),
  'number of 300 bytes': (
    dict_of_keys(literal(2**2400)), 'LONG4 is refused',
  ),
  'frame of 2**62 bytes': (b'\x95' + struct.pack('<Q', 2**62), 'underflow'),
  'digits': (b'L' + b'9' * 10_000 + b'L\n', 'limit'),
  'nothing to take': (b'R', 'underflow'),
  'mark that is not there': (b'u', 'MARK'),
  'forgotten value': (b'h\x63', 'not found at index 99'),
  'odd pairs': (b'}(' + literal('a') + b'u', 'odd number'),
  'unknown instruction': (b'\xff', 'unknown'),
  'pair in a tensor': (
    tensor() + literal('a') + tensor() + b's', 'item assignment',
  ),
  'item in a dict': (b'}' + tensor() + b'a', 'append'),
  'view of no storage': (
    dict_of(x=tensor(of=storage('0', 'FloatStorage', 6, literal(5)))),
    'subscriptable',
  ),
  'view of nothing': (
    dict_of(x=tensor(of=storage('0', 'FloatStorage', 6, b')'))), 'range',
  ),
  'view before its storage': (
    dict_of(x=tensor(of=storage(
      '0', 'FloatStorage', 6, tuple_of(literal('1'), literal(-1), literal(4))
    ))), 'impossible',
  ),
  'half a tensor': (
    called(name('torch._utils', '_rebuild_tensor_v2'), storage()), 'unpack',
  ),
  'dict with a distribution': (
    called(name('collections', 'OrderedDict'), literal([['a', 1]])), 'unknown',
  ),
} | many_ids()


def refused(path, said):
  start = time.time()
  with pytest.raises(ValueError, match=said) as error:
    torch_files.read_torch(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)
  assert time.time() - start < 5


@pytest.mark.parametrize('write', [zipped, in_a_row])
@pytest.mark.parametrize('case', touching('x'))
def test_nothing_is_executed(tmp_path, write, case):
  canary = tmp_path / 'canary'
  body, said = touching(canary)[case]
  body = dict_of(good=tensor(), bad=body)
  refused(write(tmp_path / 'file', program(body)), said)
  assert not canary.exists()


def test_the_canary_sings(tmp_path):
  """The pickles above are real: Python's own reader runs them."""
  import pickle

  canary = tmp_path / 'canary'
  pickle.loads(program(touching(canary)['os.system'][0]))
  assert canary.exists()


def test_states_are_dropped(tmp_path):
  state = dict_of(__setstate__=literal('x'), __class__=tensor())
  body = called(name('collections', 'OrderedDict')) + state + b'b'
  slots = tuple_of(b'N', dict_of(full=literal('os.system'))) + b'b'
  body = dict_of(
    a=body, b=tensor() + state + b'b', c=name('torch', 'Size') + slots,
    d=storage() + slots, e=b'}' + slots,
  )
  found = torch_files.read_torch(zipped(tmp_path / 'file', program(body)))
  assert list(found) == ['b']


@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_values(tmp_path, case):
  body, said = HOSTILE[case]
  refused(zipped(tmp_path / 'file', program(body)), said)


def test_extensions_are_not_known(tmp_path):
  """copyreg's numbers stand for things that no reader is asked about."""
  import pickle

  canary = tmp_path / 'canary'
  body = called(b'\x82\xf0', literal(f'touch {canary}'))
  copyreg.add_extension('os', 'system', 0xF0)
  try:
    pickle.loads(program(body))
    canary.unlink()
    for code in (b'\x82\xf0', b'\x83\xf0\0', b'\x84\xf0\0\0\0'):
      body = called(code, literal(f'touch {canary}'))
      refused(zipped(tmp_path / 'file', program(body)), 'EXT. is refused')
  finally:
    copyreg.remove_extension('os', 'system', 0xF0)
  assert not canary.exists()


def test_many_instructions(tmp_path, monkeypatch):
  monkeypatch.setattr(torch_files, 'STEPS', 50)
  body = b'N' * 60 + dict_of(x=tensor())
  refused(zipped(tmp_path / 'file', program(body)), 'more than 50')


def test_hostile_archives(tmp_path):
  body = program(dict_of(x=tensor()))
  good = zipped(tmp_path / 'good', body).read_bytes()
  file = tmp_path / 'file'
  for size in range(0, len(good), 17):
    file.write_bytes(good[:size])
    refused(file, 'torch.save|empty')
  refused(
    zipped(file, body, bytes(10**7), zipfile.ZIP_DEFLATED), 'compressed'
  )
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('a/other', body)
  refused(file, 'not one that torch.save')
  sizes = lambda n: struct.pack('<II', n, n)
  lying = good.replace(sizes(24), sizes(9999))
  assert lying != good
  file.write_bytes(lying)
  refused(file, 'beyond the file')
  refused(zipped(file, body, NUMBERS.tobytes()[:-1]), 'beyond its storage')


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'little': False}, 'little-endian'),
    ({'version': 1002}, 'unknown version'),
    ({'keys': ['1']}, 'list of storages'),
    ({'keys': ['0', '0']}, 'list of storages'),
    ({'keys': [['0']]}, 'list of storages'),
    ({'count': 2**60}, 'truncated'),
    ({'count': -1}, 'truncated'),
    ({'count': 5}, 'beyond its storage'),
    ({'keys': []}, 'is absent'),
  ],
)
def test_hostile_rows(tmp_path, changes, said):
  body = program(dict_of(x=tensor()))
  refused(in_a_row(tmp_path / 'file', body, **changes), said)


def test_a_storage_of_two_types(tmp_path):
  body = dict_of(x=tensor(), y=tensor(of=storage('0', 'IntStorage')))
  refused(in_a_row(tmp_path / 'file', program(body)), 'two types')


def test_other_files(tmp_path):
  file = tmp_path / 'file'
  refused(file, 'no file')
  for content in (b'', b'text', b'PK\x03\x04', dumps({'a': 1}), b'\x80', b'\0'):
    file.write_bytes(content)
    refused(file, 'torch.save|empty')


def test_changed_bytes_end_in_a_sentence(tmp_path):
  random = np.random.default_rng(0)
  body = program(dict_of(x=tensor(), y=dict_of(z=tensor((3,), (2,), 1))))
  file = tmp_path / 'file'
  for write in (zipped, in_a_row):
    good = np.frombuffer(write(file, body).read_bytes(), np.uint8)
    for _ in range(120):
      bad = good.copy()
      where = random.integers(0, len(bad), 3)
      bad[where] = random.integers(0, 256, 3)
      file.write_bytes(bad.tobytes())
      try:
        found = torch_files.read_torch(file)
      except ValueError:
        continue
      assert all(isinstance(x, np.ndarray) for x in found.values())


def test_convert(tmp_path):
  body = program(dict_of(model=dict_of(x=tensor()), old=dict_of(y=tensor())))
  zipped(tmp_path / 'part-1.bin', body)
  body = program(dict_of(model=dict_of(z=tensor((3,), (2,)))))
  in_a_row(tmp_path / 'part-2.bin', body)
  (tmp_path / 'x.bin.index.json').write_text(
    '{"weight_map": {"x": "part-1.bin", "z": "part-2.bin"}}'
  )
  for i, source in enumerate(['part-*.bin', 'x.bin.index.json']):
    out = tmp_path / f'out{i}'
    rules = [r'^model\.=top.', '^old.*=']
    made = convert.convert(str(tmp_path / source), out, rules)
    assert made == (2, 24 + 12)
    found = tensors.open_tensors(out)
    assert found.shapes == {
      'top.x': ((2, 3), 'float32'), 'top.z': ((3,), 'float32')
    }
    np.testing.assert_array_equal(found.read('top.z'), [0, 2, 4])
  with pytest.raises(ValueError, match='holds weights already'):
    convert.convert(str(tmp_path / 'part-1.bin'), tmp_path / 'out0')
  for rules, said in (
    (['x'], 'is not OLD=NEW'), (['(=a'], 'cannot be used'),
    (['.*=a'], 'is taken already'),
  ):
    with pytest.raises(ValueError, match=said):
      convert.convert(str(tmp_path / 'part-1.bin'), tmp_path / 'new', rules)
  with pytest.raises(ValueError, match='there is no file'):
    convert.convert(str(tmp_path / 'part-9.bin'), tmp_path / 'new')
  with pytest.raises(ValueError, match='there already and is no empty folder'):
    convert.convert(str(tmp_path / 'part-1.bin'), tmp_path)
  (tmp_path / 'part-3.bin').write_bytes(b'half')  # found after two were read
  with pytest.raises(ValueError, match=r'part-3\.bin: not a file'):
    convert.convert(str(tmp_path / 'part-*.bin'), tmp_path / 'new')
  os.mkfifo(tmp_path / 'part-4.bin')
  with pytest.raises(ValueError, match='a device or a pipe'):
    convert.convert(str(tmp_path / 'part-4.bin'), tmp_path / 'new')
  assert sorted(file.name for file in tmp_path.iterdir() if file.is_dir()) == [
    'out0', 'out1'
  ]


@pytest.mark.torch
@pytest.mark.parametrize('new', [True, False])
def test_as_torch_reads_it(tmp_path, new):
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  base = torch.randn(4, 6)
  kinds = (
    'float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16',
    'int8', 'uint8', 'bool', 'complex64', 'complex128',
  )
  model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
  value = {
    'model': model.state_dict(),
    'parameter': torch.nn.Parameter(base[1]),
    'views': collections.OrderedDict(
      turned=base.t(), step=base[1:, ::2], scalar=base[2, 3], none=base[:0],
      tied=base, spread=base[:1].expand(2, 6),
    ),
    'kinds': {kind: (base * 9).to(getattr(torch, kind)) for kind in kinds},
    'args': argparse.Namespace(lr=0.1, tensor=base), 'size': base.shape,
    'dtype': torch.float16, 'list': [base],
    'counts': collections.Counter('aab'),
  }
  file = tmp_path / 'file.pt'
  torch.save(value, file, _use_new_zipfile_serialization=new)
  with torch.serialization.safe_globals([argparse.Namespace]):
    same = torch.load(file, weights_only=True)
  expected = {'parameter': same['parameter'].detach()} | {
    f'{part}.{key}': x for part in ('model', 'views', 'kinds')
    for key, x in same[part].items()
  }
  found = torch_files.read_torch(file)
  assert set(found) == set(expected)
  for key, x in expected.items():
    bits = x.view(torch.int16) if x.dtype == torch.bfloat16 else x
    assert found[key].shape == tuple(x.shape), key
    assert str(found[key].dtype) == str(x.dtype).removeprefix('torch.'), key
    assert found[key].tobytes() == bits.numpy().tobytes(), key


@pytest.mark.torch
def test_a_whole_module_is_refused(tmp_path):
  torch = pytest.importorskip('torch')
  stream = io.BytesIO()
  torch.save(torch.nn.Linear(2, 2), stream)
  (tmp_path / 'file.pt').write_bytes(stream.getvalue())
  refused(tmp_path / 'file.pt', 'torch.nn.modules.linear.Linear')
  assert os.listdir(tmp_path) == ['file.pt']
