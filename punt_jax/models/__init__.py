"""Networks, and the models that ship with the package."""

from punt_jax.models.pretrained import Pretrained, known, load, pretrained
from punt_jax.models.transformer import Transformer, denoiser

__all__ = [
  'Pretrained', 'Transformer', 'denoiser', 'known', 'load', 'pretrained',
]
