"""Benchmarks: FLOP by hand and by XLA, memory's parts, clocks, whole jobs."""

import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import bench as plain_config
from configs import bench_cache as cache_config
from configs import bench_model as config_file
from configs import bench_moe_forward as moe_config
from configs import bench_torch_forward as torch_config
from experiments.bench import __main__ as bench
from experiments.bench import cache, moe_forward, timing, torch_forward
from experiments.bench import model as bench_model
from punt_jax import readout
from punt_jax.checkpoints import huggingface
from punt_jax.types import Answer, Denoiser, Memo, Meter


def test_flops_by_hand():
  module = huggingface.layout(bench_model.SHAPES['llada_tiny']).module
  # D 64, 4 heads and 2 key heads of 16, hidden 128, 2 layers, 512 rows.
  weights = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128) + 64 * 512
  scores = 2 * (10 * 64 + 10 * 64)  # of each layer, each position
  assert bench_model.forward_flops(module, 3, 10) == 2 * 30 * (weights + scores)


def test_flops_of_xla():
  # One layer: XLA counts the body of a loop over layers once.
  plan = huggingface.layout(bench_model.SHAPES['llada_tiny'] | {'n_layers': 1})
  module = plan.module.clone(dtype='float32')
  tokens = jax.ShapeDtypeStruct((2, 128), jnp.int32)
  params = jax.eval_shape(module.init, jax.random.key(0), tokens)
  lowered = jax.jit(module.apply).lower(params, tokens)
  share = bench_model.forward_flops(module, 2, 128)
  share /= lowered.cost_analysis()['flops']
  assert 0.93 < share < 1  # the rest are no matrix products


def test_shapes_are_those_of_the_checkpoints():
  sizes = {}
  for name in ('llada8b', 'dream7b'):
    shapes = huggingface.shapes(huggingface.layout(bench_model.SHAPES[name]))
    sizes[name] = sum(np.prod(x.shape, dtype=int) for x in shapes.values())
  assert sizes['llada8b'] * 2 == 16_031_162_368  # bytes in bfloat16, published
  assert 7.6e9 < sizes['dream7b'] < 7.7e9


def test_parameters_are_random_and_of_the_right_size():
  plan, params = bench_model.make_model('dream_tiny', 'bfloat16')
  like = huggingface.shapes(plan)
  flat = jax.tree_util.tree_leaves_with_path(params)
  found = {'/'.join(k.key for k in path): x for path, x in flat}
  assert {k: (x.shape, x.dtype) for k, x in found.items()} == {
    k: (x.shape, x.dtype) for k, x in like.items()
  }
  kernel = np.asarray(found['blocks/down/kernel'], np.float32)
  np.testing.assert_allclose(kernel.std((1, 2)) * 128**0.5, 1, atol=0.05)
  assert abs(np.corrcoef(kernel.reshape(2, -1))[0, 1]) < 0.05  # layers differ
  assert (found['norm/scale'] == 1).all()


def tiny(config):
  """The config at a size for tests."""
  config.model_shape, config.dtype = 'llada_tiny', 'float32'
  config.repeats = 1
  return config


def test_overhead_by_hand(monkeypatch):
  two = np.array([3, 5])
  decoded = SimpleNamespace(meter=Meter(two, two, two, two[1:]), steps=two)
  monkeypatch.setattr(timing, 'seconds', lambda run: run())
  found = timing.overhead(lambda: 2.0, lambda: 15.0, decoded, 3)
  assert found['overhead'] == found['overhead_highest'] == 15 / (5 * 2)
  assert (found['seconds'], found['forward_seconds']) == (15, 2)
  assert (found['nfe'], found['nfe_error'], found['forwards']) == (4, 1, [5])


def fake(choice, *args, **how):
  """Stands for fill, which compiles programs."""
  return dict(
    choice=choice.name, how=how, forwards=[6], tokens_per_second=1.0,
    nfe_per_second=1.0, overhead=1.0, overhead_lowest=0.5,
    overhead_highest=2.0, mfu=0.5, memory_mib=2.0, allowed_mib=3.0,
    scratch_mib=1.0, log_probs_mib=9.0, **timing.machine(),
  )


def test_rows_of_a_model(tmp_path, monkeypatch, capsys):
  plan = SimpleNamespace(vocab=9, mask=8)
  monkeypatch.setattr(bench_model, 'make_model', lambda *args: (plan, None))
  monkeypatch.setattr(bench_model, 'fill', fake)
  monkeypatch.setattr(bench_model.timing, 'matmul_peak', lambda dtype: 1.0)
  config = tiny(config_file.get_config('cpu'))
  rows = bench.run(config, tmp_path / 'run')
  sizes = [row['length'] * row['batch'] for row in rows]
  assert len(rows) == 8 and sizes == sorted(sizes)  # the peak can only rise
  for row in rows:
    assert row['subject'] == 'llada_tiny' and row['dtype'] == 'float32'
    assert row['how'] == {'temperature': 0, 'steps': 6, 'seed': 0}
    assert row['choice'] == row['sampler'] and row['machine']
  assert (tmp_path / 'run' / 'bench_model.png').exists()
  assert 'punt 64 1 6 1 1 1.00 0.50 2 3' in ' '.join(
    capsys.readouterr().out.split()
  )


def test_rows_of_vocabularies(tmp_path, monkeypatch, capsys):
  asked = []
  monkeypatch.setattr(bench, 'make_model', lambda v: asked.append(v) or v)
  monkeypatch.setattr(bench, 'fill', fake)
  config = plain_config.get_config()
  config.update(vocab=(8, 16), batch=(1, 2))
  rows = bench.run(config, tmp_path / 'run')
  assert len(rows) == 2 * 2 * 2 * 10 and asked == [8, 16]
  assert all(r['how']['temperature'] == r['temperature'] for r in rows)
  assert bench.canvas(9, 2, 3, 2).tolist() == [[0, 1, 9], [2, 3, 9]]
  assert (tmp_path / 'run' / 'bench.png').exists()
  assert 'top_k vocab_16 2 1 1.000 0.50 - 2.00 1 9' in ' '.join(
    capsys.readouterr().out.split()
  )


def test_rows_beside_torch(tmp_path, monkeypatch):
  ours = lambda tokens: np.ones((*tokens.shape, 4)) + tokens[..., None]
  theirs = lambda tokens: 1.5 * ours(tokens)
  monkeypatch.setattr(torch_forward, 'pair', lambda *args: (ours, theirs))
  monkeypatch.setattr(torch_forward, 'torch_version', lambda: '0')
  config = torch_config.get_config()
  config.update(sizes=((1, 4), (2, 3)), rounds=2)
  rows = torch_forward.run(config, tmp_path / 'run')
  assert [(r['batch'], r['length']) for r in rows] == [(1, 4), (2, 3)]
  for row in rows:
    assert (row['subject'], row['sampler']) == ('llada_512', 'forward')
    assert row['difference'] == pytest.approx(1 / 3) and row['torch'] == '0'


def test_rows_of_experts_beside_torch(tmp_path, monkeypatch):
  theirs = lambda x, way: 2 * x
  monkeypatch.setattr(moe_forward, 'pair', lambda *args: (np.copy, theirs))
  monkeypatch.setattr(torch_forward, 'torch_version', lambda: '0')
  config = moe_config.get_config()
  config.update(shapes=('tiny',), lengths=(3,), rounds=2)
  rows = moe_forward.run(config, tmp_path / 'run')
  assert [row['dtype'] for row in rows] == ['float32', 'bfloat16']
  for row in rows:
    assert row['difference'] == 0.5 and row['way'] in moe_forward.WAYS


@pytest.mark.torch
def test_experts_are_transformers(tmp_path):
  pytest.importorskip('transformers')
  config = moe_config.get_config()
  config.update(shapes=('small',), lengths=(40,), rounds=1)
  exact, rounded = moe_forward.run(config, tmp_path / 'run')
  assert exact['difference'] < 1e-5 and rounded['difference'] < 0.5


@pytest.mark.skipif(
  bool(importlib.util.find_spec('torch')), reason='torch is here'
)
def test_without_torch_one_sentence_names_the_extra(tmp_path):
  with pytest.raises(ValueError, match=r"pip install 'punt-jax\[torch\]'"):
    torch_forward.run(torch_config.get_config(), tmp_path / 'run')
  assert not list(tmp_path.iterdir())


def test_the_flag_names_the_shape(tmp_path):
  with pytest.raises(ValueError, match='llada9b.*llada8b'):
    bench.run(config_file.get_config(), tmp_path / 'a', model_shape='llada9b')
  with pytest.raises(ValueError, match='configs/bench_model.py'):
    bench.run(plain_config.get_config(), tmp_path / 'b', model_shape='llada8b')
  assert not list(tmp_path.iterdir())


def test_a_chunk_is_at_most_the_batch():
  assert readout.chunk_size(126464, 3) == 3
  assert readout.chunk_size(126464, 10**6) < 10**4


def test_deviation_by_hand():
  # Two models whose answers about MASK are known; KL(plain || fast).
  def model(logits):
    def init(tokens, valid):
      zero = jnp.zeros(len(tokens), jnp.int32)
      return Memo(Meter(zero, zero, zero, zero), valid)

    features = lambda tokens: jnp.broadcast_to(logits, (*tokens.shape, 2))
    return Denoiser(
      2, init, lambda memo, tokens, rows: (memo, Answer(features(tokens))),
      jax.nn.log_softmax, lambda memo, tokens, rows, open_: memo,
    )

  both = cache.compared(
    model(jnp.log(jnp.array([0.25, 0.75]))), model(jnp.zeros(2))
  )
  tokens = jnp.array([[2, 2, 0, 2], [2, 2, 2, 2]])
  memo = both.init(tokens, jnp.ones_like(tokens, bool))
  window = jnp.array([[True, True, True, False]] * 2)
  memo = both.commit(memo, tokens, jnp.array([True, True]), window)
  memo, _ = both.ask(memo, tokens, jnp.array([True, False]))
  assert memo.meter.compared.tolist() == [2, 0]
  far = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
  np.testing.assert_allclose(memo.meter.moved, [2 * far, 0], rtol=1e-5)


@pytest.mark.slow
def test_end_to_end(tmp_path):
  config = tiny(config_file.get_config('cpu'))
  config.batch, config.length = (2,), (48,)
  rows = bench.run(config, tmp_path / 'run')
  assert len(rows) == 2
  for row in rows:
    assert row['overhead'] > 0 and row['mfu'] > 0
    assert row['decode_mib'] > row['canvas_mib'] + row['chunk_mib']
  assert rows[0]['sampler'] == 'punt' and rows[0]['tokens_per_nfe'] > 2
  assert rows[1]['tokens_per_nfe'] == 1


@pytest.mark.slow
def test_cache_end_to_end(tmp_path):
  config = tiny(cache_config.get_config())
  config.update(length=32, block_length=8, prompt=(0, 8))
  config.samplers = ml_collections.ConfigDict({'top_k': {'k': 2}})
  rows = cache.run(config, tmp_path / 'run')
  assert [row['refresh'] for row in rows] == ['4.0', 'inf'] * 2
  # A block: a commit of 32 positions, then 3 questions of 8; else 4 of 32.
  assert rows[0]['positions_ratio'] == rows[1]['positions_ratio'] == 56 / 128
  assert all(0 < row['kl'] for row in rows)
