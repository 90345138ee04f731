"""What networks of checkpoints share: layers, a norm, names and ids."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from punt_jax.models.layout import STACKED, Source, number


def stacked(
  block: type[nn.Module], layers: int, in_axes: Any = nn.broadcast
) -> Any:
  """`block`, scanned over layers whose parameters are stacked; see nn.scan."""
  return nn.scan(
    block, variable_axes={'params': 0}, split_rngs={'params': True},
    in_axes=in_axes, length=layers,
  )


def layer_norm(module: Any, eps: float, **how: Any) -> nn.LayerNorm:
  """A LayerNorm in float32 whose parameters have the module's dtype."""
  return nn.LayerNorm(
    eps, dtype='float32', param_dtype=module.dtype, use_fast_variance=False,
    **how,
  )


def leaves(
  ours: str, names: Sequence[str], bias: bool = True
) -> dict[str, Source]:
  """Sources of a Dense, or of a LayerNorm if its path ends in norm."""
  dense, axes = not ours.endswith('norm'), int(ours.startswith(STACKED))
  each = lambda leaf: tuple(f'{name}.{leaf}' for name in names)
  weight = f'{ours}/{"kernel" if dense else "scale"}'
  found = {weight: Source(each('weight'), dense, axes)}
  if bias:
    found[f'{ours}/bias'] = Source(each('bias'), axes=axes)
  return found


def mask_id(
  config: dict[str, Any], rows: int = 2**31, default: int | None = None
) -> int:
  """config's mask_token_id, a row of an embedding with so many rows."""
  if config.get('mask_token_id', default) is None:
    raise ValueError(
      'config.json has no mask_token_id: add it, the id that the tokenizer'
      ' gives [MASK], <mask> or <|mask|>, or load with mask_id='
    )
  mask = number(config, 'mask_token_id', 0, default)
  if mask >= rows:
    raise ValueError(
      f'config.json: mask_token_id = {mask} must be below vocab_size = {rows}'
    )
  return mask
