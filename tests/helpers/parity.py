"""The same weights here and in torch: configs, weights, and how to compare.

Weights are a fixed formula of their tensor's name, so that logits which torch
once computed (golden/, see twins.py) can be checked without it.
"""

import functools
import pathlib
import zlib

import flax
import jax
import numpy as np

from punt_jax.checkpoints import huggingface
from punt_jax.models.layout import pieces
from tests.helpers import families

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SMALL = {  # config.json of each architecture
  'bert': dict(
    model_type='bert', vocab_size=23, hidden_size=16, num_hidden_layers=2,
    num_attention_heads=2, intermediate_size=24, max_position_embeddings=20,
    type_vocab_size=2, layer_norm_eps=1e-12, hidden_act='gelu',
    pad_token_id=0, mask_token_id=4,
  ),
  'bert_untied': dict(  # another activation and an eps that can be seen
    model_type='bert', vocab_size=23, hidden_size=16, num_hidden_layers=2,
    num_attention_heads=4, intermediate_size=24, max_position_embeddings=20,
    type_vocab_size=1, layer_norm_eps=1e-2, hidden_act='gelu_new',
    pad_token_id=0, mask_token_id=4, tie_word_embeddings=False,
  ),
  'roberta': dict(
    model_type='roberta', vocab_size=23, hidden_size=16, num_hidden_layers=2,
    num_attention_heads=2, intermediate_size=24, max_position_embeddings=22,
    type_vocab_size=1, layer_norm_eps=1e-5, hidden_act='relu',
    pad_token_id=1, mask_token_id=22,
  ),
  'mdlm': dict(
    model_type='mdlm', vocab_size=23, hidden_dim=16, cond_dim=8, n_blocks=2,
    n_heads=2, model_length=20, dropout=0.1, time_conditioning=False,
  ),
  'llada': dict(
    model_type='llada', vocab_size=23, embedding_size=24, d_model=16,
    n_layers=2, n_heads=2, n_kv_heads=2, mlp_hidden_size=24,
    max_sequence_length=20, rope_theta=500000.0, rms_norm_eps=1e-5,
    weight_tying=False, block_type='llama', mask_token_id=20,
  ),
  'dream': dict(
    model_type='Dream', vocab_size=23, hidden_size=16, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
    max_position_embeddings=20, rope_theta=1e6, rms_norm_eps=1e-6,
    hidden_act='silu', tie_word_embeddings=False, mask_token_id=22,
  ),
  **families.SMALL,
}
SIZES = {  # keys that `wide` multiplies
  'hidden_size', 'intermediate_size', 'hidden_dim', 'cond_dim', 'vocab_size',
  'max_position_embeddings', 'model_length', 'd_model', 'mlp_hidden_size',
  'max_sequence_length', 'embedding_size', 'head_dim', 'moe_intermediate_size',
  'expert_intermediate_size', 'dense_intermediate_size',
}


def wide(config, times):
  """The same architecture, `times` as wide and as long."""
  return {
    key: value * times if key in SIZES else value
    for key, value in config.items()
  }


def arrays(plan):
  """{name of a tensor: float32 array} for a Layout: all of them matter."""
  def draw(part, name):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = part.shape[::-1] if part.matrix else part.shape
    x = random.uniform(-1.7, 1.7, shape)  # of deviation 1
    if part.path.endswith('scale'):
      x = 1 + 0.3 * x
    elif part.path.endswith('bias'):
      x = 0.3 * x
    elif part.matrix:
      x = x / shape[0] ** 0.5
    return (x.T if part.matrix else x).astype(np.float32)

  made = {}
  for name, parts in pieces(plan, huggingface.shapes(plan)).items():
    fused = len(parts) > 1
    names = [f'{name} {part.path}' if fused else name for part in parts]
    made[name] = np.concatenate(list(map(draw, parts, names)))
  return made


def parameters(plan, tensors):
  """The tree of parameters that a Layout makes of {name: array}."""
  shapes = huggingface.shapes(plan)
  flat = {path: np.zeros(x.shape, x.dtype) for path, x in shapes.items()}
  for name, parts in pieces(plan, shapes).items():
    rows = np.split(tensors[name], np.cumsum([x.shape[0] for x in parts])[:-1])
    for part, x in zip(parts, rows, strict=True):
      flat[part.path][part.index] = x.T if part.transpose else x
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def ours(config, dtype='float32', tensors=None):
  """(Layout, (tokens (N, L), valid (N, L)) -> (N, L, rows) float32 logits)."""
  plan = huggingface.layout(config)
  plan = plan._replace(module=plan.module.clone(dtype=dtype))
  params = parameters(plan, tensors or arrays(plan))
  apply = jax.jit(lambda *x: plan.module.apply({'params': params}, *x))
  return plan, lambda *x: np.asarray(apply(*x), np.float32)


@functools.cache
def small(name):
  """`ours` of a config in SMALL; what it compiled is kept."""
  return ours(SMALL[name])


def canvas(plan, rows, length, pad=0):
  """Random tokens (rows, length) and valid; row r has up to `pad` on its left.

  A quarter of the tokens is MASK; padding holds the id 1.
  """
  random = np.random.RandomState(length)
  tokens = random.randint(2, plan.vocab, (rows, length))
  tokens = np.where(random.rand(rows, length) < 0.25, plan.mask, tokens)
  left = np.arange(rows)[:, None] % (pad + 1)
  valid = np.arange(length) >= left
  # A valid token that looks like padding would be padding to RoBERTa.
  return np.where(valid, tokens, 1).astype(np.int32), valid


def error(found, wanted, valid):
  """Largest difference at valid positions, in units of the largest logit."""
  return abs(found - wanted)[valid].max() / abs(wanted[valid]).max()


def agreement(found, wanted, valid):
  """Share of the valid positions with the same best token.

  Logits in `wanted` within one step of bfloat16 (8 significant bits) may round
  to the same number: they are ties, and either token will do.
  """
  best = wanted.max(-1)
  pick = np.take_along_axis(wanted, found.argmax(-1)[..., None], -1)[..., 0]
  step = 2.0 ** (np.frexp(best)[1] - 8)
  return (best - pick <= step)[valid].mean()


def read(name):
  """A golden file: (tokens, valid, logits)."""
  with np.load(GOLDEN / f'{name}.npz') as file:
    return file['tokens'], file['valid'], file['logits']
