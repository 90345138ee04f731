"""BERT and RoBERTa: what their configs say, and what padding may not change."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.checkpoints import huggingface
from punt_jax.models import bert
from tests.helpers import parity

PAD = 2
ROBERTA_BASE = dict(  # as published
  model_type='roberta', vocab_size=50265, hidden_size=768,
  num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
  max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
  hidden_act='gelu', pad_token_id=1, mask_token_id=50264,
)


def config(name='bert', **changes):
  changed = parity.SMALL[name] | changes
  return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize('name', ['bert', 'roberta'])
def test_padding_changes_nothing(name):
  _, run = parity.small(name)
  tokens = np.array([4, 9, 2, 9, 5])
  sides = range(PAD + 1)
  padded = np.array([np.pad(tokens, (i, PAD - i)) for i in sides])
  valid = padded > 0
  padded += [[0], [7], [8]] * ~valid  # what stands there does not matter
  found = run(padded, valid)[valid].reshape(PAD + 1, len(tokens), -1)
  np.testing.assert_allclose(found[1:], found[:-1], atol=2e-5)
  assert abs(found[0, 1] - found[0, 3]).max() > 0.1  # places matter


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', ['bert', 'bert_untied', 'roberta'])
def test_types_and_shapes(name, dtype):
  plan = huggingface.layout(config(name))
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
  plan = bert.layout(ROBERTA_BASE)
  assert plan.length == 512 and plan.module.first == 2
  assert (plan.vocab, plan.mask, plan.shifted) == (50265, 50264, False)
  assert plan.module.eps == 1e-5 and plan.module.tied
  assert plan.sources['blocks/down/kernel'].names[11] == (
    'roberta.encoder.layer.11.output.dense.weight'
  )
  assert plan.sources['blocks/down/kernel'].transpose
  assert not plan.sources['embed/embedding'].transpose
  assert plan.sources['bias'].names == ('lm_head.bias',)
  plan = bert.layout(config('bert_untied'))
  assert plan.length == 20 and plan.module.first == 0
  assert plan.module.activation == plan.module.head_activation == 'gelu_new'
  assert plan.sources['bias'].names == ('cls.predictions.decoder.bias',)
  relu = bert.layout(config('roberta')).module
  assert (relu.activation, relu.head_activation) == ('relu', 'gelu')


@pytest.mark.parametrize(
  'name, known',
  [
    ('bert.pooler.dense.weight', True),
    ('roberta.pooler.dense.bias', True),
    ('bert.embeddings.position_ids', True),
    ('roberta.embeddings.token_type_ids', True),
    ('cls.seq_relationship.weight', True),
    ('cls.predictions.decoder.weight', True),
    ('lm_head.decoder.bias', True),
    ('bert.encoder.layer.2.output.dense.weight', False),
    ('bert.embeddings.LayerNorm.gamma', False),
    ('classifier.weight', False),
  ],
)
def test_tensors_that_are_not_read(name, known):
  ignored = bert.layout(config()).ignored
  assert any(re.fullmatch(pattern, name) for pattern in ignored) == known


@pytest.mark.parametrize(
  'name, changes, said',
  [
    ('bert', dict(mask_token_id=None), 'has no mask_token_id: add it'),
    ('bert', dict(mask_token_id=23), '23 must be below vocab_size = 23'),
    ('bert', dict(mask_token_id=-1), 'mask_token_id is -1'),
    ('bert', dict(hidden_size=None), 'hidden_size is None'),
    ('bert', dict(num_hidden_layers=0), 'num_hidden_layers is 0'),
    ('bert', dict(vocab_size='23'), "vocab_size is '23'"),
    ('bert', dict(num_attention_heads=3), 'hidden_size = 16 is not a multiple'),
    ('bert', dict(layer_norm_eps=-1.0), 'layer_norm_eps is -1.0'),
    ('bert', dict(hidden_act='swish'), "hidden_act = 'swish' is not impl"),
    ('bert', dict(hidden_act=['gelu']), r"hidden_act = \['gelu'\] is not impl"),
    ('bert', dict(position_embedding_type='relative_key'), 'relative_key'),
    ('bert', dict(is_decoder=True), 'is_decoder = True is not implemented'),
    ('roberta', dict(max_position_embeddings=2), 'leaves no position behind'),
    ('roberta', dict(pad_token_id=-1), 'pad_token_id is -1'),
  ],
)
def test_configs_that_are_refused(name, changes, said):
  with pytest.raises(ValueError, match=said):
    bert.layout(config(name, **changes))
