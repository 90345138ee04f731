"""A model of this library for EleutherAI's lm-evaluation-harness.

lm-eval (pip install 'punt-jax[eval]') asks for texts and likelihoods; the
texts are generator.py's, the likelihoods likelihood.py's. Every answer is
appended to a JSONL file as it is finished, under a hash of all it depends on,
and is not computed again.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tqdm
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]

from punt_jax import jsonl
from punt_jax.generation import prompts


class Engine(NamedTuple):
  """What answers."""

  name: str  # of the model
  encode: Callable  # str -> (n,) ids of a prompt
  write: Callable  # see generator.Generator
  score: Callable  # see likelihood.scorer
  loaded: Any  # checkpoints.Pretrained
  settings: Any  # JSON: all else that an answer depends on
  prefix: str = ''  # before every text whose likelihood is asked for


class Answers(NamedTuple):
  """What has been answered already."""

  file: Any  # JSONL
  rows: dict  # hash of a request -> dict


def answers(file) -> Answers:
  """Those in a file; a half-written last line is dropped."""
  rows = {row['key']: row for row in jsonl.read(file)}
  jsonl.replace(file, rows.values())
  return Answers(file, rows)


class Harness(LM):
  """lm-eval's view of an Engine. `used` holds the rows of the last requests."""

  def __init__(self, engine, known):
    super().__init__()
    self.engine, self.known, self.used = engine, known, []

  def generate_until(self, requests):
    """[str]: what is written behind each prompt, cut at the stop strings."""
    asked = [request.args[0] for request in requests]

    def work(todo):
      ids = [self.engine.encode(asked[n]) for n in todo]
      for batch in self.engine.write(ids, todo):
        yield [
          (row.number, {
            'text': row.text, 'tokens': row.count, 'nfe': row.nfe,
            'seconds': row.seconds / row.shared,
          }) for row in batch
        ]

    rows = self._answered('text', asked, work)
    stops = [request.args[1].get('until') or [] for request in requests]
    pairs = zip(rows, stops, strict=True)
    return [prompts.cut(row['text'], stop) for row, stop in pairs]

  def loglikelihood(self, requests):
    """[(bound on log p of the continuation given the context, False)]."""
    asked = [list(request.args) for request in requests]
    pairs = lambda todo: [self._split(*asked[n]) for n in todo]
    work = lambda todo: self._score(pairs(todo), todo)
    return [(-row['nats'], False) for row in self._answered('p', asked, work)]

  def loglikelihood_rolling(self, requests):
    """[bound on log p of a text], in pieces of half the model's length.

    Each piece is scored given what stands before it, the prefix first, as far
    as that fits.
    """
    most = self.engine.loaded.length
    half = max(1, most // 2)
    encode = self.engine.loaded.text.encode
    prefix = encode(self.engine.prefix).tolist()
    asked, owner = [], []
    for n, request in enumerate(requests):
      ids = prefix + encode(request.args[0]).tolist()
      for start in range(len(prefix), len(ids), half):
        first = max(0, start + half - most)
        asked.append([ids[first : start + half], start - first])
        owner.append(n)

    def work(todo):
      pairs = [(np.array(asked[n][0]), asked[n][1]) for n in todo]
      return self._score(pairs, todo)

    total = [0.0] * len(requests)
    rows = self._answered('rolling', asked, work)
    for n, row in zip(owner, rows, strict=True):
      total[n] -= row['nats']
    return total

  def apply_chat_template(self, chat_history, add_generation_prompt=True):
    """Messages as a prompt; a last one of the assistant is left unfinished."""
    if add_generation_prompt:
      return self.engine.loaded.chat(chat_history)
    *before, last = chat_history
    return self.engine.loaded.chat(before) + last['content']

  @property
  def tokenizer_name(self):
    """For lm-eval's own caches, which are not used."""
    return self.engine.name

  def _answered(self, kind, asked, work):
    """The row of each request; `work` is asked for those not known yet."""
    said = [
      json.dumps([kind, self.engine.name, self.engine.settings, n, request])
      for n, request in enumerate(asked)
    ]
    keys = [hashlib.sha256(line.encode()).hexdigest() for line in said]
    todo = [n for n, key in enumerate(keys) if key not in self.known.rows]
    bar = tqdm.tqdm(
      total=len(keys), initial=len(keys) - len(todo), unit='answer',
      disable=None,
    )
    for batch in work(todo):
      for n, found in batch:
        self.known.rows[keys[n]] = {'key': keys[n], 'number': n, **found}
        jsonl.append(self.known.file, self.known.rows[keys[n]])
      bar.update(len(batch))
    bar.close()
    self.used = [self.known.rows[key] for key in keys]
    return self.used

  def _split(self, context, continuation):
    """Ids of prefix, both (n,), and where the continuation starts.

    Spaces between them belong to the continuation, as words are tokenized.
    """
    stem = context.rstrip()
    encode = self.engine.loaded.text.encode
    prefix = encode(self.engine.prefix)
    ids = np.append(prefix, encode(context + continuation))
    if len(ids) > self.engine.loaded.length:
      raise ValueError(
        f'a context and its continuation have {len(ids)} tokens, the model has'
        f' room for {self.engine.loaded.length}: use fewer shots'
      )
    return ids, min(len(prefix) + len(encode(stem)), len(ids))

  def _score(self, pairs, todo):
    lines, starts = zip(*pairs, strict=True) if pairs else ((), ())
    for batch in self.engine.score(lines, starts, todo):
      yield [
        (n, {'nats': bound.nats, 'error': bound.error}) for n, bound in batch
      ]


def guesses(settings, loaded):
  """`Engine.write` of no model at all: random tokens, the floor of a task.

  Special tokens do not occur. nfe is 0.
  """
  special = list((loaded.ids or {}).values())
  usual = np.setdiff1d(np.arange(loaded.text.vocab), special)

  def write(ids, numbers):
    for number in numbers:
      random = np.random.default_rng((settings.seed, number))
      tokens = random.choice(usual, settings.max_new_tokens)
      yield [Guess(number, loaded.text.decode(tokens), settings.max_new_tokens)]

  return write


class Guess(NamedTuple):
  """Of generator.Written, what the harness reads."""

  number: int
  text: str
  count: int
  nfe: int = 0
  seconds: float = 0.0
  shared: int = 1
