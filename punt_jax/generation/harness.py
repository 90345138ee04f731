"""What answers the requests of EleutherAI's lm-evaluation-harness.

lm-eval asks for texts and likelihoods; the texts are generator.py's, the
likelihoods likelihood.py's. Answers are kept, if a file is given, under a hash
of all they depend on, and not computed again.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]

from punt_jax import files, jsonl, parallel
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import model_args, prompts
from punt_jax.viz.progress import progress


class Writer(NamedTuple):
  """What writes texts, all of one kind."""

  encode: Callable[[str], np.ndarray]  # (n,) ids of a prompt
  write: Callable  # see generator.Generator
  settings: Any  # JSON: all that a text depends on beside model and prompt


class Engine(NamedTuple):
  """What answers."""

  name: str  # of the model
  writer: Callable[[dict], Writer]  # of the generation_kwargs of a request
  score: Callable  # see likelihood.scorer
  loaded: Any  # checkpoints.Pretrained that has a vocabulary
  settings: Any  # JSON: all that a likelihood depends on beside model and text
  prefix: str = ''  # before every text whose likelihood is asked for
  digest: str = ''  # of the model, by which answers are kept; '': by its name


class Answers(NamedTuple):
  """What has been answered already."""

  file: pathlib.Path | None  # JSONL
  rows: dict[str, dict]  # by the hash of a request


def answers(file: str | pathlib.Path | None = None) -> Answers:
  """Those in a file; a half-written last line is dropped.

  Raises:
    ValueError: one sentence, if the file holds something else.
  """
  if file is None:
    return Answers(None, {})
  file = pathlib.Path(file)
  found = [] if file.is_dir() else jsonl.read(file)
  if file.is_dir() or not all('key' in row for row in found):
    raise ValueError(f'{file} holds no answers: name another file for them')
  file.parent.mkdir(parents=True, exist_ok=True)
  known = {}
  for n, row in enumerate(found, 1):
    if known.setdefault(row['key'], row) is not row:
      raise ValueError(
        f'line {n} of {file} is an answer for the second time: delete it'
      )
  jsonl.replace(file, found)
  return Answers(file, known)


def alike(
  requests: Sequence[Any], kind: Callable[[Any], Any] = lambda request: None
) -> list[tuple[str, list[int]]]:
  """[(task, indices of its requests of one kind)], in the order of the first.

  A row's number is its place among them, so a task's answers are the same
  whichever tasks stand beside it.
  """
  groups = {}
  for i, request in enumerate(requests):
    groups.setdefault((request.task_name, kind(request)), []).append(i)
  return [(task, group) for (task, _), group in groups.items()]


class Harness(LM):
  """lm-eval's view of an Engine. `used` holds the rows of the last requests."""

  def __init__(self, engine: Engine, known: Answers):
    super().__init__()
    self.engine, self.known = engine, known
    self.used: list[Any] = []

  def generate_until(self, requests: Sequence[Any]) -> list[str]:
    """[str]: what is written behind each prompt, cut at the stop strings."""
    kind = lambda request: json.dumps(
      {**request.args[1], 'until': None}, sort_keys=True
    )
    self.used = [None] * len(requests)
    for task, group in alike(requests, kind):
      writer = self.engine.writer(requests[group[0]].args[1])
      asked = [requests[i].args[0] for i in group]
      work = functools.partial(write, writer, asked)
      rows = self._answered(task, 'text', writer.settings, asked, work)
      for i, row in zip(group, rows, strict=True):
        self.used[i] = row
    stops = [model_args.stops(request.args[1]) for request in requests]
    pairs = zip(self.used, stops, strict=True)
    return [prompts.cut(row['text'], stop) for row, stop in pairs]

  def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
    """[(bound on log p of the continuation given the context, False)]."""
    self.used = [None] * len(requests)
    for task, group in alike(requests):
      asked = [list(requests[i].args) for i in group]
      rows = self._scored(task, 'p', asked, lambda pair: self._split(*pair))
      for i, row in zip(group, rows, strict=True):
        self.used[i] = row
    return [(-row['nats'], False) for row in self.used]

  def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
    """[bound on log p of a text], in pieces of half the model's length.

    Each piece is scored given what stands before it, the prefix first, as far
    as that fits.
    """
    encode = self.engine.loaded.text.encode
    prefix = encode(self.engine.prefix).tolist()
    total, self.used = [0.0] * len(requests), []
    for task, group in alike(requests):
      asked, owner = [], []
      for i in group:
        ids = prefix + encode(requests[i].args[0]).tolist()
        for piece in pieces(ids, len(prefix), self.engine.loaded.length):
          asked.append(piece)
          owner.append(i)
      piece_of = lambda piece: (np.array(piece[0]), piece[1])
      rows = self._scored(task, 'rolling', asked, piece_of)
      self.used += rows
      for i, row in zip(owner, rows, strict=True):
        total[i] -= row['nats']
    return total

  def apply_chat_template(
    self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
  ) -> str:
    """Messages as a prompt; a last one of the assistant is left unfinished."""
    chat = self.engine.loaded.chat
    if chat is None:
      raise ValueError(
        f'{self.engine.name} has no chat template: leave out'
        ' --apply_chat_template'
      )
    if add_generation_prompt:
      return chat(chat_history)
    *before, last = chat_history
    return chat(before) + last['content']

  @property
  def tokenizer_name(self) -> str:
    """For lm-eval's own caches of prompts: whose template has been applied."""
    return self.engine.name

  def _scored(self, task, kind, asked, pair_of):
    """The row of each request for the likelihood of an answer.

    Args:
      task: its name, for people.
      kind: of the request.
      asked: what tells requests apart, JSON.
      pair_of: one of `asked` -> (n,) ids, and where the answer starts.
    """

    def work(todo):
      pairs = [pair_of(asked[n]) for n in todo]
      lines, starts = zip(*pairs, strict=True) if pairs else ((), ())
      for batch in self.engine.score(lines, starts, todo):
        yield [
          (n, {'nats': bound.nats, 'error': bound.error}) for n, bound in batch
        ]

    return self._answered(task, kind, self.engine.settings, asked, work)

  def _answered(self, task, kind, settings, asked, work):
    """The row of each request; `work` is asked for those not known yet."""
    model = self.engine.digest or self.engine.name
    said = [
      json.dumps([kind, model, settings, n, request])
      for n, request in enumerate(asked)
    ]
    keys = [hashlib.sha256(line.encode()).hexdigest() for line in said]
    todo = [n for n, key in enumerate(keys) if key not in self.known.rows]
    if not todo:
      return [self.known.rows[key] for key in keys]
    bar = progress(
      what=task, total=len(keys), start=len(keys) - len(todo), unit=' answers'
    )
    for batch in work(todo):
      with files.whole() as stopping:
        for n, found in batch:
          row = {'key': keys[n], 'number': n, **found}
          self.known.rows[keys[n]] = row
          if self.known.file:
            jsonl.append(self.known.file, row)
      bar.update(len(batch))
      if stopping.is_set():  # and a row of a sweep waits for all answers
        raise KeyboardInterrupt
    bar.close()
    return [self.known.rows[key] for key in keys]

  def _split(self, context, continuation):
    """Ids of prefix, both (n,), and where the continuation starts.

    Spaces between them belong to the continuation, as words are tokenized.
    """
    stem = context.rstrip()
    encode = self.engine.loaded.text.encode
    prefix = encode(self.engine.prefix)
    ids = np.append(prefix, encode(context + continuation))
    if len(ids) > self.engine.loaded.room:
      raise ValueError(
        f'a context and its continuation have {len(ids)} tokens, the model has'
        f' room for {self.engine.loaded.room}: use fewer shots'
      )
    return ids, min(len(prefix) + len(encode(stem)), len(ids))


def write(
  writer: Writer, asked: Sequence[str], todo: Sequence[int]
) -> Iterator[list[tuple[int, dict]]]:
  """Yields [(number, row of a text)] of the prompts `todo`, as they finish."""
  ids = [writer.encode(asked[n]) for n in todo]
  for batch in writer.write(ids, todo):
    yield [
      (row.number, {
        'text': row.text, 'tokens': row.count, 'nfe': row.nfe,
        'seconds': row.seconds / row.shared,
      }) for row in batch
    ]


def pieces(
  ids: list[int], start: int, most: int
) -> list[tuple[list[int], int]]:
  """[(tokens, where the piece starts in them)] that hold ids[start:] once.

  Args:
    ids: list.
    start: how many are known.
    most: tokens that the model has room for.
  """
  half = max(1, most // 2)
  found = []
  for at in range(start, len(ids), half):
    first = max(0, at + half - most)
    found.append((ids[first : at + half], at - first))
  return found


def shared(loaded: Pretrained, mesh: Mesh | None = None) -> Pretrained:
  """`loaded` on all devices once, however many generators it is for."""
  if mesh is None and len(jax.local_devices()) > 1:
    return loaded._replace(params=parallel.everywhere(loaded.params))
  return loaded
