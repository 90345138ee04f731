"""A small transformer for masked diffusion, full or block-causal (flax.linen).

No time input: what is masked says how far the process is (Ou et al., 2024,
https://arxiv.org/abs/2406.03736; MDLM found the same,
https://arxiv.org/abs/2406.07524). Rotary positions (Su et al., 2021,
https://arxiv.org/abs/2104.09864), RMSNorm before each part (Zhang and Sennrich,
2019, https://arxiv.org/abs/1910.07467), squared ReLU (So et al., 2021, Primer,
arXiv https://arxiv.org/abs/2109.08668, which also found the short depthwise
convolution).

One forward pass is one question: (N, L) tokens -> (N, L, D) features, and
the head turns features into (..., V) logits.

Block-causal (Arriola et al., 2025, BD3-LM, https://arxiv.org/abs/2503.09573): a
position sees its own block and those before it. Blocks are cut at multiples of
block_length, and the convolution ends at their edges, so that nothing later
changes the keys and values of a finished block.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.block_cache import from_blocks
from punt_jax.denoiser import from_features
from punt_jax.models import block_masks
from punt_jax.models.attention import Past, Reach
from punt_jax.models.rope import rotate
from punt_jax.models.transformer_block import Block
from punt_jax.types import FAR, Array, Denoiser, Tree

MATRICES = ('query', 'key', 'value', 'out', 'up', 'down')  # Muon's share


class Transformer(nn.Module):
  """Attributes are plain numbers; width must be an even multiple of heads.

  Attributes:
    vocab: V; the id V is MASK and has its own input embedding.
    width: D.
    layers: blocks.
    heads: attention heads.
    taps: neighbors that the depthwise convolution sees, odd.
    places: positions with a learned embedding of their own, for canvases on
      which they mean something (a grid); 0: only distances are known.
    attention: 'full', or 'block_causal'.
    block_length: positions of a block; 0 with full attention.
  """

  vocab: int
  width: int = 128
  layers: int = 6
  heads: int = 4
  taps: int = 3
  places: int = 0
  attention: str = 'full'
  block_length: int = 0

  def setup(self):
    block_masks.check(self.attention, self.block_length, self.places)
    self.embed = nn.Embed(self.vocab + 1, self.width)
    if self.places:
      self.place = nn.Embed(self.places, self.width)
    self.blocks = [Block(self.heads, self.taps) for _ in range(self.layers)]
    self.norm = nn.RMSNorm()
    self.readout = nn.Dense(
      self.vocab,
      use_bias=False,
      kernel_init=nn.initializers.zeros,
      precision='highest',
      dot_general=functools.partial(
        jax.lax.dot_general, preferred_element_type=jnp.float32
      ),
    )

  def features(self, tokens: Array, valid: Array | None = None) -> Array:
    """What the readout needs.

    Args:
      tokens: (N, L) int32 in [0, V].
      valid: (N, L) bool, one run of True per row, or None for all True.
        Padding on either side changes nothing at the valid positions.

    Returns:
      (N, L, D), in the dtype of the parameters.

    Raises:
      ValueError: more positions than `places`.
    """
    _check_room(self, tokens)
    position = block_masks.positions(tokens.shape[1], valid)
    x = self._embedded(tokens, position)
    seen, block = block_masks.of_canvas(position, valid, self.block_length)
    for layer in self.blocks:
      x, _ = layer(x, position, valid, seen, block)
    return self.norm(x)

  def window(
    self, past: Tree, past_position: Array | None, past_reach: Array | None,
    tokens: Array, position: Array, reach: Array | None,
  ) -> tuple[Array, Tree]:
    """Some positions that follow each other, given keys and values of others.

    They begin where a block does. Row b of the past serves the N / B probes
    from b N / B on.

    Args:
      past: keys and values, leaves (layers, B, S, H, K), or None.
      past_position: (B, S) int32; FAR where nothing is.
      past_reach: (N,) int32, the last position of the past that is seen.
      tokens: (N, W) int32 in [0, V].
      position: (N, W) int32; FAR for padding.
      reach: (N, W) int32, the last of these positions that each one sees, or
        None for all.

    Returns:
      features (N, W, D), and the own keys and values, (layers, N, W, H, K).

    Raises:
      ValueError: a model with full attention.
    """
    self._need_blocks()
    place = jnp.minimum(position, (self.places or FAR + 1) - 1)
    x = self._embedded(tokens, place)
    reach = jnp.full_like(position, FAR - 1) if reach is None else reach
    seen, block, own = Reach(position, reach), position // self.block_length, []
    for i, layer in enumerate(self.blocks):
      before = None
      if past_position is not None and past_reach is not None:
        key, value = jax.tree.map(lambda leaf, i=i: leaf[i], past)
        before = Past(key, value, past_position, past_reach)
      x, pair = layer(x, position, None, seen, block, before)
      own.append(pair)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    return self.norm(x), stacked

  def two_halves(self, noised: Array, clean: Array) -> Array:
    """Logits of every block, noised, where all blocks before it are clean.

    One pass over 2 L positions, see block_masks.of_halves.

    Args:
      noised: (N, L) int32 in [0, V].
      clean: (N, L) int32 in [0, V).

    Returns:
      (N, L, V).

    Raises:
      ValueError: a model with full attention, or more positions than `places`.
    """
    _check_room(self, noised)
    self._need_blocks()
    length = noised.shape[1]
    position, seen, block = block_masks.of_halves(length, self.block_length)
    x = self._embedded(jnp.concatenate([noised, clean], 1), position)
    for layer in self.blocks:
      x, _ = layer(x, position, None, seen, block)
    return self.head(self.norm(x[:, :length]))

  def _need_blocks(self):
    if not self.block_length:
      raise ValueError(
        'this model has full attention, and no blocks: use one with attention ='
        " 'block_causal'"
      )

  def _embedded(self, tokens, position):
    x = self.embed(tokens)
    return x + self.place(position) if self.places else x

  def head(self, features: Array) -> Array:
    """features (..., D) -> logits (..., V) float32."""
    return self.readout(features)

  def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
    """(N, L) tokens -> (N, L, V) logits."""
    return self.head(self.features(tokens, valid))


def _check_room(module, tokens):
  length = tokens.shape[1]
  if 0 < module.places < length:
    raise ValueError(
      f'canvases of {length} positions, and this model knows'
      f' {module.places}: use at most so many'
    )


def attend(
  module: Transformer, params: Tree, tokens: Array, valid: Array
) -> tuple[Array, Array]:
  """Features, and the attention of every layer, mean over heads.

  The weights are computed beside the forward pass, which never forms them:
  one (N, H, L, L) array at a time.

  Returns:
    features (N, L, D), attention (N, K, L, L); attention[n, k, i, j] is what
    position i takes from j in layer k, 0 for padding j.
  """
  apply: Any = module.apply  # what it returns depends on `mutable`
  features, state = apply(
    {'params': params}, tokens, valid, method='features',
    mutable='intermediates',
    capture_intermediates=lambda part, _: part.name in ('query', 'key'),
  )
  position = block_masks.positions(tokens.shape[1], valid)
  sees: Any = block_masks.of_canvas(position, valid, module.block_length)[0]
  layers = []
  for k in range(module.layers):
    seen = state['intermediates'][f'blocks_{k}']
    query, key = (
      rotate(
        seen[name]['__call__'][0].reshape(*tokens.shape, module.heads, -1),
        position,
      ) for name in ('query', 'key')
    )
    match = jnp.einsum('nihc,njhc->nhij', query, key) / query.shape[-1] ** 0.5
    match = jnp.where(sees, match, jnp.finfo(match.dtype).min)
    layers.append(jax.nn.softmax(match).mean(1))
  return features, jnp.stack(layers, 1)


def denoiser(
  module: Transformer, params: Tree, attention: bool = False,
  cached: bool = True,
) -> Denoiser:
  """What a sampler sees of this model: a punt_jax Denoiser.

  Args:
    module: a Transformer.
    params: its parameters, traced or not.
    attention: whether Answer.extra holds the attention (see `attend`); whole
      canvases are computed then.
    cached: of a block-causal model, whether keys and values of finished blocks
      are kept (see block_cache.py). It changes what is computed, not what is
      written.
  """
  apply: Any = module.apply
  method = lambda name: lambda *arrays: apply(
    {'params': params}, *arrays, method=name
  )
  if module.block_length and not attention:
    model = from_blocks(
      method('window'), method('head'), module.vocab, module.block_length,
      cached=cached,
    )

    def init(tokens, valid):
      _check_room(module, tokens)
      return model.init(tokens, valid)

    return model._replace(init=init)
  features = method('features')
  if attention:
    features = lambda tokens, valid: attend(module, params, tokens, valid)
  return from_features(features, method('head'), module.vocab)
