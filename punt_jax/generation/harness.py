"""What answers the requests of EleutherAI's lm-evaluation-harness.

lm-eval asks for texts and likelihoods; the texts are generator.py's, the
likelihoods likelihood.py's. Answers are kept, if a file is given, under a hash
of all they depend on, and not computed again.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]

from punt_jax import files, jsonl, parallel
from punt_jax.checkpoints import Pretrained
from punt_jax.generation import generator, model_args, prompts
from punt_jax.generation.answers import Answers as Answers
from punt_jax.generation.answers import answers as answers
from punt_jax.viz.progress import progress

LOG = logging.getLogger('lm_eval')


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
  digest: str = ''  # of the model, by which answers are known; '': its name
  judge: Callable | None = None  # see likelihood.judge; None: no continuation
  # is said to be the greedy one


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
    stops = [model_args.stops(request.args[1]) for request in requests]
    groups = [
      (task, group, self.engine.writer(requests[group[0]].args[1]))
      for task, group in alike(requests, kind)
    ]  # what is wrong with the settings of a task is said before any is asked
    self.used = [None] * len(requests)
    for task, group, writer in groups:
      asked = [requests[i].args[0] for i in group]
      work = functools.partial(write, writer, asked, self._marks)
      rows = self._answered(task, 'text', writer.settings, asked, work)
      for i, row in zip(group, rows, strict=True):
        self.used[i] = row
    texts = [
      prompts.cut(row['text'], stop, row.get('marks', ()))
      for row, stop in zip(self.used, stops, strict=True)
    ]
    eaten(requests, self.used, texts)
    return texts

  def _marks(self, ids):
    """[(place in the text of ids, token)] of the special tokens among them."""
    loaded = self.engine.loaded
    names = {i: x for x, i in loaded.text.special.items()} if loaded else {}
    there = [n for n, token in enumerate(ids) if token in names]
    text = lambda n: generator.plain(loaded, np.array(ids[:n], int))
    return [(len(text(n)), names[ids[n]]) for n in there]

  def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
    """[(bound on log p of the continuation given the context, is it greedy)].

    The second says whether greedy decoding writes this very continuation, see
    likelihood.py; False if the engine has no `judge`.
    """
    self.used = [None] * len(requests)
    for task, group in alike(requests):
      asked = [list(requests[i].args) for i in group]
      split = lambda pair: self._split(*pair)
      rows = self._scored(task, 'p', self.engine.score, asked, split)
      judge = self.engine.judge
      same = (
        self._scored(task, 'greedy', judge, asked, split) if judge
        else [{}] * len(rows)
      )
      for i, row, more in zip(group, rows, same, strict=True):
        self.used[i] = {**more, **row}
    return [(-row['nats'], row.get('same', False)) for row in self.used]

  def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
    """[bound on log p of a text], in pieces of half the model's length.

    Each piece is scored given what stands before it, the prefix first, as far
    as that fits.
    """
    encode = self._ids
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
      rows = self._scored(
        task, 'rolling', self.engine.score, asked, piece_of
      )
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
    """For lm-eval's own caches of prompts: whose template has been applied.

    By content: a digest of the tokenizer and the template.
    """
    loaded = self.engine.loaded
    said = [loaded.text.spec, str(getattr(loaded.chat, 'args', ())[1:])]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

  def _ids(self, text):
    """(n,) ids of a text that holds no blanks, whatever its letters are."""
    return self.engine.loaded.text.encode(text, '')

  def _scored(self, task, kind, score, asked, pair_of):
    """The row of each request for an answer: its likelihood, or a Greedy.

    Args:
      task: its name, for people.
      kind: of the request.
      score: Engine.score or Engine.judge.
      asked: what tells requests apart, JSON.
      pair_of: one of `asked` -> (n,) ids, and where the answer starts.
    """

    def work(todo):
      pairs = [called(n, pair_of, asked[n]) for n in todo]
      lines, starts = zip(*pairs, strict=True) if pairs else ((), ())
      for batch in score(lines, starts, todo):
        yield [(n, found._asdict()) for n, found in batch]

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

    Spaces between them belong to the continuation, as words are tokenized, and
    so do letters of the context that share a token with it.
    """
    prefix = self._ids(self.engine.prefix)
    ids = np.append(prefix, self._ids(context + continuation))
    if len(ids) > self.engine.loaded.room:
      raise ValueError(
        f'a context and its continuation have {len(ids)} tokens, the model has'
        f' room for {self.engine.loaded.room}: use fewer shots'
      )
    stem = np.append(prefix, self._ids(context.rstrip()))[: len(ids)]
    same = np.append(stem == ids[: len(stem)], False)
    return ids, int(same.argmin())


def write(
  writer: Writer, asked: Sequence[str], marks: Callable[..., Any],
  todo: Sequence[int],
) -> Iterator[list[tuple[int, dict]]]:
  """Yields [(number, row of a text)] of the prompts `todo`, as they finish."""
  ids = [called(n, writer.encode, asked[n]) for n in todo]
  for batch in writer.write(ids, todo):
    yield [
      (row.number, {
        'text': row.text, 'tokens': row.count, 'nfe': row.nfe,
        'seconds': row.seconds / row.shared,
        'marks': marks(getattr(row, 'tokens', [])[: row.count]),
      }) for row in batch
    ]


def called(number: int, work: Callable[..., Any], asked: Any) -> Any:
  """work(asked); a ValueError says which request it is about."""
  try:
    return work(asked)
  except ValueError as error:
    raise ValueError(f'request {number}: {error}') from None


def eaten(
  requests: Sequence[Any], rows: Sequence[dict[str, Any]], texts: Sequence[str]
) -> None:
  """Says of which tasks answers were cut to nothing."""
  lost: dict[str, int] = {}
  for request, row, text in zip(requests, rows, texts, strict=True):
    if row['text'].strip() and not text.strip():
      lost[request.task_name] = lost.get(request.task_name, 0) + 1
  for task, count in lost.items():
    LOG.warning(
      f'{task}: {count} answers begin with a stop string, nothing is left of'
      ' them'
    )


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
