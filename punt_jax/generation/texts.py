"""From a model and prompts to texts: punt_jax.generate."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, overload

from jax.sharding import Mesh

from punt_jax import checkpoints, checks
from punt_jax.generation import generator, options
from punt_jax.generation.generator import Piece, Settings, Written
from punt_jax.types import Messages


@overload
def generate(
  *args: Any, stream: Literal[True], **how: Any
) -> Iterator[Piece]:
  """Texts in pieces."""


@overload
def generate(
  *args: Any, stream: Literal[False] = False, **how: Any
) -> Iterator[Written]:
  """Whole texts."""


def generate(
  model: checkpoints.Pretrained | str,
  prompts: str | Messages | Sequence[str | Messages],
  sampler: str = 'punt',
  *,
  max_new_tokens: int = Settings().max_new_tokens,
  block_length: int = 0,
  temperature: float = Settings().temperature,
  seed: int = 0,
  mesh: Mesh | None = None,
  quiet: bool = False,
  stream: bool = False,
  **settings: Any,
) -> Iterator[Written] | Iterator[Piece]:
  """Writes a text behind each prompt, or into its blanks.

  Example:
    model = punt_jax.load('shakespeare')
    for row in punt_jax.generate(model, ['ROMEO:'], 'punt(epsilon=0.1)'):
      print(row.text, row.nfe)

    how = dict(block_length=32, stream=True)
    for piece in punt_jax.generate(model, 'ROMEO:', **how):
      print(piece.text, end='', flush=True)

  A program is compiled for each canvas length, a multiple of `bucket`, and kept
  for later calls with this model. What a row is depends on (seed, its number,
  its prompt, the sampler and its settings), not on the rows beside it. Rows are
  spread over the devices of this process, to which every call copies the
  weights; model._replace(params=parallel.everywhere(model.params)) has them
  there once and for all.

  Args:
    model: what `load` gives; a name or path is loaded.
    prompts: strings, conversations for a model with a chat template
      ([{'role': 'user', 'content': ...}]), or one of these.
    sampler: a name, with values or without: 'punt(epsilon=0.05, first=msb)'.
    max_new_tokens: masks behind each prompt, none where `blank` is set.
    block_length: tokens per block, left to right; 0: all at once. A model that
      is causal over blocks always writes in its own; a divisor of their length
      cuts smaller ones inside of them.
    temperature: of the drafts; 0 is argmax.
    seed: of the drafts.
    mesh: of parallel.mesh, if the model is placed on one.
    quiet: whether nothing is said on stderr when a program is compiled.
    stream: whether a text comes in pieces, block by block, as they are
      finished; all at once if it has no blocks. On one device, or the mesh.
    **settings: any other field of generation.generator.Settings: top_p, blank,
      chat (a string is a message of a user), batch, bucket, kv_cache, stop,
      eos_last, ban, ...

  Returns:
    an iterator over Written (number, text, tokens, nfe, depth, log_q in nats,
    ...), batch by batch as they finish, the longest canvases first; `number`
    counts the prompts. With `stream` one over Piece (number, text, done, row):
    what is new of a text, and with the last piece of a row its Written. Joined
    they are Written.text, and none ends inside of a letter. Rows of a batch
    come mixed.

  Raises:
    ValueError: one sentence, before anything is written: a bad prompt (which
      one), sampler or setting, or what this model cannot do.
  """
  made, ids = _prepared(
    model, prompts, sampler, block_length, mesh, quiet,
    dict(
      max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
      **settings,
    ),
  )
  if stream:
    return made.stream(ids, range(len(ids)))
  batches = made.write(ids, range(len(ids)))
  return (row for batch in batches for row in batch)


def _prepared(model, prompts, sampler, block_length, mesh, quiet, settings):
  """(Generator, ids of each prompt) of what `generate` is given."""
  known = sorted({
    *Settings._fields, 'block_length', 'mesh', 'quiet', 'stream'
  })
  for name in settings:
    checks.known('setting', name, known)
  loaded = checkpoints.load(model) if isinstance(model, str) else model
  choice = options.written(sampler, {'block_length': block_length or None})
  if isinstance(prompts, (dict, bytes)) or not isinstance(prompts, Iterable):
    raise ValueError(
      f'{prompts!r:.60} holds no prompts: give a string, a conversation'
      " [{'role': 'user', 'content': '...'}], or a list of them"
    )
  listed: list[Any] = [prompts] if isinstance(prompts, str) else list(prompts)
  if listed and isinstance(listed[0], dict):  # one conversation
    listed = [listed]
  plan = generator.checked(Settings(**settings))
  if listed:  # no rows for nothing
    plan = plan._replace(batch=min(plan.batch, len(listed)))
  made = generator.prepare(
    loaded, choice, plan, mesh,
    None if quiet else lambda said: print(said, file=sys.stderr),
    'prompt {}'.format,
  )
  ids = []
  for number, prompt in enumerate(listed):
    try:
      ids.append(made.encode(prompt))
    except ValueError as error:
      raise ValueError(f'prompt {number}: {error}') from None
  return made, ids
