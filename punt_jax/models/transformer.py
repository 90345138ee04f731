"""A small bidirectional transformer for masked diffusion (flax.linen).

No time input: what is masked says how far the process is (Ou et al., 2024,
https://arxiv.org/abs/2406.03736; MDLM found the same,
https://arxiv.org/abs/2406.07524). Rotary positions (Su et al., 2021,
https://arxiv.org/abs/2104.09864), RMSNorm before each part (Zhang and Sennrich,
2019, https://arxiv.org/abs/1910.07467), squared ReLU (So et al., 2021, Primer,
arXiv https://arxiv.org/abs/2109.08668, which also found the short depthwise
convolution).

One forward pass is one question: (N, L) tokens -> (N, L, D) features, and
the head turns features into (..., V) logits.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.denoiser import from_features
from punt_jax.models.rope import rotate
from punt_jax.types import Array, Denoiser, Tree

MATRICES = ('query', 'key', 'value', 'out', 'up', 'down')  # Muon's share


class Mix(nn.Module):
  """x + a depthwise convolution of x over `taps` neighbors."""

  taps: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param(
      'kernel', nn.initializers.normal(0.1), (self.taps, x.shape[-1])
    )
    side = self.taps // 2
    padded = jnp.pad(x, ((0, 0), (side, side), (0, 0)))
    length = x.shape[1]
    shifts = (padded[:, i : i + length] * kernel[i] for i in range(self.taps))
    return x + sum(shifts)


class Block(nn.Module):
  """Attention and squared-ReLU MLP, each on a normed and mixed input."""

  heads: int
  taps: int
  widen: int = 4

  @nn.compact
  def __call__(self, x: Array, position: Array, valid: Array | None) -> Array:
    n, length, width = x.shape
    dense = lambda name, size, **kw: nn.Dense(
      size, use_bias=False, name=name, **kw
    )
    zero = nn.initializers.zeros
    h = nn.RMSNorm(name='attention_norm')(x)
    if valid is not None:  # padding must not leak through the convolution
      h = jnp.where(valid[..., None], h, 0.0)
    h = Mix(self.taps, name='mix')(h)
    split = lambda y: y.reshape(n, length, self.heads, width // self.heads)
    v = split(dense('value', width)(h))
    q, k = (
      rotate(split(dense(name, width)(h)), position).astype(v.dtype)
      for name in ('query', 'key')
    )
    mask = None if valid is None else valid[:, None, None, :]
    h = jax.nn.dot_product_attention(q, k, v, mask=mask)
    h = h.reshape(n, length, width)
    x = x + dense('out', width, kernel_init=zero)(h)
    h = nn.RMSNorm(name='mlp_norm')(x)
    h = jax.nn.relu(dense('up', self.widen * width)(h)) ** 2
    return x + dense('down', width, kernel_init=zero)(h)


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
  """

  vocab: int
  width: int = 128
  layers: int = 6
  heads: int = 4
  taps: int = 3
  places: int = 0

  def setup(self):
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
    if valid is None:
      position = jnp.arange(tokens.shape[1])[None]
    else:
      position = jnp.cumsum(valid, axis=1) - 1
    x = self.embed(tokens)
    if self.places:
      if tokens.shape[1] > self.places:
        raise ValueError(
          f'canvases of {tokens.shape[1]} positions, and this model knows'
          f' {self.places}: use at most so many'
        )
      x = x + self.place(position)
    for block in self.blocks:
      x = block(x, position, valid)
    return self.norm(x)

  def head(self, features: Array) -> Array:
    """features (..., D) -> logits (..., V) float32."""
    return self.readout(features)

  def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
    """(N, L) tokens -> (N, L, V) logits."""
    return self.head(self.features(tokens, valid))


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
  position = jnp.cumsum(valid, axis=1) - 1
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
    match = jnp.where(valid[:, None, None], match, jnp.finfo(match.dtype).min)
    layers.append(jax.nn.softmax(match).mean(1))
  return features, jnp.stack(layers, 1)


def denoiser(
  module: Transformer, params: Tree, attention: bool = False
) -> Denoiser:
  """What a sampler sees of this model: a punt_jax Denoiser.

  Args:
    module: a Transformer.
    params: its parameters, traced or not.
    attention: whether Answer.extra holds the attention (see `attend`).
  """
  apply: Any = module.apply
  method = lambda name: lambda *arrays: apply(
    {'params': params}, *arrays, method=name
  )
  features = method('features')
  if attention:
    features = lambda tokens, valid: attend(module, params, tokens, valid)
  return from_features(features, method('head'), module.vocab)
