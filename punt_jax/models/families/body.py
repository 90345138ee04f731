"""What the families of decoders share: sizes, RoPE, blocks and experts.

Every key of a config.json is asked for here or in its family's file; one that
nobody asks for is refused by checkpoints/huggingface.py.
"""

from typing import Any

from punt_jax.models import moe
from punt_jax.models.decoder import Decoder
from punt_jax.models.families.names import Names, sources
from punt_jax.models.layout import Layout, fixed, flag, layers, number
from punt_jax.models.parts import mask_id
from punt_jax.models.rope import Rope, Yarn, amplitude

BLOCK_KEYS = 'block_length', 'block_size', 'bd_size'  # of a config.json
PLAIN = {'rope_type', 'type', 'rope_theta', 'partial_rotary_factor'}
SCALED = {'llama_4_scaling_beta', 'original_max_position_embeddings'}
YARN = {
  'factor', 'beta_fast', 'beta_slow', 'attention_factor', 'mscale',
  'mscale_all_dim', 'truncate',
}


def said(config: dict[str, Any]) -> str:
  """What a config calls its model and the model's code, in small letters."""
  names = [config.get('model_type')]
  more = config.get('architectures'), config.get('auto_map')
  for value in more:
    value = list(value.values()) if isinstance(value, dict) else value
    names += value if isinstance(value, list) else [value]
  return ' '.join(x for x in names if isinstance(x, str)).lower()


def decoder(config: dict[str, Any], **switches: Any) -> Decoder:
  """A Decoder of the sizes in a config.json of transformers' Llama or Qwen.

  Args:
    config: config.json.
    **switches: further attributes.

  Raises:
    ValueError: one sentence, if a size is missing or makes no sense, or a
      setting is not implemented.
  """
  size = lambda key, **how: number(config, key, **how)
  depth = layers(config, 'num_hidden_layers')
  fixed(
    config, hidden_act='silu', use_sliding_window=False, mlp_bias=False,
    use_mrope=False, layer_types=['full_attention'] * depth, is_causal=False,
  )
  width, heads = size('hidden_size'), size('num_attention_heads')
  head = size('head_dim', default=width // heads)
  switches.setdefault('rope', rope(config, head))
  if 'hidden' not in switches:
    switches['hidden'] = size('intermediate_size')
  return divides(Decoder(
    vocab=size('vocab_size'),
    width=width,
    layers=depth,
    heads=heads,
    groups=size('num_key_value_heads', low=0, default=heads) or heads,
    size=head,
    eps=size('rms_norm_eps', low=0, kind=float),
    tied=flag(config, 'tie_word_embeddings', False),
    **switches,
  ))


def layout(
  config: dict[str, Any], module: Decoder, names: Names | None = None,
  shifted: bool = False,
) -> Layout:
  """The Layout of a `decoder`."""
  names = names or Names()
  return Layout(
    module,
    sources(module, names),
    module.vocab,
    mask_id(config),
    number(config, 'max_position_embeddings'),
    shifted=shifted,
    ignored=(r'.*rotary_emb\.inv_freq',),
    copies={names.readout: names.embed} if module.tied else {},
  )


def block_length(config: dict[str, Any], hint: str, low: int = 1) -> int:
  """The block length that a config.json says, under any of its names.

  Args:
    config: config.json.
    hint: what to say of this family, if nobody says it.
    low: least; 0 where full attention is possible, too.

  Raises:
    ValueError: one sentence: it is missing, no such number, or said twice.
  """
  said = {key: config.get(key) for key in BLOCK_KEYS}
  said = {key: value for key, value in said.items() if value is not None}
  if not said:
    raise ValueError(
      'config.json does not say the block length: load with block_length='
      f' ({hint})'
    )
  found = [number(said, key, low) for key in said]
  if len(set(found)) > 1:
    raise ValueError(f'config.json: these contradict each other: {said!r:.200}')
  return found[0]


def rope(config: dict[str, Any], size: int, fraction: float = 1.0) -> Rope:
  """How queries and keys turn, by the keys of transformers 4 or 5.

  Args:
    config: config.json.
    size: of a head.
    fraction: of it that turns, if the config does not say.

  Raises:
    ValueError: one sentence: another kind of RoPE, or a number makes no sense.
  """
  older, newer = config.get('rope_scaling'), config.get('rope_parameters')
  said = newer or older or {}
  if not isinstance(said, dict) or older and newer and older != newer:
    raise ValueError(
      f'config.json: rope_parameters is {newer!r:.60} and rope_scaling is'
      f' {older!r:.60}: one of them must be an object'
    )
  kind = said.get('rope_type') or said.get('type') or 'default'
  if kind not in ('default', 'yarn'):
    raise ValueError(
      f'config.json: rope_type = {kind!r:.40} is not implemented, only'
      " 'default' and 'yarn' are"
    )
  known = PLAIN | SCALED | (YARN if kind == 'yarn' else set())
  if strange := sorted(set(said) - known):
    raise ValueError(
      f'config.json: what {strange[0]!r:.60} means for a rope_type of {kind}'
      ' is not known here'
    )
  pick = lambda key: said if said.get(key) is not None else config
  theta = number(pick('rope_theta'), 'rope_theta', kind=float)
  beta = number(said, 'llama_4_scaling_beta', 0, 0.0, float)
  original = number(
    said, 'original_max_position_embeddings',
    default=number(config, 'max_position_embeddings'),
  )
  return Rope(
    theta,
    _fraction(config, pick('partial_rotary_factor'), size, fraction),
    _yarn(said, original) if kind == 'yarn' else None,
    (beta, original) if beta else None,
  )


def _fraction(config, said, size, default):
  """The part of a head that turns: an even number of its features."""
  turned = config.get('rotary_dim')
  if turned is not None:
    turned = number(config, 'rotary_dim', 2, high=size)
    default = turned / size
  part = number(said, 'partial_rotary_factor', 0, default, float, high=1)
  features = int(size * part)
  if features < 2 or features % 2 or turned not in (None, features):
    raise ValueError(
      f'config.json: {features} of the {size} features of a head turn by'
      f' partial_rotary_factor = {part:g}, and rotary_dim = {turned}: it must'
      ' be one even number'
    )
  return part


def _yarn(said, original):
  """The YaRN that an object of a config describes."""
  real = lambda key, low, default: number(said, key, low, default, float)
  factor = real('factor', 1e-3, None)
  grown = amplitude(
    factor, real('mscale', 0, 0.0), real('mscale_all_dim', 0, 0.0)
  )
  return Yarn(
    factor, original, real('beta_fast', 1e-3, 32.0),
    real('beta_slow', 1e-3, 1.0), real('attention_factor', 0, grown),
    flag(said, 'truncate', True),
  )


def experts(config: dict[str, Any], **settings: Any) -> moe.Settings:
  """moe.Settings with the numbers that all families call alike.

  Raises:
    ValueError: one sentence, if they do not fit together.
  """
  count, chosen = (
    number(config, key) for key in ('num_experts', 'num_experts_per_tok')
  )
  try:
    return moe.check(moe.Settings(experts=count, chosen=chosen, **settings))
  except ValueError as error:
    raise ValueError(f'config.json: {error}') from None


def divides(module: Decoder) -> Decoder:
  """The module, if its heads fit together; else a ValueError, a sentence."""
  if module.heads % module.groups or module.size % 2:
    raise ValueError(
      f'config.json: {module.heads} heads of size {module.size} with'
      f' {module.groups} key heads: the key heads must divide the heads, and'
      ' the size must be even'
    )
  return module
