"""A mixture of experts: every token through its own few of many MLPs.

Dropless, as in MegaBlocks (Gale et al., 2022, https://arxiv.org/abs/2211.15841):
an expert has as many rows as tokens chose it, sorted to stand together. Two
routers: softmax (Qwen3-MoE, SDAR, RND1, LLaDA-MoE), and sigmoid with groups of
experts (DeepSeek-V3, https://arxiv.org/abs/2412.19437; LLaDA2).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from punt_jax.checks import known
from punt_jax.models import grouped
from punt_jax.types import Array


class Settings(NamedTuple):
  """What a mixture is made of.

  experts: E.
  chosen: K of them, for each token.
  hidden: I, width of an expert.
  router: 'softmax' or 'sigmoid', which scores become the weights.
  renormalize: whether the K weights are divided by their sum.
  scale: that the weights are multiplied with at last.
  groups: of E / groups experts; a group's score is its two best experts' sum.
  chosen_groups: the best groups, the only ones that experts are taken from.
  bias: whether each expert has one. It is added to a softmax, and to a sigmoid
    only for choosing.
  shared: width of an expert that all tokens pass, or 0.
  """

  experts: int
  chosen: int
  hidden: int
  router: str
  renormalize: bool
  scale: float = 1.0
  groups: int = 1
  chosen_groups: int = 1
  bias: bool = False
  shared: int = 0


def check(settings: Settings) -> Settings:
  """The settings; ValueError, one sentence, if they cannot be."""
  known('router', settings.router, ('softmax', 'sigmoid'))
  experts, groups = settings.experts, settings.groups
  if experts % groups or (groups > 1 and experts < 2 * groups):
    raise ValueError(
      f'{experts} experts in {groups} groups: groups must be of one size, two'
      ' experts at least'
    )
  if not 1 <= settings.chosen_groups <= groups:
    raise ValueError(
      f'chosen_groups = {settings.chosen_groups} must be in [1, {groups}], the'
      ' number of groups'
    )
  there = settings.chosen_groups * (experts // groups)
  if not 1 <= settings.chosen <= there:
    raise ValueError(
      f'chosen = {settings.chosen} must be in [1, {there}], the experts that'
      ' a token may choose from'
    )
  return settings


def route(
  settings: Settings, logits: Array, bias: Array | None = None
) -> tuple[Array, Array]:
  """Who goes where.

  Args:
    settings: see Settings.
    logits: (T, E) float32.
    bias: (E,) float32 if settings.bias.

  Returns:
    (T, K) int32 experts, best first, of equals the first; (T, K) float32
    weights.
  """
  softmax = settings.router == 'softmax'
  scores = jax.nn.softmax(logits) if softmax else jax.nn.sigmoid(logits)
  biased = scores if bias is None else scores + bias
  allowed = _in_best_groups(settings, biased)
  _, experts = jax.lax.top_k(allowed, settings.chosen)
  found = biased if softmax else scores
  weights = jnp.take_along_axis(found, experts, 1)
  if settings.renormalize:
    weights /= weights.sum(1, keepdims=True) + (0 if softmax else 1e-20)
  return experts, weights * settings.scale


def _in_best_groups(settings, scores):
  """scores (T, E), -inf where a token's group is not among the best."""
  if settings.groups == 1:
    return scores
  groups = scores.reshape(len(scores), settings.groups, -1)
  total = jax.lax.top_k(groups, 2)[0].sum(-1)
  _, best = jax.lax.top_k(total, settings.chosen_groups)
  among = (best[:, :, None] == jnp.arange(settings.groups)).any(1)
  return jnp.where(among[:, :, None], groups, -jnp.inf).reshape(scores.shape)


class Router(nn.Module):
  """(T, D) -> experts and weights (T, K), in float32; attributes of Experts."""

  settings: Settings
  dtype: str

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    shape = x.shape[-1], self.settings.experts
    draw = nn.initializers.lecun_normal()
    kernel = self.param('kernel', draw, shape, self.dtype)
    bias = None
    if self.settings.bias:  # a checkpoint keeps it in float32
      zeros = nn.initializers.zeros
      bias = self.param('bias', zeros, shape[1:], jnp.float32)
    logits = jnp.matmul(
      x.astype(jnp.float32), kernel.astype(jnp.float32),
      precision=jax.lax.Precision.HIGHEST,
    )
    return route(self.settings, logits, bias)


class Shared(nn.Module):
  """The gated MLP that all tokens pass, `hidden` wide."""

  hidden: int
  dtype: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    dense = lambda name, wide: nn.Dense(
      wide, use_bias=False, name=name, dtype=self.dtype, param_dtype=self.dtype
    )
    h = jax.nn.silu(dense('gate', self.hidden)(x))
    return dense('down', x.shape[-1])(h * dense('up', self.hidden)(x))


class Experts(nn.Module):
  """The layer that stands in place of an MLP.

  Parameters: router/kernel (D, E), router/bias (E,) float32, gate and up
  (E, I, D) and down (E, D, I), [out, in] as in checkpoints: half the time on a
  CPU; shared/{gate,up,down}/kernel.

  Attributes:
    settings: see Settings.
    dtype: of weights and products, 'bfloat16' or 'float32'.
  """

  settings: Settings
  dtype: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """x (N, L, D) -> (N, L, D), each position for itself."""
    settings, width = check(self.settings), x.shape[-1]
    tokens = x.reshape(-1, width).astype(self.dtype)
    chosen, weights = Router(settings, self.dtype, name='router')(tokens)
    draw = nn.initializers.lecun_normal(-1, -2, batch_axis=0)
    own = lambda name, *shape: self.param(
      name, draw, (settings.experts, *shape), self.dtype
    )
    mlps = (
      own('gate', settings.hidden, width), own('up', settings.hidden, width),
      own('down', width, settings.hidden),
    )
    y = grouped.mixture(tokens, chosen, weights, mlps)
    if settings.shared:
      y += Shared(settings.shared, self.dtype, name='shared')(tokens)
    return y.astype(self.dtype).reshape(x.shape)
