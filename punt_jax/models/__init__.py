"""Networks, and the models that ship with the package."""

from punt_jax.models.pretrained import Pretrained, load, names, pretrained
from punt_jax.models.transformer import Transformer, denoiser

__all__ = [
  'Pretrained', 'Transformer', 'denoiser', 'load', 'names', 'pretrained',
]
