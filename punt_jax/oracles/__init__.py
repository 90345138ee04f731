"""Exact worlds: distributions whose every conditional is known."""

from punt_jax.oracles.chain import chain, random_chain
from punt_jax.oracles.code import code, random_code
from punt_jax.oracles.documents import documents, random_documents
from punt_jax.oracles.hmm import hmm, random_hmm
from punt_jax.oracles.parity import hidden_xor, parity, xor
from punt_jax.oracles.permuted import permuted
from punt_jax.oracles.product import product
from punt_jax.oracles.strip import random_strip, strip
from punt_jax.oracles.table import random_table, table
from punt_jax.oracles.tree import random_tree, tree
from punt_jax.oracles.world import World, as_denoiser

__all__ = [
  'World',
  'as_denoiser',
  'chain',
  'code',
  'documents',
  'hidden_xor',
  'hmm',
  'parity',
  'permuted',
  'product',
  'random_chain',
  'random_code',
  'random_documents',
  'random_hmm',
  'random_strip',
  'random_table',
  'random_tree',
  'strip',
  'table',
  'tree',
  'xor',
]
