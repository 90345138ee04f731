"""Talk to a model, and watch the canvas fill up.

  punt-jax chat
  punt-jax chat --model=DIR --sampler='punt(epsilon=0.1)'

A model with a chat template answers in a conversation. Another one goes on with
the text so far, by half the length it was trained on at most: a line is added
to it, an empty line adds nothing. /new begins anew, /quit (or the end of the
input, or Ctrl-C) leaves; Ctrl-C while it writes stops that answer. On a
terminal each step of the sampler is drawn: a dim dot is a mask, the color of a
letter says which step wrote it; a model with blocks of its own is shown as far
as it has begun them. On a pipe there is the text alone, in blocks as they are
finished.

Canvases have a multiple of --bucket positions; each length is compiled once.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from punt_jax.checkpoints import Pretrained
from punt_jax.cli import command, configs, families
from punt_jax.cli import talk as talk_lib
from punt_jax.decode import Run
from punt_jax.generation import generator
from punt_jax.viz import terminal

HELP = '/new begins anew, /quit leaves; a line that begins with / is no text'


class Screen:
  """The canvas, drawn in place on a terminal; nothing elsewhere."""

  def __init__(self, loaded: Pretrained, stream: TextIO = sys.stdout) -> None:
    self.loaded, self.stream = loaded, stream
    self.on, self.color = stream.isatty(), terminal.colored(stream)
    self.height = 0
    self.letters = {}  # token id: what is shown of it

  def letter(self, token: int) -> str:
    """What one token looks like."""
    if token not in self.letters:
      known = generator.need_text(self.loaded)
      text = generator.plain(self.loaded, np.array([token]))
      mask = terminal.dot(self.color)
      self.letters[token] = mask if token == known.vocab else text
    return self.letters[token]

  def draw(
    self, run: Run, new: int, count: int, said: str | None = None
  ) -> None:
    """The first `count` of the last `new` positions of a Run.

    In place of what was drawn last; with nothing `said` below, it stays.
    """
    if not self.on:
      return
    width, high = shutil.get_terminal_size()
    tokens, when = (
      np.asarray(x)[0, -new:][:count] for x in (run.tokens, run.when)
    )
    lines = terminal.wrapped(
      [self.letter(token) for token in tokens.tolist()], when.tolist(),
      int(run.steps[0]), self.color, width - 1,
    )[-(high - 3) :]
    if self.height:
      self.stream.write(f'\033[{self.height}A\r\033[J')
    lines += [] if said is None else [said]
    self.stream.write('\n'.join(lines) + '\n')
    self.stream.flush()
    self.height = 0 if said is None else len(lines)


def say(text: str, shown: str) -> str:
  """Prints what `text` has more than what was shown; returns all of it."""
  print(text.removeprefix(shown), end='', flush=True)
  return text


def answer(talk: talk_lib.Talk, screen: Screen, line: str) -> None:
  """One line of the user, and what the model says to it."""
  tokens, valid, new, said = talk.ask(line)
  length = tokens.shape[1]
  if length not in talk.compiled:
    note(f'compiling for a canvas of {length} positions, once ...')
    talk.compile(length)
  begin = time.perf_counter()
  cost = lambda: terminal.counted(int(run.memo.meter.nfe[0]), 'pass', 'es')
  shown, ready = '', 0
  try:
    for run in talk.write(tokens, valid):
      was, ready = ready, talk.ready(run, new)
      screen.draw(run, new, talk.begun(new, ready), cost())
      if not screen.on and ready > was:
        shown = say(talk.certain(run, new, ready), shown)
  except KeyboardInterrupt:
    screen.height = 0
    raise
  seconds = time.perf_counter() - begin
  text, count = talk.heard(said, run, new)
  screen.draw(run, new, count)
  if not screen.on:
    say(text + '\n', shown)
  note(
    f'[{terminal.counted(count, "token")} in {cost()},'
    f' {count / seconds:.1f} tokens/s]'
  )


def note(sentence: str | Exception) -> None:
  """A remark that is no answer: to stderr."""
  print(sentence, file=sys.stderr, flush=True)


def talk_on(talk: talk_lib.Talk, screen: Screen) -> None:
  """The loop: reads lines until there are no more; then Ctrl-C is raised."""
  prompt = '> ' if sys.stdin.isatty() else ''
  while True:
    try:
      typed = input(prompt).removeprefix('\ufeff').rstrip()
      line = configs.unescaped(typed, talk.escapes)
    except EOFError:
      if prompt:
        print()
      return
    try:
      if line == '/quit':
        return
      if line == '/new':
        talk.forget()
      elif line.startswith('/'):
        note(HELP)
      elif line or not talk.is_chat:
        answer(talk, screen, line)
    except ValueError as error:
      note(error)
    except KeyboardInterrupt:
      note('\nstopped: this answer is not kept')


def run(config: Any, workdir: str | None, preset: str | None = None) -> None:
  """The command."""
  del workdir  # there is none
  said = families.said(config, preset)
  if said:
    note(said)
  talk = talk_lib.Talk(config, configs.load(config))
  how = 'a conversation' if talk.is_chat else 'it goes on with your text'
  note(f'{config.model}, {talk.choice.name} ({talk.choice}); {how}; {HELP}')
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401  lines can be edited, and come again
  talk_on(talk, Screen(talk.loaded))
  if talk.compiled_now and not talk.compiled_now.is_set():
    sys.stdout.flush()
    os._exit(0)  # Python cannot end while a thread is in C++


def default(typed: Callable[[str], str | None]) -> Any:
  """The config: as of generate, without what is about several texts."""
  config = families.default(typed)
  for name in {'batch', 'blank', 'samples', 'fit'} & set(config):
    del config[name]
  return config


def main() -> None:
  """The command."""
  command.run_config(
    run, needs=(), default=default, preset=families.HELP, workdir='',
    patient=True,
  )


if __name__ == '__main__':
  main()
