"""What a model is, what it offers, and what memory it takes.

  punt-jax describe DIR
  punt-jax describe DIR --check
  punt-jax describe shakespeare

A directory is described from config.json and the headers of its files; then the
weights are loaded, unless --noload is given. --check scores a sentence under
the model's own mask id and shift and under wrong ones, of a model that writes
in blocks a passage under other block lengths as well: if a wrong one wins,
config.json is not right. The peak of host memory is that of the process, less
what it held before; on a CPU the placed weights are part of it.
"""

import os
import pathlib
import re
import resource
import textwrap
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from flax import traverse_util

from punt_jax import checkpoints
from punt_jax.checkpoints import huggingface, special_tokens
from punt_jax.cli import block_check, command, configs, mask_check, portrait
from punt_jax.generation import generator
from punt_jax.models import families
from punt_jax.models.families import body
from punt_jax.models.layout import Layout
from punt_jax.text import chat, token_files
from punt_jax.types import FilePath

SMALL = 2**24  # bytes of a file below which Python itself is what is measured
ROWS = 8  # of the estimate, each of this many positions at most
LENGTH = 1024


def peak() -> int:
  """Most bytes of host memory that this process has held."""
  status = pathlib.Path('/proc/self/status')
  if status.exists():  # ru_maxrss would count the process that started it
    found = re.findall(r'VmHWM:\s*(\d+)', status.read_text())
    return int(found[0]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def cache_bytes(module: Any, size: int) -> int | None:
  """Of the KV cache, for a position; None without one."""
  groups = getattr(module, 'groups', module.heads)
  blocks = getattr(module, 'block_length', 0)
  if not hasattr(module, 'window') or not (hasattr(module, 'groups') or blocks):
    return None  # one of train/ has a cache if it writes in blocks
  width = getattr(module, 'size', module.width // module.heads)
  return 2 * module.layers * groups * width * size


def scratch(
  plan: Layout, like: dict[str, Any], rows: int, length: int
) -> int:
  """Bytes that a forward pass needs beside the weights, by the compiler."""
  tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
  valid = jax.ShapeDtypeStruct((rows, length), jnp.bool_)
  params = traverse_util.unflatten_dict(like, sep='/')

  def features(params, tokens, valid):
    return plan.module.apply(
      {'params': params}, tokens, valid, method='features'
    )

  made = jax.jit(features).lower(params, tokens, valid).compile()
  memory: Any = made.memory_analysis()
  return memory.temp_size_in_bytes + memory.output_size_in_bytes


def memory(plan: Layout, like: dict[str, Any]) -> list[str]:
  """What the weights and a batch take, in lines."""
  size = next(iter(like.values())).dtype.itemsize
  weights = sum(x.size * x.dtype.itemsize for x in like.values())
  cache = cache_bytes(plan.module, size)
  length = min(LENGTH, plan.length)
  beside = scratch(plan, like, ROWS, length)
  first = f'weights {sized(weights)}; a position'
  first += f' {sized(plan.module.width * size)} of features'
  second = f'a pass of {ROWS} rows of {length:,} positions takes'
  second += f' {sized(beside)} more'
  if cache:
    first += f', {sized(cache)} of KV cache'
    second += f', their KV cache {sized(ROWS * length * cache)}'
  return [first, second]


def sized(count: int) -> str:
  """1234567 -> '1.2 MiB'."""
  power = min(3, max(0, count.bit_length() - 1) // 10)
  unit = ('bytes', 'KiB', 'MiB', 'GiB')[power]
  return f'{count / 1024**power:.{min(power, 1)}f} {unit}'


def static(
  folder: pathlib.Path, told: Mapping[str, Any] | None = None
) -> tuple[list[str], Layout]:
  """(lines, Layout) about a checkpoint directory; no weights are read.

  Args:
    folder: Path.
    told: block_length and mask_id, where they were given; see
      huggingface.load.
  """
  how: Any = told or {}
  plan, _, config = huggingface.survey(folder, **how)
  like = huggingface.shapes(plan)
  ids = special_tokens.ids(folder, plan, config)
  template = 'a' if chat.chat_template(folder) is not None else 'no'
  there = token_files.present(folder)
  family, kind = families.name(config), str(config['model_type'])
  named = kind if family == kind.lower() else f'{family} (model_type {kind})'
  length = portrait.origin(folder, body.BLOCK_KEYS, how.get('block_length'))
  mask = portrait.origin(folder, ['mask_token_id'], how.get('mask_id'))
  count = sum(x.size for x in like.values())
  lines = [
    portrait.network(named, plan.module, plan.vocab),
    f'{count / 1e6:,.1f} M parameters, {plan.module.dtype}; canvases of up to'
    f' {plan.length:,} positions',
    *portrait.experts(plan.module, like),
    *portrait.blocks(plan.module, length),
    f'outputs {"shifted" if plan.shifted else "in place"};'
    f' {"a" if there else "no"} tokenizer, {template} chat template',
    f'special ids: {", ".join(f"{name} {i}" for name, i in ids.items())}; the'
    f' mask by {mask}',
    portrait.offer(huggingface.offers(plan), plan.module),
    *memory(plan, like),
  ]
  return lines, plan


def of_file(
  loaded: checkpoints.Pretrained, name: str
) -> tuple[list[str], Layout]:
  """(lines, Layout) about a model that ships, or a file of train.export."""
  module = loaded.module
  vocab = generator.need_text(loaded).vocab
  plan = Layout(module, {}, vocab, vocab, loaded.length)
  like: Any = traverse_util.flatten_dict(loaded.params, sep='/')
  count = sum(x.size for x in like.values())
  heldout = loaded.card.get('heldout_bits')
  scored = f'; held-out NELBO {heldout:.3f} bits per token' if heldout else ''
  return [
    portrait.network(name, module, vocab),
    f'{count / 1e6:,.2f} M parameters, float32{scored}',
    f'trained on canvases of {loaded.length} positions, has room for'
    f' {"more" if loaded.room > loaded.length else "no more"}',
    *portrait.blocks(module),
    f'outputs in place; MASK is {vocab}; no special tokens, no chat template',
    portrait.offer(loaded.offers, module),
    *memory(plan, like),
  ], plan


def show(lines: Iterable[str]) -> None:
  """Prints them, wrapped."""
  for line in lines:
    print(textwrap.fill(line, 80, subsequent_indent='  '), flush=True)


def run(
  model: FilePath, load: bool = True, check: bool = False,
  text: str = mask_check.SENTENCE, told: Mapping[str, int] | None = None,
) -> dict[str, Any]:
  """Prints what a model is; returns what it measured as a dict."""
  told = told or {}
  folder = pathlib.Path(model)
  is_folder = model not in checkpoints.names() and os.path.isdir(folder)
  if is_folder:
    lines, plan = static(folder, told)
    show(lines)
    if not (load or check):
      return {}
  jax.block_until_ready(jnp.zeros(3))
  before, start = peak(), time.perf_counter()
  loaded = checkpoints.load(model, **told)
  seconds = time.perf_counter() - start
  leaves = jax.tree.leaves(loaded.params)
  placed = sum(x.nbytes for x in leaves)
  measured: Any = {
    'parameters': sum(x.size for x in leaves), 'placed': placed
  }
  if is_folder:
    shards = [file.stat().st_size for file in folder.rglob('*.safetensors')]
    on_host = placed if jax.default_backend() == 'cpu' else 0
    more = (peak() - before - on_host) / max(shards)
    measured['more'] = more
    said = f'{sized(placed)} placed in {seconds:.0f} s'
    if max(shards) > SMALL:
      said += (
        f', and at the peak {more:.2f} times the largest of {len(shards)} files'
        ' more'
      )
    print(said)
  else:
    lines, plan = of_file(loaded, folder.stem)
    show(lines)
  if check:
    tokens = token_files.added_tokens(folder) if is_folder else {}
    measured['best'] = checked(loaded, plan, tokens, text)
  return measured


def checked(
  loaded: checkpoints.Pretrained, plan: Layout, tokens: dict[str, int],
  text: str,
) -> mask_check.Trial:
  """Prints the table of mask_check; returns the best Trial."""
  if loaded.text is None:
    raise ValueError('--check needs a tokenizer.json in the folder')
  check, blocks = mask_check, getattr(plan.module, 'block_length', 0)
  if blocks:
    check = block_check
    text = block_check.PASSAGE if text == mask_check.SENTENCE else text
  try:
    ids = loaded.text.encode(text, '')
  except ValueError as error:
    raise ValueError(f'--text: {error}') from None
  found = check.trials(plan, loaded.params, ids, tokens)
  print(f'\n{text!r}, under each mask:\n\n{mask_check.shown(found)}\n')
  show([mask_check.verdict(found, plan.vocab)])
  return found[0]


def work(rest: list[str]) -> None:
  """Reads the flags."""
  given = flags.FLAGS
  model = given.model or ''.join(rest)
  if not model:
    raise ValueError('say which model: punt-jax describe DIR')
  told = configs.known(given.model_block_length, given.mask_id)
  run(model, given.load, given.check, given.text, told)


def main() -> None:
  """The command."""
  flags.DEFINE_string('model', None, 'Folder, file or name; or just DIR.')
  flags.DEFINE_bool('load', True, 'Load the weights, and say what it took.')
  flags.DEFINE_bool('check', False, 'Compare its mask, shift and blocks.')
  flags.DEFINE_integer(
    'model_block_length', -1, 'Of its own blocks, where config.json says none.'
  )
  flags.DEFINE_integer(
    'mask_id', -1, 'Where neither config.json nor the tokenizer says it.'
  )
  flags.DEFINE_string('text', mask_check.SENTENCE, 'What --check scores.')
  command.run(work, most=1)


if __name__ == '__main__':
  main()
