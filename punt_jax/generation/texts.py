"""From a model and prompts to texts: punt_jax.generate."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jax.sharding import Mesh

from punt_jax import checkpoints, checks
from punt_jax.generation import generator, options
from punt_jax.generation.generator import Settings, Written
from punt_jax.types import Messages


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
  **settings: Any,
) -> Iterator[Written]:
  """Writes a text behind each prompt, or into its blanks.

  Example:
    model = punt_jax.load('shakespeare')
    for row in punt_jax.generate(model, ['ROMEO:'], 'punt(epsilon=0.1)'):
      print(row.text, row.nfe)

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
    block_length: tokens per block, left to right; 0: all at once.
    temperature: of the drafts; 0 is argmax.
    seed: of the drafts.
    mesh: of parallel.mesh, if the model is placed on one.
    quiet: whether nothing is said on stderr when a program is compiled.
    **settings: any other field of generation.generator.Settings: top_p, blank,
      chat (a string is a message of a user), batch, bucket, kv_cache, stop,
      eos_last, ban, ...

  Returns:
    an iterator over Written (number, text, tokens, nfe, depth, log_q in nats,
    ...), batch by batch as they finish, the longest canvases first; `number`
    counts the prompts.

  Raises:
    ValueError: one sentence, before anything is written: a bad prompt (which
      one), sampler or setting, or what this model cannot do.
  """
  known = sorted({*Settings._fields, 'block_length', 'mesh', 'quiet'})
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
  plan = Settings(
    max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
    **settings,
  )
  plan = generator.checked(plan)
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
  batches = made.write(ids, range(len(ids)))
  return (row for batch in batches for row in batch)
