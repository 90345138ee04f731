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
from punt_jax.cli.random_configs import SIZES, SPECIAL, describe
from punt_jax.models.layout import pieces
from punt_jax.text import token_files
from punt_jax.types import FilePath


def weights(
  config: dict[str, Any], seed: int, dtype: DTypeLike
) -> Iterator[tuple[str, np.ndarray]]:
  """(name, tensor) of every tensor, one at a time, bits drawn by its number.

  Matrices have deviation 1 / sqrt(inputs), norms are 1, biases small.
  """
  plan = huggingface.layout(config)
  like = huggingface.shapes(plan)
  found = pieces(plan, like)
  order = list(like)
  places = [part for parts in found.values() for part in parts]
  places.sort(key=lambda part: (order.index(part.path), part.index))
  numbers = {part: i for i, part in enumerate(places, 1)}

  def draw(part):
    random = np.random.default_rng((seed, numbers[part]))
    shape = part.shape[::-1] if part.matrix else part.shape
    if part.path.endswith('scale'):
      return np.ones(shape, np.float32)
    noise = random.standard_normal(shape, np.float32)
    tensor = noise / math.sqrt(shape[0] if len(shape) > 1 else 100)
    return tensor.T if part.matrix else tensor

  for name in sorted(found, key=lambda name: numbers[found[name][0]]):
    parts = found[name]
    exact = like[parts[0].path].dtype == np.float32  # whatever the others are
    tensor = np.concatenate([draw(part) for part in parts])
    yield name, tensor.astype(np.float32 if exact else dtype)


def write_tokenizer(out: pathlib.Path, model: str) -> None:
  """tokenizer.json and tokenizer_config.json: bytes and the specials."""
  lib = token_files.package()
  split = lib.pre_tokenizers.ByteLevel
  alphabet = {c: i for i, c in enumerate(sorted(split.alphabet()))}
  inner = lib.Tokenizer(lib.models.BPE(alphabet, []))
  inner.pre_tokenizer = split(add_prefix_space=False)
  inner.decoder = lib.decoders.ByteLevel()
  special = SPECIAL[model]
  inner.add_special_tokens(list(special.tokens))
  files.write(out / 'tokenizer.json', inner.to_str(pretty=True))
  card = {
    'bos_token': special.bos, 'eos_token': special.eos,
    'chat_template': special.template,
  }
  card = {key: value for key, value in card.items() if value is not None}
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
