"""A model's rows beside other rows, alone, and under padding.

A transformer's sums differ by some 1e-6 between shapes, so a decision may
differ, but only where it was within 1e-4 of its boundary: such rows are
counted and printed, any other difference fails.
"""

import jax
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

  def load(kind):
    path = tmp_path_factory.mktemp('checkpoint') / kind
    random_checkpoint.write(path, kind, 'tiny', dtype='float32')
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


@pytest.mark.parametrize('where', [
  pytest.param('alone', marks=pytest.mark.slow),
  pytest.param('left', marks=pytest.mark.slow), 'right',
])
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
