"""The decoders of all families in float64 NumPy, from their tensors and
config.json alone: what the tests without torch compare with.

Nothing here is shared with punt_jax/models. Masks are (N, L, L) bool: query i
sees key j.
"""

import math

import numpy as np

from tests.helpers import families


def places(valid):
  """(N, L) positions: ranks among the valid ones."""
  return np.maximum(np.cumsum(valid, 1) - 1, 0)


def sees(valid, block):
  """floor(i / block) >= floor(j / block) among valid ones; 0: all."""
  at = places(valid) // (block or valid.shape[1])
  return (at[:, :, None] >= at[:, None]) & valid[:, None]


def sees_context(valid, start, block):
  """Causal, but the `block` positions from start (N,) on see themselves."""
  at = places(valid)
  inside = (at >= start[:, None]) & (at < start[:, None] + block)
  own = inside[:, :, None] & inside[:, None]
  return ((at[:, :, None] >= at[:, None]) | own) & valid[:, None]


class Net:
  """A decoder; called with tokens (N, L), valid and a mask -> logits."""

  def __init__(self, config, arrays):
    self.config, self.block = config, families.block_length(config)
    tensors = families.renamed(config, arrays)
    self.tensors = {name: x.astype(np.float64) for name, x in tensors.items()}
    heads = config['num_attention_heads']
    self.size = config.get('head_dim', config['hidden_size'] // heads)
    self.rope = config.get('rope_parameters', config)

  def __call__(self, tokens, valid, seen=None):
    at = places(valid)
    seen = sees(valid, self.block) if seen is None else seen
    x = self.tensors['model.embed_tokens.weight'][tokens]
    for i in range(self.config['num_hidden_layers']):
      layer = f'model.layers.{i}.'
      h = self.norm(x, f'{layer}input_layernorm')
      x = x + self.attend(h, f'{layer}self_attn.', at, seen)
      h = self.norm(x, f'{layer}post_attention_layernorm')
      x = x + self.mlp(h, f'{layer}mlp.')
    h = self.norm(x, 'model.norm')
    tied = self.config['tie_word_embeddings']
    return self.linear(h, 'model.embed_tokens' if tied else 'lm_head')

  def linear(self, x, name):
    y = x @ self.tensors[f'{name}.weight'].T
    return y + self.tensors.get(f'{name}.bias', 0)

  def norm(self, x, name):
    square = (x**2).mean(-1, keepdims=True) + self.config['rms_norm_eps']
    return x / np.sqrt(square) * self.tensors[f'{name}.weight']

  def attend(self, h, name, at, seen):
    n, length, _ = h.shape
    q, k, v = (
      self.linear(h, f'{name}{part}_proj').reshape(n, length, -1, self.size)
      for part in 'qkv'
    )
    if f'{name}q_norm.weight' in self.tensors:
      q, k = self.norm(q, f'{name}q_norm'), self.norm(k, f'{name}k_norm')
    q, k = self.turn(q, at), self.turn(k, at)
    if beta := self.rope.get('llama_4_scaling_beta'):
      far = at // self.rope['original_max_position_embeddings']
      q = q * (1 + beta * np.log1p(far))[:, :, None, None]
    each = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, each, 2), np.repeat(v, each, 2)
    scores = np.einsum('nihk,njhk->nhij', q, k) / math.sqrt(self.size)
    scores = np.where(seen[:, None], scores, -1e9)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum('nhij,njhk->nihk', weights, v).reshape(n, length, -1)
    return self.linear(y, f'{name}o_proj')

  def rates(self):
    """(rates of the part of a head that turns, amplitude)."""
    rope = self.rope
    part = self.config.get('partial_rotary_factor', 1.0)
    half = int(self.size * part) // 2
    kept = rope['rope_theta'] ** (-np.arange(half) / half)
    if rope.get('rope_type') != 'yarn':
      return kept, 1.0
    turns = rope['original_max_position_embeddings'] * kept / (2 * np.pi)
    # The ramp runs between the pairs with so many turns: rounded outwards.
    number = lambda wanted: np.log(turns[0] / wanted) / np.log(
      rope['rope_theta']
    ) * half
    low = max(math.floor(number(rope['beta_fast'])), 0)
    high = min(math.ceil(number(rope['beta_slow'])), 2 * half - 1)
    slowed = np.clip((np.arange(half) - low) / max(high - low, 1e-3), 0, 1)
    grown = lambda scale: 0.1 * scale * math.log(rope['factor']) + 1
    amplitude = grown(rope['mscale']) / grown(rope['mscale_all_dim'])
    return kept * (1 - slowed) + kept / rope['factor'] * slowed, amplitude

  def turn(self, x, at):
    rates, amplitude = self.rates()
    half = len(rates)
    angle = at[:, :, None, None] * rates
    pairs = x[..., :half] + 1j * x[..., half : 2 * half]
    pairs = pairs * np.exp(1j * angle) * amplitude
    return np.concatenate([pairs.real, pairs.imag, x[..., 2 * half :]], -1)

  def mlp(self, h, name):
    if f'{name}gate.weight' not in self.tensors:
      return self.swiglu(h, name)
    rows = h.reshape(-1, h.shape[-1])
    y = np.stack([self.mixed(row, name) for row in rows])
    if f'{name}shared_experts.up_proj.weight' in self.tensors:
      y = y + self.swiglu(rows, f'{name}shared_experts.')
    return y.reshape(h.shape)

  def swiglu(self, x, name):
    gate = self.linear(x, f'{name}gate_proj')
    gate = gate / (1 + np.exp(-gate)) * self.linear(x, f'{name}up_proj')
    return self.linear(gate, f'{name}down_proj')

  def mixed(self, row, name):
    logits = self.tensors[f'{name}gate.weight'] @ row
    bias = self.tensors.get(f'{name}gate.bias', 0)
    weights = choose(self.config, logits, bias)
    return sum(
      weight * self.swiglu(row, f'{name}experts.{e}.')
      for e, weight in weights.items()
    )


def choose(config, logits, bias=0):
  """{expert: weight} of a token by its router's logits (E,)."""
  count = config['num_experts_per_tok']
  best = lambda x, count: np.argsort(-x, kind='stable')[:count]
  if config.get('score_function') == 'sigmoid':
    scores = 1 / (1 + np.exp(-logits))
    biased = scores + bias
    groups = biased.reshape(config['n_group'], -1)
    worth = np.sort(groups, 1)[:, -2:].sum(1)
    lost = np.ones(len(groups), bool)
    lost[best(worth, config['topk_group'])] = False
    biased = np.where(lost[:, None], -np.inf, groups).reshape(-1)
    chosen = best(biased, count)
  else:
    scores = np.exp(logits - logits.max())
    scores = scores / scores.sum() + bias
    chosen = best(scores, count)
  weights = scores[chosen]
  if config['norm_topk_prob']:
    weights = weights / weights.sum()
  weights = weights * (config.get('routed_scaling_factor') or 1)
  return dict(zip(chosen.tolist(), weights, strict=True))
