"""A checkpoint directory with random weights, to try things out with.

  punt-jax random-checkpoint --model=llada --size=tiny --out=DIR

Same layout as the real ones (config.json, safetensors in shards,
tokenizer.json, chat template); the tokenizer knows bytes and the specials.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from absl import flags
from numpy.typing import DTypeLike

from punt_jax import checks, files
from punt_jax.checkpoints import huggingface, tensors
from punt_jax.cli import command
from punt_jax.models.layout import STACKED
from punt_jax.text import token_files
from punt_jax.types import FilePath

SIZES = {  # width, layers, heads, key heads, hidden
  'tiny': (64, 2, 4, 2, 128),
  'small': (512, 8, 8, 4, 1536),
  '1b': (2048, 16, 16, 8, 6144),
  '8b': (4096, 32, 32, 32, 12288),
}
SPECIAL = {  # begin, end, end of turn, mask, and what stands around a role
  'llada': (
    '<|startoftext|>', '<|endoftext|>', '<|eot_id|>', '<|mdm_mask|>',
    '<|start_header_id|>', '<|end_header_id|>',
  ),
  'dream': (
    '<|beginoftext|>', '<|endoftext|>', '<|im_end|>', '<|mask|>',
    '<|im_start|>', '<|pad|>',
  ),
  'mdlm': ('<|begin|>', '<|endoftext|>', '[MASK]'),
  'bert': ('[CLS]', '[SEP]', '[PAD]', '[MASK]'),
}
TEMPLATE = {
  'llada': (
    '{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}'
    '<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}'
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
  ),
  'dream': (
    '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>'
    "\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
  ),
}
LENGTH = 4096


def describe(model: str, size: str, vocab: int | None = None) -> dict[str, Any]:
  """config.json of a model of this size.

  Args:
    model: one of SPECIAL.
    size: one of SIZES.
    vocab: rows of the embedding; 256 bytes and the specials by default.
  """
  checks.known('model', model, SPECIAL)
  checks.known('size', size, SIZES)
  width, layers, heads, groups, hidden = SIZES[size]
  ids = {name: 256 + i for i, name in enumerate(SPECIAL[model])}
  vocab = vocab or 256 + len(ids)
  mask = ids[SPECIAL[model][-1 if model in ('mdlm', 'bert') else 3]]
  shared = dict(vocab_size=vocab, mask_token_id=mask)
  if model == 'llada':
    return shared | dict(
      model_type='llada', d_model=width, n_layers=layers, n_heads=heads,
      n_kv_heads=groups, mlp_hidden_size=hidden, embedding_size=vocab,
      max_sequence_length=LENGTH, rope_theta=500000.0, rms_norm_eps=1e-5,
      weight_tying=False, block_type='llama', eos_token_id=257,
      pad_token_id=257,
    )
  if model == 'dream':
    return shared | dict(
      model_type='Dream', hidden_size=width, num_hidden_layers=layers,
      num_attention_heads=heads, num_key_value_heads=groups,
      intermediate_size=hidden, max_position_embeddings=LENGTH,
      rope_theta=1e6, rms_norm_eps=1e-6, hidden_act='silu',
      tie_word_embeddings=False, bos_token_id=257, eos_token_id=257,
      pad_token_id=257,
    )
  if model == 'mdlm':
    return shared | dict(
      model_type='mdlm', hidden_dim=width, n_blocks=layers, n_heads=heads,
      cond_dim=width // 4, model_length=LENGTH, dropout=0.1,
      time_conditioning=False,
    )
  return shared | dict(
    model_type='bert', hidden_size=width, num_hidden_layers=layers,
    num_attention_heads=heads, intermediate_size=hidden, hidden_act='gelu',
    max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12,
    pad_token_id=258,
  )


def weights(
  config: dict[str, Any], seed: int, dtype: DTypeLike
) -> Iterator[tuple[str, np.ndarray]]:
  """(name, tensor) of every tensor, one at a time, bits drawn by its number.

  Matrices have deviation 1 / sqrt(inputs), norms are 1, biases small.
  """
  plan = huggingface.layout(config)
  number = 0
  for path, x in huggingface.shapes(plan).items():
    source = plan.sources[path]
    shape = x.shape[path.startswith(STACKED) :]
    for name in source.names:
      number += 1
      random = np.random.default_rng((seed, number))
      noise = random.standard_normal(shape, np.float32)
      if path.endswith('scale'):
        tensor = np.ones(shape, np.float32)
      else:
        tensor = noise / math.sqrt(shape[0] if len(shape) > 1 else 100)
      tensor = tensor.T if source.transpose else tensor
      yield name, np.ascontiguousarray(tensor).astype(dtype)


def write_tokenizer(out: pathlib.Path, model: str) -> None:
  """tokenizer.json and tokenizer_config.json: bytes and the specials."""
  lib = token_files.package()
  split = lib.pre_tokenizers.ByteLevel
  alphabet = {c: i for i, c in enumerate(sorted(split.alphabet()))}
  inner = lib.Tokenizer(lib.models.BPE(alphabet, []))
  inner.pre_tokenizer = split(add_prefix_space=False)
  inner.decoder = lib.decoders.ByteLevel()
  inner.add_special_tokens(list(SPECIAL[model]))
  files.write(out / 'tokenizer.json', inner.to_str(pretty=True))
  begin, end, *_ = SPECIAL[model]
  card = {'bos_token': begin, 'eos_token': end}
  if model in TEMPLATE:
    card['chat_template'] = TEMPLATE[model]
  text = json.dumps(card, indent=2) + '\n'
  files.write(out / 'tokenizer_config.json', text)


def write(
  out: FilePath, model: str, size: str, seed: int = 0, dtype: str = 'bfloat16',
  shard_bytes: int = 2**30,
) -> int:
  """Writes the directory `out`; returns the bytes of the weights.

  It gets its name when all is written.

  Raises:
    ValueError: an unknown model or size, `out` is there already, or tokenizers
      is not installed.
  """
  token_files.package()
  if os.path.lexists(out):
    raise ValueError(f'{out} is there already: give another folder')
  config = describe(model, size)
  kind = np.dtype(ml_dtypes.bfloat16 if dtype == 'bfloat16' else dtype)
  checks.whole('shard_bytes', shard_bytes, 1)
  checks.whole('seed', seed, 0)
  with files.new_folder(out) as part:
    total = tensors.write_tensors(
      part, weights(config, seed, kind), shard_bytes=shard_bytes
    )
    text = json.dumps(config | {'torch_dtype': dtype}, indent=2)
    files.write(part / 'config.json', text + '\n')
    write_tokenizer(part, model)
  return total


def work(_: list[str]) -> None:
  """Reads the flags, writes, and says what."""
  f = flags.FLAGS
  total = write(f.out, f.model, f.size, f.seed, f.dtype, f.shard_bytes)
  print(f'{f.out}: {total:,} bytes of random weights, {f.model} {f.size}')


def main() -> None:
  """The command."""
  flags.DEFINE_enum('model', 'llada', list(SPECIAL), 'Architecture.')
  flags.DEFINE_enum('size', 'tiny', list(SIZES), 'How large.')
  flags.DEFINE_string('out', None, 'Folder to write.')
  flags.DEFINE_enum('dtype', 'bfloat16', ['bfloat16', 'float32'], 'Weights.')
  flags.DEFINE_integer('seed', 0, 'Of the weights.')
  flags.DEFINE_integer('shard_bytes', 2**30, 'Most bytes of a file.')
  command.run(work, needs=('out',))


if __name__ == '__main__':
  main()
