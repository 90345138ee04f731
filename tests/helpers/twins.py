"""Each architecture in torch, and the golden logits they leave behind.

  python -m tests.helpers.twins   # writes golden/ anew; needs punt-jax[torch]

A twin is a function (config, {name: array}, 'float32' or 'bfloat16') -> a
function (tokens (N, L), valid (N, L)) -> logits (N, L, rows), numpy to numpy.
BERT and RoBERTa are those of the transformers library; LLaDA and Dream its
Llama and Qwen2 with a mask that lets all positions see each other (Dream's
outputs are not shifted here). MDLM's own code needs a GPU, so its twin is
written here from the paper and the tensors' names. What came later are its
Qwen3, Qwen3-MoE, Qwen2, Llama, Ministral 3 and, for LLaDA2, GLM-4-MoE, which
has the same router and turns half of a head, too, with the mask of blocks.
"""

import math

import numpy as np

from tests.helpers import families, numpy_decoder, parity


def bert(config, arrays, dtype='float32'):
  """BertForMaskedLM."""
  import transformers

  settings = transformers.BertConfig(**config)
  net = transformers.BertForMaskedLM(settings)
  return _run(net, arrays, dtype, positions=True)


def roberta(config, arrays, dtype='float32'):
  """RobertaForMaskedLM: finds its positions by the id of padding."""
  import transformers

  settings = transformers.RobertaConfig(**config)
  net = transformers.RobertaForMaskedLM(settings)
  return _run(net, arrays, dtype)


def llada(config, arrays, dtype='float32'):
  """LlamaForCausalLM under LLaDA's names."""
  import transformers

  settings = transformers.LlamaConfig(
    vocab_size=config['embedding_size'],
    hidden_size=config['d_model'],
    num_hidden_layers=config['n_layers'],
    num_attention_heads=config['n_heads'],
    num_key_value_heads=config['n_kv_heads'],
    intermediate_size=config['mlp_hidden_size'],
    rope_theta=config['rope_theta'],
    rms_norm_eps=config['rms_norm_eps'],
    attn_implementation='eager',
  )
  top = {'wte': 'model.embed_tokens', 'ln_f': 'model.norm', 'ff_out': 'lm_head'}
  inside = {
    'attn_norm': 'input_layernorm', 'ff_norm': 'post_attention_layernorm',
    'q_proj': 'self_attn.q_proj', 'k_proj': 'self_attn.k_proj',
    'v_proj': 'self_attn.v_proj', 'attn_out': 'self_attn.o_proj',
    'ff_proj': 'mlp.gate_proj', 'up_proj': 'mlp.up_proj',
    'ff_out': 'mlp.down_proj',
  }

  def rename(name):  # model.transformer.[blocks.3.]ff_out.weight
    parts = name.split('.')[2:]
    if parts[0] == 'blocks':
      return f'model.layers.{parts[1]}.{inside[parts[2]]}.weight'
    return f'{top[parts[0]]}.weight'

  arrays = {rename(name): x for name, x in arrays.items()}
  net = transformers.LlamaForCausalLM(settings)
  return _run(net, arrays, dtype, positions=True, block=0)


def dream(config, arrays, dtype='float32'):
  """Qwen2ForCausalLM."""
  import transformers

  settings = transformers.Qwen2Config(
    **config | dict(model_type='qwen2', attn_implementation='eager')
  )
  net = transformers.Qwen2ForCausalLM(settings)
  return _run(net, arrays, dtype, positions=True, block=0)


def mdlm(config, arrays, dtype='float32'):
  """MDLM's transformer at noise level 0, with plain attention."""
  import torch
  from torch.nn import functional

  kind = getattr(torch, dtype)
  prefix = 'backbone.'
  table = {
    name.removeprefix(prefix): torch.tensor(x).to(kind)
    for name, x in arrays.items()
  }
  width, heads = config['hidden_dim'], config['n_heads']
  size = width // heads

  def linear(x, name):
    return functional.linear(
      x, table[f'{name}.weight'], table.get(f'{name}.bias')
    )

  def norm(x, name):
    x = functional.layer_norm(x.float(), (width,))
    return (x * table[f'{name}.weight']).to(kind)

  def embed_level(level):
    rates = 10000.0 ** (-torch.arange(128) / 128)
    waves = torch.cat([(level * rates).cos(), (level * rates).sin()])
    h = linear(waves.to(kind), 'sigma_map.mlp.0')
    return functional.silu(linear(functional.silu(h), 'sigma_map.mlp.2'))

  def turn(x, places):  # (N, L, H, K): pairs (k, k + K / 2) are complex
    rates = 10000.0 ** (-torch.arange(0, size, 2) / size)
    angles = (places[..., None] * rates)[:, :, None]
    pairs = torch.complex(*x.float().split(size // 2, -1))
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], -1).to(kind)

  def run(tokens, valid):
    tokens, valid = torch.tensor(tokens).long(), torch.tensor(valid)
    places = torch.arange(tokens.shape[1])[None].float()  # no padding here:
    # rotary positions are relative
    level = embed_level(torch.zeros(()))
    x = table['vocab_embed.embedding'][tokens]
    for i in range(config['n_blocks']):
      at = f'blocks.{i}.'
      changes = linear(level, f'{at}adaLN_modulation').chunk(6)
      shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = changes
      h = norm(x, f'{at}norm1') * (1 + scale) + shift
      q, k, v = (
        part.reshape(*tokens.shape, heads, size)
        for part in linear(h, f'{at}attn_qkv').split(width, -1)
      )
      match = torch.einsum('nihk,njhk->nhij', turn(q, places), turn(k, places))
      match = match.float() / math.sqrt(size)
      match = match.masked_fill(~valid[:, None, None], -math.inf).softmax(-1)
      h = torch.einsum('nhij,njhk->nihk', match.to(kind), v).flatten(2)
      x = x + gate * linear(h, f'{at}attn_out')
      h = norm(x, f'{at}norm2') * (1 + scale_mlp) + shift_mlp
      h = functional.gelu(linear(h, f'{at}mlp.0'), approximate='tanh')
      x = x + gate_mlp * linear(h, f'{at}mlp.2')
    shift, scale = linear(level, 'output_layer.adaLN_modulation').chunk(2)
    h = norm(x, 'output_layer.norm_final') * (1 + scale) + shift
    return linear(h, 'output_layer.linear').float().numpy()

  return run


def decoder(config, arrays, dtype='float32'):
  """A family of tests/helpers/families.py, in the class that fits it."""
  import transformers

  kinds = {
    'sdar': 'Qwen3', 'sdar_moe': 'Qwen3Moe', 'DreamReasoner': 'Qwen3',
    'rnd1': 'Qwen3Moe', 'a2d-qwen3': 'Qwen3', 'Fast_dLLM_Qwen': 'Qwen2',
    'llama': 'Llama', 'nemotron_labs_diffusion': 'Ministral3',
    'llada': 'Qwen3Moe', 'llada2_moe': 'Glm4Moe',
  }
  said = {k: v for k, v in config.items() if k != 'architectures'}
  kind = kinds[said.pop('model_type')]
  said['attn_implementation'] = 'eager'
  if kind == 'Glm4Moe':
    said['n_routed_experts'] = said['num_experts']
    said['n_shared_experts'] = said['num_shared_experts']
    said['rope_parameters'] = dict(
      rope_type='default', rope_theta=said.pop('rope_theta'),
      partial_rotary_factor=said['partial_rotary_factor'],
    )
  if said.get('expert_intermediate_size'):  # LLaDA-MoE
    said['moe_intermediate_size'] = said['expert_intermediate_size']
    said['norm_topk_prob'] = False
  settings = getattr(transformers, f'{kind}Config')(**said)
  net = getattr(transformers, f'{kind}ForCausalLM')(settings)
  arrays = _experts_stacked(families.renamed(config, arrays))
  block = families.block_length(config)
  return _run(net, arrays, dtype, positions=True, block=block)


def _experts_stacked(arrays):
  """Tensors of experts in one, as transformers has them since 5."""
  made, parts = {}, {}
  for name, x in arrays.items():
    top, _, rest = name.partition('.experts.')
    if rest:
      number, part, _ = rest.split('.')
      parts.setdefault(top, {}).setdefault(part, {})[int(number)] = x
    else:
      name = name.replace('mlp.gate.bias', 'mlp.gate.e_score_correction_bias')
      made[name] = x
  for top, found in parts.items():
    gate, up, down = (
      np.stack([x for _, x in sorted(found[f'{part}_proj'].items())])
      for part in ('gate', 'up', 'down')
    )
    made[f'{top}.experts.gate_up_proj'] = np.concatenate([gate, up], 1)
    made[f'{top}.experts.down_proj'] = down
  return made


def plain(config, arrays, dtype='float32'):
  """What no class of transformers is, in float64 NumPy."""
  del dtype
  return numpy_decoder.Net(config, arrays)


TWINS = {
  'bert': bert, 'bert_untied': bert, 'roberta': roberta, 'mdlm': mdlm,
  'llada': llada, 'dream': dream,
  **dict.fromkeys(families.SMALL, decoder), 'llada_moe_bias': plain,
}


def _run(net, arrays, dtype, positions=False, block=None):
  """A twin from a transformers model; every tensor must have its place.

  Args:
    net: the model.
    arrays: {its name of a tensor: array}.
    dtype: of weights and activations.
    positions: whether it is told them (counted without padding).
    block: B of a mask of blocks, 0 for none at all, None for its own.
  """
  import torch

  state = {name: torch.tensor(x) for name, x in arrays.items()}
  missing, strange = net.load_state_dict(state, strict=False)
  tied = {  # the other name of a tensor that is there
    'cls.predictions.decoder.weight', 'cls.predictions.decoder.bias',
    'lm_head.decoder.weight', 'lm_head.decoder.bias',
  }
  if net.config.tie_word_embeddings:
    tied |= {'lm_head.weight'}
  idle = set() if net.config.tie_word_embeddings else {
    'cls.predictions.bias', 'lm_head.bias'
  }
  assert not strange and set(missing) <= tied | idle, (missing, strange)
  kind = getattr(torch, dtype)
  net = net.to(kind).eval()

  def run(tokens, valid, seen=None):
    if block is not None and seen is None:
      seen = numpy_decoder.sees(valid, block)
    tokens, valid = torch.tensor(tokens).long(), torch.tensor(valid)
    place = (valid.cumsum(1) - 1).clamp(min=0)
    more = dict(position_ids=place) if positions else {}
    mask = valid
    if seen is not None:  # a mask with four axes is added to the scores
      mask = torch.tensor(~seen)[:, None].to(kind) * torch.finfo(kind).min
    with torch.no_grad():
      return net(tokens, mask, **more).logits.float().numpy()

  return run


def write():
  """Golden logits of every small config."""
  parity.GOLDEN.mkdir(exist_ok=True)
  for name, twin in TWINS.items():
    config = parity.SMALL[name]
    plan, _ = parity.small(name)
    tokens, valid = parity.canvas(plan, rows=3, length=7, pad=2)
    logits = twin(config, parity.arrays(plan))(tokens, valid)
    logits = logits.astype(np.float32)
    file = parity.GOLDEN / f'{name}.npz'
    np.savez_compressed(file, tokens=tokens, valid=valid, logits=logits)
    print(f'{file.name}: {file.stat().st_size} bytes')


if __name__ == '__main__':
  write()
