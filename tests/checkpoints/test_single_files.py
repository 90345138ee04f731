"""Files of train.export and of train.orders: hostile ones end in a sentence."""

import json
import os

import jax
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save

from punt_jax import checkpoints
from punt_jax.checkpoints import order_files, saving
from punt_jax.models import Transformer

MODEL = {'width': 8, 'layers': 1, 'heads': 2, 'taps': 3}
TEXT = {'kind': 'characters', 'alphabet': 'ab\n'}
CARD = {'model': MODEL, 'text': TEXT, 'length': 4}
SHAPES = jax.eval_shape(
  Transformer(vocab=3, **MODEL).init, jax.random.key(0),
  jax.ShapeDtypeStruct((1, 1), 'int32'),
)['params']
PARAMS = {
  name: np.full(x.shape, 0.1, np.float32)
  for name, x in traverse_util.flatten_dict(SHAPES, sep='.').items()
}


def put(file, params=PARAMS, header=None, **card):
  """A file of these tensors, whatever they are."""
  said = {key: json.dumps(x) for key, x in (CARD | card).items()}
  file.write_bytes(save(params, metadata=said if header is None else header))
  return file


def refused(file, said, load=checkpoints.load):
  with pytest.raises(ValueError, match=said) as caught:
    load(file)
  text = str(caught.value)
  assert str(file)[:100] in text and '\n' not in text and len(text) < 600


def test_the_files_below_are_otherwise_good(tmp_path):
  loaded = checkpoints.load(put(tmp_path / 'x.safetensors'))
  assert loaded.length == 4 and loaded.text.vocab == 3
  halves = {name: x.astype('float16') for name, x in PARAMS.items()}
  loaded = checkpoints.load(put(tmp_path / 'x.safetensors', halves))
  assert all(x.dtype == 'float32' for x in jax.tree.leaves(loaded.params))


@pytest.mark.parametrize('change', [
  {'layers': 10**6}, {'layers': 4096}, {'layers': 0}, {'layers': True},
  {'layers': '1'}, {'layers': 1.0}, {'layers': None}, {'width': 2**20},
  {'width': 10**12}, {'width': 7}, {'heads': 3}, {'heads': 8}, {'heads': 0},
  {'heads': -2}, {'taps': 2}, {'taps': 10**9}, {'places': 10**9},
  {'places': -1}, {'places': 4}, {'vocab': 3}, {'parent': None},
  {'block_length': 4}, {'block_length': -1}, {'attention': 'block_causal'},
  {'attention': 'x' * 5000}, {'attention': 1},
  {'name': 'x'}, {'dtype': 'f'}, {'x' * 5000: 1},
], ids=lambda x: '{}={}'.format(*next(iter(x.items())))[:30])
def test_networks_that_the_file_does_not_hold(change, tmp_path):
  """A million layers were traced before their tensors were looked for."""
  file = put(tmp_path / 'x.safetensors', model=MODEL | change)
  refused(file, f'{next(iter(change)):.20}|shape')


@pytest.mark.parametrize('card, said', [
  *[({'length': x}, 'length is') for x in (-1, 0, '4', True, 4.0, None, 10**9)],
  ({'model': [1]}, 'no object'),
  ({'model': MODEL | {'places': 3}, 'length': 4}, 'length is 4'),
  ({'text': TEXT | {'alphabet': 'aab'}}, "'a' twice"),
  ({'text': TEXT | {'alphabet': ''}}, 'alphabet'),
  ({'text': TEXT | {'alphabet': ['a', 'b', 'c']}}, 'alphabet|letters'),
  ({'text': TEXT | {'alphabet': 'ab\ud800'}}, 'vocabulary in its header'),
  ({'text': {'kind': 'characters'}}, 'vocabulary in its header'),
  ({'text': {'kind': ['characters']}}, 'vocabulary in its header'),
  ({'text': {}}, 'vocabulary in its header'),
  ({'text': 'abc'}, 'vocabulary in its header'),
  ({'text': None}, 'vocabulary in its header'),
  ({'text': {'kind': 'bytes'}}, 'embedding has shape'),
  ({'heldout_bits': 'low'}, 'heldout_bits is'),
])
def test_cards_that_are_refused(card, said, tmp_path):
  refused(put(tmp_path / 'x.safetensors', **card), said)


@pytest.mark.parametrize('header, said', [
  ({'format': 'pt'}, "no 'length' in its header.*give the folder"),
  ({}, "no 'length' in its header.*give the folder"),
  ({'model': '{', 'text': '1', 'length': '4'}, "'model' in its header is not"),
  ({'model': '9' * 5000, 'text': '1', 'length': '4'}, '5000 digits'),
  ({'model': '[' * 10**5, 'text': '1', 'length': '4'}, 'is not JSON'),
  ({'model': '{"a": 1, "a": 2}', 'text': '1', 'length': '4'}, 'twice'),
])
def test_headers_that_are_refused(header, said, tmp_path):
  refused(put(tmp_path / 'x.safetensors', header=header), said)


@pytest.mark.parametrize('kind', ['int32', 'int8', 'bool', 'complex64'])
def test_weights_of_another_kind(kind, tmp_path):
  params = {name: x.astype(kind) for name, x in PARAMS.items()}
  refused(put(tmp_path / 'x.safetensors', params), f'holds {kind}')


@pytest.mark.parametrize('value', [np.nan, -np.inf, 1e300])
def test_weights_that_are_not_finite(value, tmp_path):
  params = PARAMS | {'norm.scale': np.full(8, value)}
  file = put(tmp_path / 'x.safetensors', params)
  refused(file, 'the tensor norm.scale holds NaN or infinity')
  if abs(value) == 1e300:
    return
  tree = traverse_util.unflatten_dict(params, sep='.')
  file.unlink()
  with pytest.raises(ValueError, match='not written: the parameter norm.scale'):
    saving.export_params(file, tree, CARD)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', [
  'more', 'norm', 'norm.scale.x', '', '.', 'a..b', '.'.join('a' * 5000),
  'x' * 5000, 'blocks_1.norm.scale',
])
def test_tensors_that_have_no_place(name, tmp_path):
  params = PARAMS | {name: np.ones(2, np.float32)}
  refused(put(tmp_path / 'x.safetensors', params), 'name of a param|has shape')
  lacks = {name: x for name, x in PARAMS.items() if name != 'norm.scale'}
  refused(put(tmp_path / 'x.safetensors', lacks), 'norm.scale has shape None')


def test_an_entry_that_stands_twice(tmp_path):
  """The package takes the last one."""
  data = put(tmp_path / 'x.safetensors').read_bytes()
  size = int.from_bytes(data[:8], 'little')
  text, rest = data[8 : 8 + size].rstrip(), data[8 + size :]
  entry = b'"norm.scale":' + json.dumps(
    json.loads(text)['norm.scale']
  ).encode() + b','
  text = b'{' + entry + text[1:]
  (tmp_path / 'x.safetensors').write_bytes(
    len(text).to_bytes(8, 'little') + text + rest
  )
  refused(tmp_path / 'x.safetensors', "'norm.scale' occurs twice")


def odd_paths(folder):
  """{what: a path that is no plain file, and what is said of it}."""
  os.mkfifo(folder / 'pipe.safetensors')
  for name, target in (
    ('zero', '/dev/zero'), ('gone', '/nowhere'),
    ('loop', folder / 'loop.safetensors'),
  ):
    (folder / f'{name}.safetensors').symlink_to(target)
  return {
    'pipe': 'a device or a pipe', 'zero': 'a device or a pipe',
    'gone': 'a link to a file that is absent', 'loop': 'cannot be read',
  }


def test_paths_that_are_no_files(tmp_path):
  for name, said in odd_paths(tmp_path).items():
    refused(tmp_path / f'{name}.safetensors', said)
  for name, said in (
    ('x' * 5000, 'cannot be read'), ('a/' * 3000, 'cannot be read'),
    ('a\0b', 'cannot be read'),
  ):
    refused(name, said)
  (tmp_path / 'config.json').write_text('{}')
  refused(tmp_path / 'config.json', f'give the folder {tmp_path}$')
  (tmp_path / 'x.bin').write_bytes(b'')
  refused(tmp_path / 'x.bin', 'punt-jax convert --source=')
  (tmp_path / 'y.safetensors').mkdir()
  refused(tmp_path / 'y.safetensors', 'config.json cannot be read')


ORDER = order_files.SHIPPED / 'pairs_0.safetensors'
POLICY = order_files.SHIPPED / 'variational_0.safetensors'


@pytest.mark.parametrize('source, change, said', [
  (ORDER, {'module': 3}, 'no object'),
  (ORDER, {'module': None}, 'no object'),
  (ORDER, {'kind': ['pairs']}, 'holds no order'),
  (ORDER, {'module': {'hidden': 10**12}}, 'hidden is'),
  (ORDER, {'module': {'hidden': 63, 'places': 36, 'reach': 8}}, 'has shape'),
  (ORDER, {'module': {'color': 1}}, "no setting 'color'"),
  (POLICY, {'module': {'layers': 10**6}}, 'layers is'),
  (POLICY, {'module': {'layers': 2}}, 'blocks_1.* has shape None'),
  (POLICY, {'module': {'temperature': 0}}, 'temperature is'),
  (POLICY, {'module': {'sees': 3}}, 'sees is 3'),
  (POLICY, {'module': {'start': 'x'}}, "start is 'x'"),
])
def test_orders_that_are_refused(source, change, said, tmp_path):
  params, card = saving.import_params(source)
  saving.export_params(tmp_path / 'x.safetensors', params, card | change)
  refused(tmp_path / 'x.safetensors', said, order_files.load)


def test_orders_that_are_not_there(tmp_path):
  odd_paths(tmp_path)
  for name in ('x' * 5000, str(tmp_path / 'none.safetensors')):
    with pytest.raises(ValueError, match='there is no order|cannot be read'):
      order_files.find(name, 'pairs')
  with pytest.raises(ValueError, match='a device or a pipe'):
    order_files.find(str(tmp_path / 'pipe.safetensors'), 'pairs')
