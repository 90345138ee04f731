"""Exact worlds: laws whose every conditional is known, to test samplers on."""

from punt_jax.oracles.chain import chain, random_chain
from punt_jax.oracles.parity import hidden_xor, parity, xor
from punt_jax.oracles.permuted import permuted
from punt_jax.oracles.product import product
from punt_jax.oracles.table import random_table, table
from punt_jax.oracles.world import World, as_denoiser

__all__ = [
  'World',
  'as_denoiser',
  'chain',
  'hidden_xor',
  'parity',
  'permuted',
  'product',
  'random_chain',
  'random_table',
  'table',
  'xor',
]
