"""MDLM's transformer: its config, its vocabulary, and padding."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.checkpoints import huggingface
from punt_jax.models import dit
from tests.helpers import parity

PAD = 2
OPENWEBTEXT = dict(  # as published: kuleshov-group/mdlm-owt
  model_type='mdlm', vocab_size=50258, hidden_dim=768, cond_dim=128,
  n_blocks=12, n_heads=12, model_length=1024, dropout=0.1,
  time_conditioning=False,
)


def config(**changes):
  changed = parity.SMALL['mdlm'] | changes
  return {key: value for key, value in changed.items() if value is not None}


def test_padding_changes_nothing():
  _, run = parity.small('mdlm')
  tokens = np.array([4, 9, 22, 9, 5])
  sides = range(PAD + 1)
  padded = np.array([np.pad(tokens, (i, PAD - i)) for i in sides])
  valid = padded > 0
  padded += [[0], [7], [8]] * ~valid  # what stands there does not matter
  found = run(padded, valid)[valid].reshape(PAD + 1, len(tokens), -1)
  np.testing.assert_allclose(found[1:], found[:-1], atol=2e-5)
  assert abs(found[0, 1] - found[0, 3]).max() > 0.1  # places matter


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_types_and_shapes(dtype):
  plan = huggingface.layout(config())
  module = plan.module.clone(dtype=dtype)
  flat = huggingface.shapes(plan._replace(module=module))
  assert flat.keys() == plan.sources.keys()
  assert {x.dtype for x in flat.values()} == {jnp.dtype(dtype)}
  shape = jax.ShapeDtypeStruct
  tree = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2), int))
  call = lambda method, x: jax.eval_shape(
    lambda tree, x: module.apply(tree, x, method=method), tree, x
  )
  assert call('features', shape((3, 5), int)) == shape((3, 5, 16), dtype)
  logits = call('head', shape((2, 3, 16), dtype))
  assert logits == shape((2, 3, 23), 'float32')


def test_layout_follows_the_config():
  plan = dit.layout(OPENWEBTEXT)
  # MASK is the last row: it is no token, so nothing can predict it.
  assert (plan.vocab, plan.mask, plan.length) == (50257, 50257, 1024)
  count = sum(np.prod(x.shape) for x in huggingface.shapes(plan).values())
  assert round(count / 1e6, 1) == 169.6  # as its authors count
  qkv = plan.sources['blocks/qkv/kernel']
  assert qkv.names[11] == 'backbone.blocks.11.attn_qkv.weight'
  assert qkv.transpose and len(qkv.names) == 12
  # A tokenizer with a MASK of its own, such as BERT's, keeps it.
  plan = dit.layout(OPENWEBTEXT | dict(vocab_size=30522, mask_token_id=103))
  assert (plan.vocab, plan.mask) == (30522, 103)
  names = 'backbone.rotary_emb.inv_freq', 'backbone.blocks.12.norm1.weight'
  read = [any(re.fullmatch(p, name) for p in plan.ignored) for name in names]
  assert read == [True, False]


def test_the_model_never_predicts_mask():
  plan, _ = parity.small('mdlm')
  params = parity.parameters(plan, parity.arrays(plan))
  model = huggingface.denoiser(plan, params)
  features = jnp.ones((2, 16))
  assert jax.eval_shape(model.read, features).shape == (2, 22)


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(time_conditioning=True), 'time_conditioning = True is not impl'),
    (dict(hidden_dim=None), 'hidden_dim is None'),
    (dict(n_blocks=0), 'n_blocks is 0'),
    (dict(n_heads=3), 'hidden_dim = 16 is not an even multiple of n_heads'),
    (dict(n_heads=16), 'hidden_dim = 16 is not an even multiple of n_heads'),
    (dict(vocab_size=1), 'vocab_size is 1'),
    (dict(cond_dim=2.5), 'cond_dim is 2.5'),
    (dict(model_length=True), 'model_length is True'),
    (dict(mask_token_id=23), '23 must be below vocab_size = 23'),
  ],
)
def test_configs_that_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    dit.layout(config(**changes))
