"""Weights split over devices: one device's results, and who talks to whom."""

import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

import punt_jax
from punt_jax import checkpoints, parallel
from punt_jax.checkpoints import saving
from punt_jax.cli import random_checkpoint
from punt_jax.models import sharding
from tests.helpers import hosts
from tests.helpers.grids import HYPERPARAMS, V, build_for, plan_of, shapes_of
from tests.helpers.processes import environment

ROWS, L = 5, 16  # ragged: 5 rows on 2, 4 or 8 groups
SHAPES = (2, 4), (4, 2), (1, 8), (8, 1)
DREAM_7B = dict(
  model_type='Dream', vocab_size=152064, hidden_size=3584, hidden_act='silu',
  num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
  intermediate_size=18944, max_position_embeddings=131072, rope_theta=1e6,
  rms_norm_eps=1e-6, mask_token_id=151666,
)


def tiny(name):
  """(Layout, parameters) of a random float32 model."""
  plan = plan_of(random_checkpoint.describe(name, 'tiny', V))
  tokens = np.zeros((1, 2), np.int32)
  return plan, jax.jit(plan.module.init)(jax.random.key(0), tokens)['params']


def put(plan, params, mesh):
  like = sharding.like(plan.module, params, mesh)
  return jax.device_put(params, jax.tree.map(lambda x: x.sharding, like))


def canvas():
  """Some tokens given, two rows left-padded: (tokens, valid)."""
  random = np.random.default_rng(0)
  tokens = np.full((ROWS, L), V)
  tokens[:, ::5] = random.integers(0, V, (ROWS, 4))
  tokens[1, :12] = 7  # rows need different numbers of steps
  valid = np.arange(L) >= np.array([0, 0, 4, 9, 0])[:, None]
  return tokens, valid


def compare(name, sampler, window, grids):
  plan, params = tiny(name)
  build = build_for(plan, sampler, window)
  tokens, valid = canvas()
  key = jax.random.key(3)
  one = punt_jax.compile(build)(params, HYPERPARAMS, key, tokens, valid=valid)
  assert len(set(np.asarray(one.steps))) > 2
  for grid in grids:
    mesh = parallel.mesh(*grid)
    run = punt_jax.compile(build, mesh=mesh)
    out = run(put(plan, params, mesh), HYPERPARAMS, key, tokens, valid=valid)
    for field in ('tokens', 'when', 'steps', 'done'):
      np.testing.assert_array_equal(getattr(one, field), getattr(out, field))
    # Sums over features are taken in another order.
    np.testing.assert_allclose(one.log_q, out.log_q, rtol=1e-4)
    for field in ('nfe', 'depth', 'positions'):
      np.testing.assert_array_equal(
        getattr(one.meter, field), getattr(out.meter, field)
      )
    share = -(-ROWS // grid[0])
    most = np.pad(one.meter.nfe, (0, share * grid[0] - ROWS))
    most = most.reshape(grid[0], share).max(1)
    assert out.meter.forwards.shape == grid[:1]
    assert (out.meter.forwards >= most).all()
    filled = window or getattr(plan.module, 'block_length', 0)
    if sampler == 'threshold' and not filled:  # a group stops on its own
      np.testing.assert_array_equal(out.meter.forwards, most)


@pytest.mark.parametrize(
  'name, grid, want',
  [
    # width 64, 4 heads of 16, 2 key heads, hidden 128
    ('llada', (4, 2), dict(
      query=(2, 64, 32), key=(2, 64, 16), value=(2, 64, 16), out=(2, 32, 64),
      gate=(2, 64, 64), up=(2, 64, 64), down=(2, 64, 64), embed=(256, 64),
      readout=(64, 256), mlp_norm=(2, 64), norm=(64,),
    )),
    ('dream', (2, 4), dict(  # 4 devices, 2 key heads: attention is whole
      query=(2, 64, 64), key=(2, 64, 32), out=(2, 64, 64), gate=(2, 64, 32),
      down=(2, 32, 64), embed=(128, 64), readout=(64, 128),
    )),
    ('mdlm', (2, 4), dict(
      qkv=(2, 64, 192), out=(2, 16, 64), up=(2, 64, 64), down=(2, 64, 64),
    )),
    ('bert', (2, 4), dict(
      query=(2, 64, 16), key=(2, 64, 16), out=(2, 16, 64), up=(2, 64, 32),
      down=(2, 32, 64), embed=(128, 64), position=(512, 64),
    )),
  ],
)
def test_weights_are_split(name, grid, want):
  plan = plan_of(random_checkpoint.describe(name, 'tiny', V))
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes_of(plan))
  placed = put(plan, zeros, parallel.mesh(*grid))
  leaves = {**placed['blocks'], **placed}
  for part, shape in want.items():
    leaf = next(
      leaves[part][kind] for kind in ('kernel', 'embedding', 'scale')
      if kind in leaves[part]
    )
    shards = leaf.addressable_shards
    assert len(shards) == 8
    assert {shard.data.shape for shard in shards} == {shape}, part
  if name == 'dream':
    bias = placed['blocks']['key']['bias']
    assert bias.addressable_shards[0].data.shape == (2, 32)


def per_device(config, grid):
  """GB of weights on each device, bfloat16."""
  plan = plan_of(config, 'bfloat16')
  devices = jax.devices()[: grid[0] * grid[1]]
  mesh = parallel.mesh(*grid, devices)
  like = jax.tree.leaves(sharding.like(plan.module, shapes_of(plan), mesh))
  shard = lambda x: np.prod(x.sharding.shard_shape(x.shape), dtype=np.int64)
  return sum(2 * shard(x) for x in like) / 1e9


def test_memory_of_the_weights_in_docs_scaling():
  llada = random_checkpoint.describe('llada', '8b', 126464)
  found = [per_device(llada, (1, m)) for m in (1, 2, 4, 8)]
  np.testing.assert_allclose(found, [16.03, 8.02, 4.01, 2.00], atol=0.006)
  found = [per_device(DREAM_7B, (1, m)) for m in (1, 2, 4, 8)]
  np.testing.assert_allclose(found, [15.23, 7.62, 3.81, 3.34], atol=0.006)
  assert per_device(llada, (4, 2)) == per_device(llada, (1, 2))


@pytest.mark.slow
def test_two_groups_of_four_equal_one_device():
  compare('llada', 'threshold', None, [(2, 4)])


@pytest.mark.slow
@pytest.mark.parametrize('name, sampler, window', [  # each pair of values
  ('llada', 'punt', 8), ('llada', 'threshold', None), ('dream', 'punt', None),
  ('dream', 'threshold', 8),
])
def test_every_mesh_equals_one_device(name, sampler, window):
  compare(name, sampler, window, SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mdlm', 'bert'])
def test_small_architectures_on_a_mesh(name):
  compare(name, 'threshold', None, [(2, 4)])


@pytest.mark.slow
@pytest.mark.parametrize('name, sampler', [
  ('sdar_moe', 'punt'), ('llada2', 'threshold'), ('nemotron', 'threshold'),
])
def test_blocks_and_experts_on_a_mesh(name, sampler):
  compare(name, sampler, None, [(2, 4), (1, 8)])


def test_a_checkpoint_on_other_devices(tmp_path):
  plan = plan_of(random_checkpoint.describe('llada', 'tiny', V))
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: random.random(x.shape, np.float32), shapes_of(plan)
  )
  square = put(plan, params, parallel.mesh(2, 2, jax.devices()[:4]))
  manager = saving.open_checkpoints(tmp_path)
  saving.save(manager, 3, {'params': square}, {})

  def same_place(x, y):
    assert x.sharding == y.sharding

  for mesh in (parallel.mesh(8, 1), parallel.mesh(1, 8), None):
    like = {'params': sharding.like(plan.module, params, mesh)}
    found, _ = saving.restore(saving.open_checkpoints(tmp_path), like)
    jax.tree.map(np.testing.assert_array_equal, found['params'], params)
    jax.tree.map(same_place, found, like)
  wider = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((9, *x.shape), x.dtype, sharding=x.sharding),
    like,
  )
  with pytest.raises(ValueError, match='holds other shapes than this model'):
    saving.restore(manager, wider)


def test_my_rows_are_a_share(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 3)
  shares = []
  for index in range(3):
    monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
    shares.append(parallel.my_rows(8).tolist())
  assert shares == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_a_wrong_mesh_is_named():
  with pytest.raises(ValueError, match='a mesh of 3 x 2 devices .* made of 8'):
    parallel.mesh(3, 2)
  build = build_for(None, 'punt', None)
  good = parallel.mesh(8)
  with pytest.raises(ValueError, match='give devices or a mesh, not both'):
    punt_jax.compile(build, devices=jax.devices(), mesh=good)
  with pytest.raises(ValueError, match='only the driver `decode`'):
    punt_jax.compile(build, mesh=good, driver=punt_jax.decode.film)
  for names, kind in (
    (('data', 'model'), AxisType.Explicit), (('model', 'data'), AxisType.Auto)
  ):
    bad = jax.make_mesh((4, 2), names, axis_types=(kind,) * 2)
    with pytest.raises(ValueError, match='make it with punt_jax.parallel.mesh'):
      punt_jax.compile(build, mesh=bad)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
  pytest.importorskip('tokenizers')
  random_checkpoint.write(tmp_path / 'model', 'llada', 'tiny', dtype='float32')
  square = parallel.mesh(2, 2, jax.devices()[:4])
  saved = checkpoints.load(tmp_path / 'model', mesh=square)
  manager = saving.open_checkpoints(tmp_path / 'saved')
  saving.save(manager, 1, saved.params, {})
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  command = [sys.executable, '-m', 'tests.helpers.hosts', str(port)]
  started = [
    subprocess.Popen(
      [*command, str(index), str(tmp_path)],
      env=environment(2),
    )
    for index in range(2)
  ]
  loaded = checkpoints.load(tmp_path / 'model')
  tokens, valid = hosts.job(loaded.text.vocab)
  run = punt_jax.compile(hosts.building(loaded.denoiser))
  key = jax.random.key(hosts.KEY)
  one = run(loaded.params, hosts.HYPERPARAMS, key, tokens, valid=valid)
  assert [process.wait(timeout=400) for process in started] == [0, 0]
  told = [np.load(tmp_path / f'{index}.npz') for index in range(2)]
  split = np.concatenate([found['split'] for found in told])
  np.testing.assert_array_equal(split, one.tokens)
  for found in told:
    for name in ('inside', 'across'):
      np.testing.assert_array_equal(found[name], one.tokens)
    assert found['parts'].tolist() == [2, 64, 32]  # of 128, over 4 devices
