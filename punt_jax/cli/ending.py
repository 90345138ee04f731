"""How commands end: after a signal, or an exception that is not our fault."""

import contextlib
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator

from punt_jax import files

PATIENCE = 0.5  # seconds until a process that waits for a block says so
LONG = 300  # letters of a word that is cut
_asked = 'interrupted', signal.SIGINT  # what to say, and which signal it was


def watch(program: str, said: str, patient: bool = False) -> None:
  """From now on Ctrl-C and SIGTERM end the process, even one that compiles.

  No KeyboardInterrupt is raised: C++ would hold it back, a callback swallow it.
  The first signal waits for blocks of files.whole, the second for nothing.

  Args:
    program: what runs.
    said: the line that the process leaves.
    patient: the job sees to Ctrl-C itself, as a KeyboardInterrupt.
  """
  global _asked
  _asked = said, signal.SIGINT
  read, write = os.pipe()
  os.set_blocking(write, False)
  watched = [signal.SIGTERM, *([] if patient else [signal.SIGINT])]
  for number in watched:
    signal.signal(number, lambda *_: None)
  # Written to at once, whoever holds Python.
  signal.set_wakeup_fd(write, warn_on_full_buffer=False)

  def one():
    while (number := os.read(read, 1)[0]) not in watched:
      pass
    return number

  def wait():
    global _asked
    _asked = said, one()
    leave = lambda: _leave(program, *_asked)
    files.stop(leave)
    if not select.select([read], [], [], PATIENCE)[0]:
      _say(f'{program}: ends when what it does is done; once more: at once')
    one()
    leave()

  threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def by_sigterm() -> Iterator[None]:
  """A block that SIGTERM ends with 143, where nothing is watched."""
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def after(program: str, error: BaseException) -> None:
  """Ends the process after an exception; returns if it is a fault of ours."""
  if isinstance(error, KeyboardInterrupt):  # it may say what has been saved
    said, number = _asked
    _leave(program, f'interrupted; {error}' if str(error) else said, number)
  if isinstance(error, BrokenPipeError):  # whoever read the output has left
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  said = sentence(error)
  if said is not None:
    cut = lambda word: f'{word[0][:LONG // 3]}... ({len(word[0])} letters)'
    sys.exit(f'{program}: {re.sub(rf"[^ ]{{{LONG},}}", cut, said)}')


def sentence(error: BaseException) -> str | None:
  """What to say of an exception; None of a fault of this library."""
  text = str(error).strip()
  if isinstance(error, OSError):
    where = f'{error.filename}: ' if error.filename else ''
    return f'{where}{error.strerror or error}'
  if isinstance(error, UnicodeDecodeError):
    return f'what was read is not UTF-8 text: {text}'
  if isinstance(error, ValueError):
    return text
  if isinstance(error, ImportError):
    return f'{text}: a package is missing, or of another version'
  if isinstance(error, RecursionError):
    return f'what was given is nested too deeply ({text})'
  # jax has no class for it
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in text:
    return (
      'not enough memory: use fewer rows at a time (--batch), fewer positions'
      ' or more devices for the weights (--group)'
    )
  return None


def _leave(program, said, number):
  """Ends the process after a signal, in one line."""

  def tell():
    with contextlib.suppress(OSError, ValueError, AttributeError):
      sys.stdout.flush()
    start = '\n' if sys.stderr and sys.stderr.isatty() else ''  # behind ^C
    _say(f'{start}{program}: {said}')

  thread = threading.Thread(target=tell, daemon=True)
  thread.start()
  thread.join(1)  # a pipe that nobody reads would hold it for ever
  os._exit(128 + number)  # exit would wait for threads that compile


def _say(line):
  with contextlib.suppress(OSError, ValueError):
    print(line, file=sys.stderr, flush=True)
