"""A conversation with a model, step by step: what `chat` shows.

Canvases have a multiple of the bucket's positions, and each length is compiled
once. A turn that was stopped is not kept.
"""

import functools
import math
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import punt_jax
from punt_jax import decode
from punt_jax.checkpoints import Pretrained
from punt_jax.cli import configs
from punt_jax.decode import Run
from punt_jax.generation import generator, options, prompts, streams
from punt_jax.types import BuildFn, Tree


def settled(
  build: BuildFn, params: Tree, hyperparams: Tree, run: Run
) -> jax.Array:
  """(B, L) bool: see decode.settled."""
  return decode.settled(run, *build(params, hyperparams))


class Talk:
  """A conversation, or a text so far, with a model."""

  def __init__(self, config: Any, loaded: Pretrained) -> None:
    self.loaded, self.text = loaded, generator.need_text(loaded)
    blocks = generator.blocks_of(loaded)
    self.choice = options.fitted(configs.one(config), blocks)
    said = generator.checked(configs.settings(config))
    self.settings = said._replace(chat=False, blank='')
    self.escapes = config.get('escapes', False)
    self.is_chat = config.chat
    if self.is_chat and loaded.chat is None:
      raise ValueError('the model has no chat template: use --nochat')
    build, self.hyperparams, *_ = generator.builder(
      self.settings, loaded, self.choice
    )
    build(loaded.params, self.hyperparams)  # names a value out of range
    self.steps = punt_jax.step(build)
    self.settled = jax.jit(functools.partial(settled, build))
    self.key = jax.random.key(self.settings.seed)
    self.turn = 0  # each draws from its own key
    self.compiled = set()  # canvas lengths
    self.compiled_now = None  # Event: what was compiled last is ready
    self.forget()

  def forget(self) -> None:
    """A new conversation."""
    self.past: Any = [] if self.is_chat else ''

  def ask(self, line: str) -> tuple[np.ndarray, np.ndarray, int, Any]:
    """(tokens (1, L), valid (1, L), how many are new, what is said so far).

    What is said are messages in a conversation, else a text.

    Raises:
      ValueError: the model cannot take it.
    """
    new, room = self.settings.max_new_tokens, self.loaded.room
    one = self.settings._replace(max_new_tokens=1)
    if self.is_chat:
      said = [*self.past, {'role': 'user', 'content': line}]
    else:
      said = self.past + '\n' * bool(self.past and line) + line
    # Of a text that goes on, what is further back is not looked at.
    most = room if self.is_chat else math.inf
    try:
      ids = prompts.encode(one, self.loaded, said, most)
    except ValueError as error:
      hint = '; /new begins anew' * bool(self.past)
      raise ValueError(f'{error}{hint}') from None
    if not self.is_chat:
      room = min(room, self.loaded.length)
      new = min(new, max(1, room // 2))
      ids = ids[max(0, len(ids) - (room - new)) :]
    new = int(min(new, room - len(ids)))
    ids = np.append(ids, [self.text.vocab] * new).astype(np.int32)
    length = prompts.padded(self.settings, self.loaded, len(ids))
    return *prompts.lay([ids], 1, length), new, said

  def start(self, tokens: np.ndarray, valid: np.ndarray | None) -> Run:
    """The run before its first step."""
    return self.steps.start(
      self.loaded.params, self.hyperparams, self.key, tokens, valid=valid,
      rows=np.array([self.turn]),
    )

  def compile(self, length: int) -> None:
    """Compiles for canvases of this length; Ctrl-C stops the waiting at once.

    What was begun goes on in its thread, and is not lost.
    """
    failed, self.compiled_now = [], threading.Event()

    def work(done):
      try:
        run = self.start(np.zeros((1, length), np.int32), None)  # all is done
        for _ in range(2):  # what a step gives may differ from what start does
          run, _ = self.steps.advance(
            self.loaded.params, self.hyperparams, run
          )
          self.settled(self.loaded.params, self.hyperparams, run)
        self.compiled.add(length)
      except Exception as error:  # raised where it is waited for
        failed.append(error)
      done.set()

    threading.Thread(target=work, args=[self.compiled_now], daemon=True).start()
    while not self.compiled_now.wait(0.1):
      pass
    if failed:
      raise failed[0]

  def write(self, tokens: np.ndarray, valid: np.ndarray) -> Iterator[Run]:
    """Yields the Run before the first step and after each.

    Raises:
      ValueError: a log-probability that is not finite; the answer is not kept.
    """
    run = self.start(tokens, valid)
    yield run
    most = options.most_steps(self.choice, tokens.shape[1])
    while not bool(run.done.all()) and int(run.steps[0]) < most:
      run, _ = self.steps.advance(self.loaded.params, self.hyperparams, run)
      if not np.isfinite(np.asarray(run.log_q)).all():
        raise ValueError(
          f'step {int(run.steps[0])} of this answer has the log-probability'
          f' {run.log_q[0]}: the logits of the model are not finite for it'
        )
      yield run

  def ready(self, run: Run, new: int) -> int:
    """How many of the `new` positions, the first ones, change no more."""
    found = self.settled(self.loaded.params, self.hyperparams, run)
    return int(np.append(np.asarray(found)[0, -new:], False).argmin())

  def begun(self, new: int, ready: int) -> int:
    """How many of them are worth a look.

    All, but of a model with blocks of its own a block behind the finished ones.
    """
    return min(new, ready + (self.choice.blocks or new))

  def certain(self, run: Run, new: int, ready: int) -> str:
    """The text of the first `ready` of them, see streams.certain."""
    ids = np.asarray(run.tokens)[0, -new:][:ready]
    count = generator.before_end(self.loaded, ids)
    return streams.certain(generator.plain(self.loaded, ids[:count]))

  def heard(self, said: Any, run: Run, new: int) -> tuple[str, int]:
    """Keeps a whole answer -> (its text, tokens before the first end token).

    `said` and `new` are what `ask` gave.
    """
    ids = np.asarray(run.tokens)[0, -new:]
    count = generator.before_end(self.loaded, ids)
    text = generator.plain(self.loaded, ids[:count])
    answer = {'role': 'assistant', 'content': text}
    self.past = [*said, answer] if self.is_chat else said + text
    self.turn += 1
    return text, count
