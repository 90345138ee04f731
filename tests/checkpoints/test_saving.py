"""Checkpoints and weight files: what comes back, and what is refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax import checkpoints
from punt_jax.checkpoints import saving
from punt_jax.models import Transformer
from punt_jax.text import vocabulary as text_lib


def state(width=3):
  """A pytree with the kinds of leaves that a training state has."""
  weights = jnp.arange(2.0 * width).reshape(2, width)
  return {'step': jnp.int32(7), 'opt': ((), [weights, {'mu': weights + 1}])}


def saved(folder):
  manager = saving.open_checkpoints(folder)
  saving.save(manager, 7, state(), {'data_step': 7})
  return manager


def test_a_state_comes_back(tmp_path):
  manager = saving.open_checkpoints(tmp_path)
  assert saving.restore(manager, state()) is None
  saved(tmp_path)
  manager = saving.open_checkpoints(tmp_path)
  found, extra = saving.restore(manager, jax.eval_shape(state))
  assert extra == {'data_step': 7}
  jax.tree.map(np.testing.assert_array_equal, found, state())
  assert jax.tree.structure(found) == jax.tree.structure(state())


def test_only_the_newest_are_kept(tmp_path):
  manager = saving.open_checkpoints(tmp_path)
  for step in (1, 2, 3):
    saving.save(manager, step, state(), {})
  assert sorted(manager.all_steps()) == [2, 3]


def test_a_checkpoint_of_another_shape(tmp_path):
  manager = saved(tmp_path)
  with pytest.raises(ValueError, match='holds other shapes than this model'):
    saving.restore(manager, state(width=4))


def test_a_checkpoint_of_another_structure(tmp_path):
  manager = saved(tmp_path)
  with pytest.raises(ValueError, match='holds other shapes than this model'):
    saving.restore(manager, state()['opt'])


def test_a_truncated_checkpoint(tmp_path):
  saved(tmp_path)
  files = [f for f in (tmp_path / '7' / 'state').rglob('*') if f.is_file()]
  for file in files:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  manager = saving.open_checkpoints(tmp_path)
  with pytest.raises(ValueError, match='it is truncated or damaged'):
    saving.restore(manager, state())


def test_flipped_bytes_are_noticed(tmp_path):
  """In every file of the data; a checkpoint of a few numbers has none to spare.

  tensorstore's own sums do not cover all of them.
  """
  big = {'w': jax.random.normal(jax.random.key(0), (100_000,))}
  manager = saving.open_checkpoints(tmp_path / 'whole')
  saving.save(manager, 7, big, {'recent': [0.125]})
  files = [
    f.relative_to(tmp_path / 'whole')
    for f in (tmp_path / 'whole' / '7').rglob('*')
    if f.stat().st_size > 10_000 or f.parts[-2:] == ('extra', 'metadata')
  ]
  assert len(files) == 2
  for n, name in enumerate(files):
    shutil.copytree(tmp_path / 'whole', tmp_path / str(n))
    file = tmp_path / str(n) / name
    data = bytearray(file.read_bytes())
    if name.name == 'metadata':
      data = data.replace(b'0.125', b'0.175')
    else:
      for place in np.random.default_rng(0).integers(len(data), size=24):
        data[place] ^= 255
    file.write_bytes(data)
    manager = saving.open_checkpoints(tmp_path / str(n))
    with pytest.raises(ValueError, match='damaged.*; delete it to go on'):
      saving.restore(manager, big)


def test_a_checkpoint_without_a_digest_comes_back(tmp_path, monkeypatch):
  """As older versions wrote them."""
  with monkeypatch.context() as patch:
    patch.setattr(saving, '_digest', lambda *_: None)
    saved(tmp_path)
  found, extra = saving.restore(saving.open_checkpoints(tmp_path), state())
  assert extra == {'data_step': 7}
  jax.tree.map(np.testing.assert_array_equal, found, state())


@pytest.mark.parametrize('error, said', [
  (PermissionError(13, 'Permission denied'), 'read: Permission denied'),
  (ValueError('UNKNOWN: Input/output error'), 'cannot be read: Input/output e'),
  (RuntimeError('RESOURCE_EXHAUSTED: Out of memory'), 'Out of memory'),
  (MemoryError('all of it'), 'all of it'),
])
def test_nobody_deletes_a_checkpoint_that_is_whole(
  tmp_path, monkeypatch, error, said
):
  def fails(*_):
    raise error

  manager = saved(tmp_path)
  monkeypatch.setattr(saving, '_read', fails)
  with pytest.raises((ValueError, type(error)), match=said) as caught:
    saving.restore(manager, state())
  assert 'delete it' not in str(caught.value)


def test_what_a_kill_has_left_is_put_away(tmp_path):
  manager = saved(tmp_path)
  (tmp_path / '8.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  manager = saving.open_checkpoints(tmp_path, read_only=True)
  assert saving.restore(manager, state()) is not None
  assert len([*tmp_path.iterdir()]) == 2  # who reads leaves all as it is
  saving.tidy(tmp_path)
  assert [x.name for x in tmp_path.iterdir()] == ['7']


@pytest.mark.parametrize('name', ['a[1]', 'a\\b'])
def test_folders_that_orbax_reads_nothing_from(tmp_path, name):
  with pytest.raises(ValueError, match='cannot be read back from'):
    saving.open_checkpoints(tmp_path / name)


def card(**changes):
  model = {'width': 8, 'layers': 1, 'heads': 2, 'taps': 3}
  spec = text_lib.characters('ab\n').spec
  return {'model': model, 'text': spec, 'length': 4, **changes}


@pytest.fixture(scope='module')
def params():
  module = Transformer(vocab=3, **card()['model'])
  tokens = jnp.zeros((1, 4), jnp.int32)
  return jax.jit(module.init)(jax.random.key(0), tokens)['params']


def test_weights_come_back_ready_to_use(tmp_path, params):
  file = tmp_path / 'model.safetensors'
  saving.export_params(file, params, card())
  loaded = checkpoints.load(file)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, dict(params))
  assert loaded.text.decode([0, 1, 2, 3]) == 'ab\n' + text_lib.BLANK
  assert loaded.length == 4 and loaded.card == card()
  assert loaded.denoiser(loaded.params).vocab == 3


def test_weights_that_do_not_fit_their_header(tmp_path, params):
  file = tmp_path / 'model.safetensors'
  wider = {**card()['model'], 'width': 16}
  saving.export_params(file, params, card(model=wider))
  with pytest.raises(ValueError, match='has shape .* but the model needs'):
    checkpoints.load(file)
  deeper = {**card()['model'], 'layers': 2}
  saving.export_params(file, params, card(model=deeper))
  with pytest.raises(ValueError, match=r'parameter blocks_1.* shape None'):
    checkpoints.load(file)


def test_a_truncated_or_missing_weights_file(tmp_path, params):
  file = tmp_path / 'model.safetensors'
  with pytest.raises(ValueError, match='there is no file or folder .*model'):
    checkpoints.load(file)
  saving.export_params(file, params, card())
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(ValueError, match='is not a readable safetensors file'):
    checkpoints.load(file)


def test_a_weights_file_of_somebody_else(tmp_path, params):
  file = tmp_path / 'model.safetensors'
  saving.export_params(file, params, {})
  with pytest.raises(ValueError, match="has no 'length' in its header"):
    checkpoints.load(file)


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match='folder hamlet, .*only .*shakespeare'):
    checkpoints.load('hamlet')


def test_the_shipped_model_knows_english():
  loaded = checkpoints.load('shakespeare')
  string = 'What say you to my lord the king, and what of the good men?'
  ids = loaded.text.encode(string)
  hidden = np.tile(ids, (len(ids), 1))  # row i hides character i alone
  np.fill_diagonal(hidden, loaded.text.vocab)
  apply = jax.jit(loaded.module.apply)
  logits = np.asarray(apply({'params': loaded.params}, hidden))
  best = logits[np.arange(len(ids)), np.arange(len(ids))].argmax(-1)
  assert (best == ids).mean() > 0.6, loaded.text.decode(best)
