"""Texts from a model: one prompt, or a file of them.

  punt-jax generate --model=shakespeare --prompt='ROMEO:'
  punt-jax generate --model=DIR --prompt='Why is the sky blue?'
  punt-jax generate --model=DIR --input=prompts.jsonl --workdir=runs/answers

A line of the file is {"prompt": "..."} or {"messages": [{"role": "user",
"content": "..."}]}; other keys are copied to its results. Each finished batch
is appended to results.jsonl in the workdir; a run that was killed and is
started again goes on where it was, with another batch, bucket or group if it
does not fit in memory. At the end the rows stand in the order of
the file, and nfe.png shows what they cost. --model is a folder (config.json,
safetensors, tokenizer.json), a file of train.export, or the name of a model
that ships. A folder of a family that is known here (LLaDA, Dream, MDLM,
LLaDA2, SDAR, ...) gets our settings for it and, if it has a chat template, is
asked as in a chat; --preset=llada:instruct_gsm8k is its authors' settings of a
benchmark, as --config=configs/llada.py:instruct_gsm8k in a clone.

The text of a single prompt is shown as it is written, block by block. Models
that write in blocks do so in their own; --block_length cuts smaller ones
inside of them, and --nokv_cache computes all of the canvas in every pass, with
the same text.

Masks may also stand inside of a prompt. Rows of BERT need their frame (<s> and
</s> with RoBERTa):

  punt-jax generate --model=DIR --blank=_ \\
      --prompt='[CLS] the _ sat on the mat [SEP]'
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from punt_jax import checkpoints, extras, files, jsonl
from punt_jax.checkpoints import Pretrained
from punt_jax.cli import command, configs, families, prompt_files, records
from punt_jax.generation import generator, options
from punt_jax.generation import prompts as prompts_lib
from punt_jax.generation.generator import Piece
from punt_jax.types import FilePath, Messages
from punt_jax.viz import terminal
from punt_jax.viz.progress import progress

# git is asked once, not for every row
origin = functools.cache(records.origin)


def say(sentence: str) -> None:
  """To stderr: stdout has the texts."""
  print(sentence, file=sys.stderr, flush=True)


def run(
  config: Any, workdir: FilePath | None = None, prompt: str | None = None,
  input: FilePath | None = None,
) -> list[dict[str, Any]]:
  """Answers a prompt, or all prompts of a file -> rows of results.jsonl."""
  if (prompt is None) == (input is None):
    raise ValueError('give either --prompt or --input')
  if (input is None) != (workdir is None):
    raise ValueError('--input needs a --workdir for its results, --prompt none')
  configs.check_numbers(config)
  if input is not None and config.get('escapes'):
    raise ValueError('--escapes is for --prompt: JSON has escapes of its own')
  if workdir is not None and input is not None:
    return answer_file(config, pathlib.Path(workdir), pathlib.Path(input))
  assert prompt is not None  # as neither of the two was given
  config.batch = min(config.batch, config.samples)  # no rows for nothing
  prompt = configs.unescaped(prompt, config.get('escapes', False))
  loaded = configs.load(config)
  fit(config, loaded, [prompt])
  made, choice = configs.generate_with(config, loaded, say, 'sample {}'.format)
  ids = [made.encode(prompt)] * config.samples
  several = config.samples > 1 or config.group > 1
  if several or not (choice.blocks or 'block_length' in choice.traced):
    found = [x for batch in made.write(ids, range(len(ids))) for x in batch]
    for row in found:
      print(row.text + '\n')
  else:
    found = show(made.stream(ids, [0]))
  rows = [result(choice, config, {'prompt': prompt}, row) for row in found]
  print(summary(rows))
  return rows


def show(pieces: Iterable[Piece]) -> list[generator.Written]:
  """Prints the pieces of one text as they come; returns its row."""
  for piece in pieces:
    print(piece.text, end='', flush=True)
  print('\n')
  return [piece.row] if piece.row else []


def answer_file(
  config: Any, workdir: pathlib.Path, file: pathlib.Path
) -> list[dict[str, Any]]:
  """The batch mode; see the top of this file."""
  asked, digest = prompt_files.read(file)
  loaded = configs.load(config)
  said = [
    line['prompt'] if 'prompt' in line else line['messages'] for line in asked
  ]
  fit(config, loaded, said, file)
  line = lambda number: f'line {number // config.samples + 1} of {file}'
  made, choice = configs.generate_with(config, loaded, say, line)
  prompts = [*each(made.encode, said, file)]
  rows, lock = records.resume(workdir, config, records.FREE, digests={
    'model': checkpoints.digest(loaded), 'prompts': digest,
    **options.digests(choice),
  })
  with lock:
    check(rows, workdir / 'results.jsonl', len(asked), config.samples)
    fill(config, workdir, made, choice, asked, prompts, rows)
  print(summary(rows))
  print(f'in {workdir}: results.jsonl{picture(workdir, rows)}')
  return rows


def fill(
  config: Any, workdir: pathlib.Path, made: generator.Generator,
  choice: options.Choice, asked: Sequence[dict[str, Any]],
  prompts: Sequence[Any], rows: list[dict[str, Any]],
) -> None:
  """Adds what is missing to `rows` and results.jsonl, in order in the end."""
  file = workdir / 'results.jsonl'
  there = {(row['line'] - 1) * config.samples + row['sample'] for row in rows}
  if there:
    print(f'{terminal.counted(len(there), "row")} from an earlier run')
  left = [n for n in range(len(asked) * config.samples) if n not in there]
  line_of = lambda number: number // config.samples
  bar = progress(
    total=len(left) + len(there), start=len(there), unit='row'
  )
  with files.whole() as stopping:
    for batch in made.write([prompts[line_of(n)] for n in left], left):
      for row in batch:
        rows.append(result(choice, config, asked[line_of(row.number)], row))
        jsonl.append(file, rows[-1])
      bar.set_postfix_str(summary(rows).split(', ')[-1], refresh=False)
      bar.update(len(batch))
      if stopping.is_set():
        break
  bar.close()
  rows.sort(key=lambda row: (row['line'], row['sample']))
  jsonl.replace(file, rows)


def check(
  rows: Sequence[dict[str, Any]], file: pathlib.Path, lines: int, samples: int
) -> None:
  """Raises ValueError where rows of a file answer no line, or one twice."""
  for n, row in enumerate(rows, 1):
    where = row.get('line'), row.get('sample')
    whole = all(type(x) is int for x in where)
    if not whole or where[0] not in range(1, lines + 1) or (
      where[1] not in range(samples)
    ):
      raise ValueError(
        f'line {n} of {file} says "line" {where[0]!r:.20} and "sample"'
        f' {where[1]!r:.20}, which nothing asked for: delete it'
      )
    for key in ('nfe', 'count', 'seconds', 'shared'):
      if not isinstance(row.get(key), (int, float)):
        raise ValueError(f'line {n} of {file} has no number {key!r}: delete it')
  records.once(rows, ('line', 'sample'), file)


def each(
  encode: Callable[..., np.ndarray], given: Sequence[str | Messages],
  file: pathlib.Path | None,
) -> Iterator[np.ndarray]:
  """Yields the ids of each prompt; a ValueError names its line of the file."""
  for n, one in enumerate(given, 1):
    try:
      yield encode(one)
    except ValueError as error:
      where = f'line {n} of {file}: ' if file else ''
      raise ValueError(f'{where}{error}') from None


def fit(
  config: Any, loaded: Pretrained, given: Sequence[str | Messages],
  file: pathlib.Path | None = None,
) -> None:
  """Lowers config.max_new_tokens to what the longest prompt leaves of a canvas.

  Only where config.fit says that the user asked for no number of them.
  """
  if not config.get('fit') or config.blank or loaded.text is None:
    return
  one = configs.settings(config)._replace(max_new_tokens=1)
  encode = functools.partial(prompts_lib.encode, one, loaded)
  longest = max(len(ids) for ids in each(encode, given, file))
  left = loaded.length - longest
  if 0 < left < config.max_new_tokens:
    config.max_new_tokens = left
    say(
      f'max_new_tokens={left}: with the prompt that is {loaded.length} tokens,'
      ' the length that the model knows'
    )


def result(
  choice: options.Choice, config: Any, line: dict[str, Any],
  row: generator.Written,
) -> dict[str, Any]:
  """The row of results.jsonl for a line and what was written."""
  where, sample = divmod(row.number, config.samples)
  said = row._asdict()
  del said['number']
  return {
    **line, 'line': where + 1, 'sample': sample, **said,
    'sampler': choice.name, 'settings': choice.settings(),
    'schema': records.SCHEMA, 'origin': origin(config.seed),
  }


def summary(rows: Sequence[dict[str, Any]]) -> str:
  """What rows have cost, in a line; neither prompts nor padding count."""
  mean = lambda key: sum(row[key] for row in rows) / len(rows)
  seconds = sum(row['seconds'] / row['shared'] for row in rows)
  tokens = terminal.counted(round(mean('count'), 1), 'token')
  return (
    f'{terminal.counted(len(rows), "row")} of {tokens} in {mean("nfe"):.1f}'
    f' forward passes, {mean("count") * len(rows) / seconds:.1f} tokens/s'
  )


def picture(workdir: pathlib.Path, rows: Sequence[dict[str, Any]]) -> str:
  """Draws nfe.png -> what to say of it."""
  try:
    extras.load('matplotlib', 'nfe.png')
  except ValueError as error:
    return f'; {error}'
  from punt_jax.viz import picture as drawing

  drawing.histograms(workdir / 'nfe.png', 'rows', {
    'forward passes of a row': [row['nfe'] for row in rows],
    'tokens per forward pass': [row['count'] / row['nfe'] for row in rows],
  })
  return ', nfe.png'


def answer(
  config: Any, workdir: str | None, preset: str | None, **given: str | None
) -> list[dict[str, Any]]:
  """`run`, after a word about whose settings these are."""
  said = families.said(config, preset)
  if said:
    say(said)
  return run(config, workdir, **given)


def main() -> None:
  """The command."""
  command.run_config(
    answer, needs=(), default=families.default, preset=families.HELP,
    prompt='A prompt to answer, as it is typed (but see --escapes).',
    input='A JSONL file of prompts to answer.',
    workdir='Folder for the results of --input.',
  )


if __name__ == '__main__':
  main()
