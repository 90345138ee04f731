"""Small networks beside a frozen denoiser: which positions, in what order?

`Policy` decides for each masked position whether it is written now
(samplers.learned). `Pairs` predicts how far writing one position moves the
prediction at another (samplers.influence, punt(admit=thin(...))), as DEMASK
does (Ringel et al. https://arxiv.org/abs/2604.02560). Both read what the
forward pass of the step has already computed, so a step costs one pass and
little more.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax import checks
from punt_jax.models import transformer
from punt_jax.types import Array, InfluenceFn, PolicyFn, Tree, View


class Policy(nn.Module):
  """A logit per position, from a small transformer.

  Attributes:
    sees: 'confidence': of each position whether it is masked and the largest
      probability, as in Jazbec et al. (https://arxiv.org/abs/2512.09106);
      'features': also entropy, margin, the steps left, and the denoiser's
      features.
    width: of the transformer.
    layers: blocks; one in the paper.
    heads: attention heads.
    start: at initialization the logit is (start + slope * confidence) divided
      by temperature, a soft threshold.
    slope: see start; both are learned from there.
    temperature: of all logits; small ones make draws nearly certain. Fox et
      al. report 0.05 to 0.1, against writing everything early.
  """

  sees: str = 'features'
  width: int = 32
  layers: int = 1
  heads: int = 4
  start: float = 0.0
  slope: float = 0.0
  temperature: float = 1.0

  @nn.compact
  def __call__(
    self, view: View, left: Array, more: Sequence[Array] = ()
  ) -> Array:
    """(N, L) logits.

    Args:
      view: View of N rows.
      left: (N,) steps left, this one included; may be inf.
      more: further numbers (N, L) that the network sees.
    """
    checks.known('sees', self.sees, ('confidence', 'features'))
    numbers = [view.masked, view.confidence]
    if self.sees == 'features':
      spread = lambda x: jnp.broadcast_to(x[:, None], view.masked.shape)
      share = view.masked.sum(-1) / jnp.maximum(view.total, 1)
      numbers += [view.entropy, view.margin, spread(1 / left), spread(share)]
    numbers = jnp.stack([*numbers, *more], -1).astype(jnp.float32)
    x = nn.Dense(self.width, name='numbers')(numbers)
    if self.sees == 'features':
      x += nn.Dense(self.width, use_bias=False, name='features')(view.features)
    valid = jnp.diff(view.position, axis=1, prepend=-1) > 0
    for i in range(self.layers):
      block = transformer.Block(self.heads, taps=1, name=f'blocks_{i}')
      x, _ = block(x, view.position, valid, valid[:, None, None])
    x = nn.RMSNorm(name='norm')(x)
    out = nn.Dense(1, False, kernel_init=nn.initializers.zeros, name='out')
    number = lambda name: self.param(
      name, nn.initializers.constant(getattr(self, name)), ()
    )
    logit = number('start') + number('slope') * view.confidence
    return (out(x)[..., 0] + logit) / self.temperature


class Pairs(nn.Module):
  """Influence (N, L, L) in nats, from the denoiser's features.

  softplus(q_i . k_j + b(j - i) + c(i, j)): entry i, j is how far writing
  position i moves the prediction at position j. q and k are linear in a hidden
  layer that sees the features and how sure the prediction is.

  Attributes:
    width: of q and k.
    hidden: units of the hidden layer.
    reach: distances below this have a bias b of their own, each way, and all
      others share one.
    places: positions whose every pair has a bias c of its own, for canvases on
      which they mean something (a grid); 0: only distances are known.
  """

  width: int = 32
  hidden: int = 64
  reach: int = 32
  places: int = 0

  @nn.compact
  def __call__(self, view: View) -> Array:
    """(N, L, L); `view` is a View of N rows.

    Raises:
      ValueError: more positions than `places`.
    """
    sure = view.masked, view.entropy, view.confidence, view.margin
    seen = jnp.concatenate(
      [jnp.asarray(view.features), jnp.stack(sure, -1)], -1
    )
    x = nn.relu(nn.Dense(self.hidden, name='hidden')(seen))
    query, key = (nn.Dense(self.width, name=n)(x) for n in ('query', 'key'))
    match = jnp.einsum('nid,njd->nij', query, key) / self.width**0.5
    i, j = view.position[:, :, None], view.position[:, None, :]
    zeros = nn.initializers.zeros
    near = self.param('near', zeros, (2 * self.reach + 1,))
    bias = near[jnp.clip(j - i, -self.reach, self.reach) + self.reach]
    if self.places:
      if view.position.shape[1] > self.places:
        raise ValueError(
          f'canvases of {view.position.shape[1]} positions, and this head knows'
          f' {self.places}: use at most so many, or a head with places=0'
        )
      bias += self.param('place', zeros, (self.places, self.places))[i, j]
    start = self.param('start', nn.initializers.constant(-3.0), ())
    return nn.softplus(match + bias + start)


def policy(module: Policy, params: Tree) -> PolicyFn:
  """(View of a row, steps left) -> logits (L,), for samplers.learned."""
  return lambda view, left: module.apply(
    {'params': params}, *_batched((view, left))
  )[0]


def pairs(module: Pairs, params: Tree) -> InfluenceFn:
  """View of a row -> influence (L, L) in nats, for samplers.thin."""
  return lambda view: module.apply({'params': params}, *_batched((view,)))[0]


KINDS = {'policy': (Policy, policy), 'pairs': (Pairs, pairs)}


def _batched(row):
  return jax.tree.map(lambda x: jnp.asarray(x)[None], row)
