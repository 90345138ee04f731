"""A model's rows beside other rows, alone, and under padding.

A transformer's sums differ by some 1e-6 between shapes, so a decision may
differ, but only where it was within 1e-4 of its boundary: such rows are
counted and printed, any other difference fails. In bfloat16 rows do differ:
how many is printed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import checkpoints, samplers
from punt_jax.cli import random_checkpoint

L, PAD, EPSILON, SEEDS = 24, 5, 0.05, 6


LOADED = ('llada', 'dream', 'mdlm', 'bert')


@pytest.fixture(scope='module')
def load(tmp_path_factory):
  """A random checkpoint of an architecture, in float32."""

  def load(kind, dtype='float32'):
    path = tmp_path_factory.mktemp('checkpoint') / kind
    random_checkpoint.write(path, kind, 'tiny', dtype=dtype)
    return checkpoints.load(path)

  return load


@pytest.mark.parametrize('kind', [
  'llada',
  *(pytest.param(kind, marks=pytest.mark.slow) for kind in LOADED[1:]),
])
def test_features_agree(kind, load):
  loaded = load(kind)

  @jax.jit
  def features(params, tokens, valid):
    model = loaded.denoiser(params)
    memo = model.init(tokens, valid)
    return model.ask(memo, tokens, valid.any(-1))[1].features

  tokens = jax.random.randint(jax.random.key(0), (3, L), 0, 256)
  tokens = np.where(np.arange(L) % 3 == 1, loaded.text.vocab, tokens)
  whole = np.ones((3, L), bool)
  with jax.default_matmul_precision('highest'):
    beside = features(loaded.params, tokens, whole)[:1]
    alone = features(loaded.params, tokens[:1], whole[:1])
    pad = ((0, 0), (PAD, 0))
    padded = features(
      loaded.params, np.pad(tokens[:1], pad, constant_values=7),
      np.pad(whole[:1], pad),
    )[:, PAD:]
  scale = np.abs(beside).max()
  assert scale > 1
  np.testing.assert_allclose(alone, beside, atol=1e-5 * scale)
  np.testing.assert_allclose(padded, beside, atol=1e-5 * scale)


@pytest.fixture(scope='module', params=[
  'shakespeare',
  *(pytest.param(kind, marks=pytest.mark.slow) for kind in LOADED),
])
def setup(request, load):
  kind = request.param
  loaded = load(kind) if kind in LOADED else checkpoints.load(kind)
  build = lambda params, hyperparams: (
    loaded.denoiser(params), samplers.punt(EPSILON, score='entropy')
  )
  run = punt_jax.compile(build, L, driver=punt_jax.decode.film)
  tokens = np.full((3, L), loaded.text.vocab, np.int32)
  tokens[:, :6] = loaded.text.encode('ROMEO:')
  return loaded, run, tokens


def close_call(moves, other):
  """Whether the first differing step has a KL within 1e-4 of epsilon."""
  differs = (moves.tokens[:, 0] != other.tokens[:, 0]).any(-1)
  step = int(np.argmax(differs))
  kl = np.asarray(moves.info.divergence[step, 0])
  return np.nanmin(np.abs(kl - EPSILON), initial=np.inf) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize('where', ['alone', 'left', 'right'])
def test_rows_agree(setup, where):
  loaded, run, tokens = setup
  close = 0
  for seed in range(SEEDS):
    key = jax.random.key(seed)
    _, beside = run(loaded.params, (), key, tokens)
    shift = PAD if where == 'left' else 0
    pad = ((0, 0), (shift, PAD if where == 'right' else 0))
    row = np.pad(tokens[:1], pad)
    valid = np.pad(np.ones((1, L), bool), pad)
    _, moves = run(loaded.params, (), key, row, valid=valid)
    inside = slice(shift, shift + L)
    moves = moves._replace(
      tokens=moves.tokens[..., inside],
      info=moves.info._replace(
        divergence=moves.info.divergence[..., inside]
      ),
    )
    if (moves.tokens[:, 0] != beside.tokens[:, 0]).any():
      assert close_call(moves, beside)
      close += 1
  print(f'{where}: {close} of {SEEDS} rows differ after a close call')


def in_bfloat16(kind, load):
  """(Pretrained, its parameters in bfloat16)."""
  loaded = load(kind, 'bfloat16') if kind in LOADED else checkpoints.load(kind)
  half = lambda x: x.astype(jnp.bfloat16)
  return loaded, jax.tree.map(half, loaded.params)


@pytest.mark.parametrize('kind', ['shakespeare', 'llada', 'mdlm', 'bert'])
def test_bfloat16_features_are_read_in_float32(kind, load):
  # The sums of the head, and all that follows: half precision would be off by
  # 2^-9 of a logit, and tie.
  loaded, params = in_bfloat16(kind, load)
  model, mask = loaded.denoiser(params), loaded.text.vocab
  ask = lambda tokens: model.ask(
    model.init(tokens, tokens > 0), tokens, jnp.ones(1, bool)
  )[1].features
  like = jax.eval_shape(ask, jnp.full((1, 4), mask))
  assert like.dtype == jnp.bfloat16
  features = jax.random.normal(jax.random.key(0), (64, like.shape[-1]))
  features = features.astype(jnp.bfloat16)
  whole = lambda x: x.astype(jnp.float32)
  module = loaded.module
  if hasattr(module, 'dtype'):
    module = module.clone(dtype='float32')
  with jax.default_matmul_precision('highest'):
    logits = module.apply(
      {'params': jax.tree.map(whole, params)}, whole(features), method='head'
    )
  ids = np.arange(model.vocab)
  keep = ids[ids != model.mask]
  wanted = jax.nn.log_softmax(logits[:, keep])
  found = model.read(features)
  assert found.dtype == jnp.float32
  scale = abs(wanted).max()
  np.testing.assert_allclose(found[:, keep], wanted, atol=1e-6 * scale)


def rows_that_differ(loaded, params, count=64, length=32, pad=16):
  """How many rows' texts, in batches of 8 and padded, against all at once."""
  run = punt_jax.compile(lambda params, _: (
    loaded.denoiser(params), samplers.top_k(2, 'entropy')
  ))
  tokens = np.full((count, length), loaded.text.vocab)
  tokens[:, :4] = jax.random.randint(jax.random.key(1), (count, 4), 0, 60)
  key, numbers = jax.random.key(0), np.arange(count)
  whole = run(params, (), key, tokens).tokens
  parts = [
    run(params, (), key, tokens[i : i + 8], rows=numbers[i : i + 8]).tokens
    for i in range(0, count, 8)
  ]
  side = (0, 0), (pad, 0)
  valid = np.pad(np.ones(tokens.shape, bool), side)
  padded = run(params, (), key, np.pad(tokens, side), valid=valid).tokens
  differ = lambda x: int((x != whole).any(1).sum())
  return differ(np.concatenate(parts)), differ(padded[:, pad:])


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['llada', 'shakespeare'])
def test_how_many_rows_differ_in_bfloat16(kind, load):
  loaded, half = in_bfloat16(kind, load)
  print(f'{kind}, bfloat16: {rows_that_differ(loaded, half)} of 64 differ')
  loaded = load(kind, 'float32') if kind in LOADED else loaded
  assert rows_that_differ(loaded, loaded.params) == (0, 0)
