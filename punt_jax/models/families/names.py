"""How the families call the tensors of a Decoder."""

from typing import NamedTuple

from punt_jax.models.decoder import Decoder
from punt_jax.models.layout import Source


class Names(NamedTuple):
  """How a family calls its tensors; what is empty it does not have."""

  embed: str = 'model.embed_tokens.weight'
  norm: str = 'model.norm.weight'
  readout: str = 'lm_head.weight'
  layer: str = 'model.layers.{}.'  # before the names below
  attention_norm: str = 'input_layernorm'
  query: str = 'self_attn.q_proj'  # fused where query, key and value are one
  key: str = 'self_attn.k_proj'
  value: str = 'self_attn.v_proj'
  query_norm: str = 'self_attn.q_norm'
  key_norm: str = 'self_attn.k_norm'
  out: str = 'self_attn.o_proj'
  mlp_norm: str = 'post_attention_layernorm'
  gate: str = 'mlp.gate_proj'
  up: str = 'mlp.up_proj'
  down: str = 'mlp.down_proj'
  router: str = 'mlp.gate'
  router_bias: str = 'mlp.expert_bias'
  expert: str = 'mlp.experts.{}.'  # before gate_proj.weight, ..
  shared: str = 'mlp.shared_experts.'


def sources(module: Decoder, names: Names) -> dict[str, Source]:
  """{path of a parameter: Source} of a Decoder."""
  found = {
    'embed/embedding': Source((names.embed,)),
    'norm/scale': Source((names.norm,)),
  }
  first = range(module.dense if module.experts else 0)
  rest = range(len(first), module.layers)
  for group, numbers in (('first', first), ('blocks', rest)):
    if not numbers:
      continue
    tops = [names.layer.format(i) for i in numbers]
    found |= _attention(module, names, group, tops)
    if module.experts and group == 'blocks':
      found |= _experts(module.experts, names, tops)
    else:
      found |= _dense(names, ('gate', 'up', 'down'), group, tops)
  if not module.tied:
    found['readout/kernel'] = Source((names.readout,), True)
  return found


def _attention(module, names, group, tops):
  """Sources of the norms and of attention."""
  norms = ['attention_norm', 'mlp_norm']
  norms += ['query_norm', 'key_norm'] if module.qk_norm else []
  found = {}
  for part in norms:
    each = tuple(f'{top}{getattr(names, part)}.weight' for top in tops)
    found[f'{group}/{part}/scale'] = Source(each, axes=1)
  qkv = 'query', 'key', 'value'
  found |= _dense(names, qkv, group, tops, module.bias)
  return found | _dense(names, ('out',), group, tops, module.out_bias)


def _dense(names, parts, group, tops, bias=False):
  """Sources of matrices, one per layer."""
  found = {}
  for part in parts:
    each = lambda leaf: tuple(
      f'{top}{getattr(names, part)}.{leaf}' for top in tops  # noqa: B023
    )
    found[f'{group}/{part}/kernel'] = Source(each('weight'), True, 1)
    if bias:
      found[f'{group}/{part}/bias'] = Source(each('bias'), axes=1)
  return found


def _experts(settings, names, tops):
  """Sources of a router and its experts."""
  at = 'blocks/experts'
  each = lambda name: tuple(f'{top}{name}' for top in tops)
  found = {
    f'{at}/router/kernel': Source(each(f'{names.router}.weight'), True, 1)
  }
  if settings.bias:
    found[f'{at}/router/bias'] = Source(each(names.router_bias), axes=1)
  numbers = range(settings.experts)
  for part in ('gate', 'up', 'down'):
    leaf = f'{part}_proj.weight'
    found[f'{at}/{part}'] = Source(tuple(
      f'{top}{names.expert.format(e)}{leaf}' for top in tops for e in numbers
    ), axes=2)
    if settings.shared:
      found[f'{at}/shared/{part}/kernel'] = Source(
        each(f'{names.shared}{leaf}'), True, 1
      )
  return found
