"""The trainer: it learns, resumes exactly, and says what is wrong."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import table_world
from punt_jax import jsonl
from punt_jax.checkpoints import pretrained, saving
from punt_jax.cli import records
from punt_jax.models import transformer
from train import data, export, loop, step

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tiny(**values):
  """A config whose whole run takes seconds."""
  config = table_world.get_config()
  config.model.update(width=16, layers=1, heads=2)
  config.update(steps=40, log_every=5, save_every=5, eval_every=20)
  config.update(batch=16, eval_rows=32, warmup=4, optimizer='adamw')
  config.data.heldout = 64
  config.update(values)
  return config


def flags(config):
  """The command-line flags that turn table_world into `config`."""
  plain, base = config.to_dict(), table_world.get_config().to_dict()
  found = []
  for name, value in plain.items():
    inner = value if isinstance(value, dict) else {None: value}
    for key, v in inner.items():
      old = base[name] if key is None else base[name][key]
      if v != old:
        path = name if key is None else f'{name}.{key}'
        found.append(f'--config.{path}={v}')
  return found


def command(workdir, *more):
  where = ['--config=configs/table_world.py', f'--workdir={workdir}']
  return [sys.executable, '-m', 'train.main', *where, *more]


def environment(tmp_path):
  """One virtual device and a compilation cache shared by the runs."""
  env = {**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  env['JAX_COMPILATION_CACHE_DIR'] = str(tmp_path / 'cache')
  env['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  return env


def final(workdir, config=None):
  """(metrics rows as text, leaves of the last checkpoint)."""
  config = config or tiny()
  init = lambda: step.init_state(config, module(config), config.data.length)
  manager = saving.open_checkpoints(workdir / 'checkpoints')
  state, _ = saving.restore(manager, jax.eval_shape(init))
  return (workdir / 'metrics.jsonl').read_text(), jax.tree.leaves(state)


def module(config):
  return transformer.Transformer(vocab=config.data.vocab, **config.model)


@pytest.mark.slow
def test_the_loss_reaches_the_entropy():
  config = table_world.get_config()
  found = data.load(config)
  network = module(config)
  state = step.init_state(config, network, config.data.length)
  update = step.make_update(config, network, jax.devices()[:1])
  for i in range(config.steps):
    state, _ = update(state, found.batch(i))
  evaluate = step.make_evaluate(network, 512)
  nats, error = evaluate(state.ema, found.heldout, draws=8)
  entropy = float(data.build_world(config.data).entropy()) / config.data.length
  assert np.log(config.data.vocab) > 1.2 * entropy  # a fresh model's NELBO
  # The same canvases cost found.floor under the exact distribution.
  assert abs(found.floor - entropy) < 0.02 * entropy
  assert error < 0.01 * entropy
  assert found.floor - 4 * error < nats < 1.05 * found.floor
  assert nats < 1.05 * entropy


@pytest.mark.slow
def test_four_devices_are_one():
  config = tiny()
  found, network = data.load(config), module(config)
  ends = []
  for n in (1, 4):
    state = step.init_state(config, network, config.data.length)
    update = step.make_update(config, network, jax.devices()[:n])
    losses = []
    for i in range(5):
      state, metrics = update(state, found.batch(i))
      losses.append(float(metrics['loss']))
    ends.append((losses, state))
  np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-5)
  assert len(ends[1][1].step.sharding.device_set) == 4
  close = lambda a, b: np.testing.assert_allclose(
    np.asarray(a), np.asarray(b), atol=1e-4
  )
  jax.tree.map(close, ends[0][1], ends[1][1])


def test_clipping_schedule_and_average_are_those_of_optax():
  config = tiny(warmup=10, steps=100, clip=0.5)
  rate = step.schedule(config, 0.1)
  assert [float(rate(s)) for s in (0, 5, 10)] == pytest.approx([0, 0.05, 0.1])
  assert float(rate(100)) == pytest.approx(0.001)
  # With a step of plain descent, the chain must hand on a clipped gradient.
  clip = step.optimizer(config).update
  grad = {'w': jnp.full((4,), 10.0)}
  moved = lambda g: clip(g, step.optimizer(config).init(grad), grad)[1]
  clipped, _ = optax.clip_by_global_norm(0.5).update(grad, optax.EmptyState())
  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6)
  jax.tree.map(same, moved(grad), moved(clipped))
  found, network = data.load(config), module(config)
  before = step.init_state(config, network, config.data.length)
  zeros = jax.tree.map(jnp.zeros_like, before.ema)
  before = before._replace(step=jnp.int32(10_000), ema=zeros)
  update = step.make_update(config, network, jax.devices()[:1])
  after, _ = update(before, found.batch(0))
  expected = optax.incremental_update(
    after.params, before.ema, 1 - config.ema
  )
  jax.tree.map(same, after.ema, expected)


def test_muon_takes_the_matrices_of_the_blocks_alone():
  config = tiny(optimizer='muon')
  state = step.init_state(config, module(config), config.data.length)
  paths = jax.tree_util.tree_flatten_with_path(state.opt)[0]
  names = {jax.tree_util.keystr(p) for p, _ in paths}
  muon = {n for n in names if "'muon'" in n and "['kernel']" in n}
  assert len(muon) == len(transformer.MATRICES)
  assert not any('mix' in n or 'readout' in n for n in muon)


@pytest.mark.parametrize('name', ['chain', 'product', 'permuted', 'parity'])
def test_every_world_is_data(name):
  config = tiny()
  config.data.world = name
  found = data.load(config)
  np.testing.assert_array_equal(found.batch(2), found.batch(2))
  assert (found.batch(2) != found.batch(3)).any()
  assert found.batch(0).shape == (16, 4) and found.heldout.shape == (64, 4)
  assert found.batch(0).max() < found.vocab and np.isfinite(found.floor)


@pytest.mark.parametrize(
  'values, said',
  [
    ({'loss_weight': 'none'}, "unknown loss_weight 'none': use one of nelbo"),
    ({'optimizer': 'sgd'}, "unknown optimizer 'sgd': use one of muon"),
    ({'save_every': 7}, 'must be a multiple of log_every'),
    ({'batch': 12}, 'does not divide over 8 devices'),
    ({'warmup': 10**6}, 'warmup = 1000000 must be less than the'),
    ({'data': {'world': 'flat'}}, "unknown world 'flat': use one of table"),
  ],
)
def test_bad_settings_write_nothing(tmp_path, values, said):
  config = tiny()
  config.update(values)
  with pytest.raises(ValueError, match=said):
    loop.prepare(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_workdir_belongs_to_one_config(tmp_path):
  records.claim(tmp_path / 'run', tiny())
  kept = (tmp_path / 'run' / 'config.json').read_text()
  records.claim(tmp_path / 'run', tiny())
  with pytest.raises(ValueError, match=r'another config \(different: batch\)'):
    records.claim(tmp_path / 'run', tiny(batch=8))
  assert (tmp_path / 'run' / 'config.json').read_text() == kept
  (tmp_path / 'file').write_text('mine')
  with pytest.raises(ValueError, match='is not empty and holds no run'):
    records.claim(tmp_path, tiny())
  assert sorted(f.name for f in tmp_path.iterdir()) == ['file', 'run']


@pytest.mark.parametrize('block_length', [
  0, pytest.param(2, marks=pytest.mark.slow)
])
def test_more_steps_are_to_the_bit_those_of_a_longer_run(
  tmp_path, capsys, block_length
):
  """After a last step between two rows of the curve, at the final rate."""
  how = dict(log_every=5, save_every=5, eval_every=10, optimizer='adamw')
  if block_length:
    how['model'] = dict(attention='block_causal', block_length=block_length)
  run = lambda name, **more: loop.train(
    loop.prepare(tiny(**how, **more), tmp_path / name)
  )
  run('grown', steps=12)
  said = capsys.readouterr()
  assert said.out.splitlines()[0] == (
    'training: 12 steps to go; after 5 of them it is known for how long'
  )
  assert 'for 7 more, evaluations aside' in said.out
  assert said.err.strip().splitlines()[-1].count('12/12') == 1
  before = (tmp_path / 'grown' / 'metrics.jsonl').read_text()
  run('grown', steps=20, decay=12)
  run('whole', steps=20, decay=12)
  expected, leaves = final(tmp_path / 'whole', tiny(**how))
  found, again = final(tmp_path / 'grown', tiny(**how))
  assert found == expected and found.startswith(before)
  assert [json.loads(x)['step'] for x in found.splitlines()] == [
    5, 10, 10, 15, 20, 20
  ]
  for one, other in zip(leaves, again, strict=True):
    np.testing.assert_array_equal(one, other)
  rows = jsonl.read(tmp_path / 'grown' / 'results.jsonl')
  assert [row['step'] for row in rows] == [12, 20]


def test_folders_from_before_there_were_blocks_go_on(tmp_path):
  old = tiny().to_dict()
  for key in loop.LATER:
    del old['model'][key]
  file = tmp_path / 'run' / 'config.json'
  records.claim(tmp_path / 'run', ml_collections.ConfigDict(old)).close()
  blocks = tiny(model=dict(attention='block_causal', block_length=2))
  with pytest.raises(ValueError, match='different: model.attention, model.bl'):
    loop.begin(blocks, tmp_path / 'run', dict)
  *_, lock = loop.begin(tiny(), tmp_path / 'run', dict)
  lock.close()
  assert json.loads(file.read_text())['model']['attention'] == 'full'


@pytest.mark.parametrize('changes, said', [
  (dict(steps=39), 'run has 40 steps done, and config.steps = 39: ask for at'),
  (
    dict(steps=80), 'falls over 40 steps and now would over 80, so that its 40'
    ' steps would have been others: set --config.decay=40 to go on',
  ),
  (dict(steps=80, decay=40), None),
  (dict(steps=80, final_share=1.0), 'different: final_share'),
  (dict(steps=80, decay=40, batch=8), 'different: batch'),
])
def test_what_may_go_on(tmp_path, changes, said):
  """A run of 40 steps, as far as its folder tells."""
  run = tmp_path / 'run'
  records.claim(run, tiny())
  (run / 'checkpoints' / '40').mkdir(parents=True)
  (run / 'metrics.jsonl').write_text('{"step": 40}\n')
  kept = (run / 'config.json').read_text()
  if said is None:
    loop.go_on(tiny(**changes), run)
    return
  with pytest.raises(ValueError, match=said) as caught:
    loop.begin(tiny(**changes), run, dict)
  assert '\n' not in str(caught.value)
  assert (run / 'config.json').read_text() == kept


def test_a_constant_rate_knows_no_end():
  rates = [
    step.schedule(tiny(steps=steps, final_share=1.0), 0.3)
    for steps in (40, 4000)
  ]
  assert step.decay_steps(tiny(final_share=1.0)) is None
  for n in (0, 2, 4, 39, 400):
    assert float(rates[0](n)) == float(rates[1](n))


def test_rows_after_the_checkpoint_are_cut(tmp_path):
  file = tmp_path / 'metrics.jsonl'
  rows = [{'step': 5}, {'step': 10, 'loss': 1.0}, {'step': 15}]
  text = ''.join(json.dumps(r) + '\n' for r in rows)
  file.write_text(text + '{"step": 1')
  records.cut_rows(file, 10)
  assert file.read_text() == text[: text.index('{"step": 15}')]


@pytest.mark.slow
@pytest.mark.parametrize(
  'more, said',
  [
    (['--config.batch=12', '--config.data.world=flat'], "unknown world 'flat'"),
  ],
)
def test_the_command_says_one_sentence(tmp_path, more, said):
  done = subprocess.run(
    command(tmp_path / 'run', *more),
    cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True,
  )
  assert done.returncode == 1
  assert said in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'run').exists()


def test_train_on_text_then_export(tmp_path):
  corpus = tmp_path / 'corpus.txt'
  corpus.write_text('to be or not to be\n' * 40)
  config = tiny(steps=10)
  config.model.update(attention='block_causal', block_length=4)
  config.data = ml_collections.ConfigDict(
    {'path': str(corpus), 'tokens': 'characters', 'length': 8, 'heldout': 0.2}
  )
  row = loop.train(loop.prepare(config, tmp_path / 'run'))
  assert row['seed'] == 0 and row['config']['batch'] == 16
  assert row['heldout_bits'] == pytest.approx(row['heldout_nats'] / np.log(2))
  (written,) = (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
  assert json.loads(written)['heldout_nats'] == row['heldout_nats']
  files = lambda: {
    f: (f.stat().st_mtime_ns, f.read_bytes())
    for f in sorted((tmp_path / 'run').rglob('*')) if f.is_file()
  }
  before = files()
  held = loop.files.lock(tmp_path / 'run')  # as by a run that still trains
  before |= {tmp_path / 'run' / '.lock': files()[tmp_path / 'run' / '.lock']}
  card = export.export(tmp_path / 'run', tmp_path / 'out.safetensors')
  held.close()
  assert files() == before
  assert card['step'] == 10 and card['heldout_bits'] == row['heldout_bits']
  assert card['steps'] == 10 and card['digests'] == row['digests']
  assert card['config']['data']['path'] == 'corpus.txt'
  params, _ = saving.import_params(tmp_path / 'out.safetensors')
  assert params['embed']['embedding'].shape == (len(set('tobern \n')) + 1, 16)
  loaded = pretrained.load(tmp_path / 'out.safetensors')
  assert loaded.block_length == loaded.module.block_length == 4
  assert loaded.denoiser(loaded.params).windows.length == 4
  assert pretrained.load('shakespeare').block_length == 0
  with pytest.raises(ValueError, match='holds no run'):
    export.export(tmp_path, tmp_path / 'other.safetensors')
  refuses(tmp_path, config, corpus)


def refuses(folder, config, corpus):
  """What a run must not be exported or go on with."""
  run, out = folder / 'run', folder / 'other.safetensors'
  moved = folder / 'moved.txt'
  corpus.rename(moved)
  corpus.write_text('not to be or to be\n' * 40)  # the same length and letters
  with pytest.raises(ValueError, match='trained on another corpus'):
    export.export(run, out)
  with pytest.raises(ValueError, match='with another corpus'):
    loop.prepare(config, run)
  config.data.path = str(moved)
  loop.prepare(config, run).lock.close()
  assert export.export(run, out)['config']['data']['path'] == 'moved.txt'
  out.unlink()
  again = loop.prepare(config, run)
  with pytest.raises(ValueError, match='is in use by another run'):
    loop.prepare(config, run)
  again.lock.close()
  shutil.rmtree(run / 'checkpoints')
  with pytest.raises(ValueError, match='has not saved anything yet'):
    export.export(run, out)
  assert not out.exists() and not (run / 'checkpoints').exists()


def test_no_letter_of_a_corpus_is_read_as_mask(tmp_path):
  corpus = tmp_path / 'corpus.txt'
  corpus.write_text('to be \u2591 not to be\n' * 40, 'utf-8-sig')
  config = tiny()
  for tokens, vocab in (('bytes', 256), ('characters', 8)):
    config.data = ml_collections.ConfigDict(
      {'path': str(corpus), 'tokens': tokens, 'length': 8, 'heldout': 0.2}
    )
    found = data.load(config)
    assert found.vocab == vocab  # and no byte order mark
    assert max(found.batch(n).max() for n in range(9)) < vocab
    assert found.heldout.max() < vocab
    assert found.text.decode(found.heldout.ravel()).count('\u2591') > 3
