"""What the encoders share: a norm, and how to read names and ids."""

import flax.linen as nn

from punt_jax.models.layout import Source, number


def layer_norm(module, eps, **how):
  """A LayerNorm in float32 whose parameters have the module's dtype."""
  return nn.LayerNorm(
    eps, dtype='float32', param_dtype=module.dtype, use_fast_variance=False,
    **how,
  )


def leaves(ours, names, bias=True):
  """Sources of a Dense, or of a LayerNorm if its path ends in norm."""
  dense = not ours.endswith('norm')
  each = lambda leaf: tuple(f'{name}.{leaf}' for name in names)
  weight = f'{ours}/{"kernel" if dense else "scale"}'
  found = {weight: Source(each('weight'), dense)}
  return found | {f'{ours}/bias': Source(each('bias'))} if bias else found


def mask_id(config, rows, default=None):
  """config's mask_token_id, a row of an embedding with so many rows."""
  if config.get('mask_token_id', default) is None:
    raise ValueError(
      'config.json has no mask_token_id: add it, the id that the tokenizer'
      ' gives [MASK] or <mask>'
    )
  mask = number(config, 'mask_token_id', 0, default)
  if mask >= rows:
    raise ValueError(
      f'config.json: mask_token_id = {mask} must be below vocab_size = {rows}'
    )
  return mask
