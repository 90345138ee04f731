"""Networks: flax modules, and what a sampler sees of them."""

from punt_jax.models.transformer import Transformer, denoiser

__all__ = ['Transformer', 'denoiser']
