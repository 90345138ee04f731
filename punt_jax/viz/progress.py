"""How far a job is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import tqdm

EVERY = 10.0  # seconds between two lines of a log
SILENT = 30.0  # seconds after which `alive` says that a job still runs


class _Lines(tqdm.tqdm):
  """A bar whose every state is a line of its own, for files and pipes."""

  said = float('-inf')  # when the last line was written
  shown: int | None = None  # what it said of n

  def display(self, msg=None, pos=None):
    del pos
    if self.n > self.initial or msg:  # nothing to say before the first
      self.said, self.shown = time.monotonic(), self.n
      self.fp.write(f'{msg or self}\n')
      self.fp.flush()

  def clear(self, nolock=False):
    """There is no bar to wipe out."""

  def close(self):
    """Says the last state."""
    if not self.disable:
      self.disable = True
      if self.n != self.shown:
        self.display()

  @classmethod
  def write(cls, s, *_, **__):
    """Prints a line; there is no bar to get out of its way."""
    print(s, flush=True)


def progress(
  items: Iterable | None = None, what: str | None = None,
  total: int | None = None, unit: str = 'it', start: int = 0,
) -> tqdm.tqdm:
  """A tqdm bar over items, or one to `update` and `close` by hand.

  Args:
    items: iterable; None: by hand.
    what: the bar's name.
    total: how many there are, where items does not say.
    unit: what is counted.
    start: how many are there already.
  """
  tty = sys.stderr.isatty()
  return (tqdm.tqdm if tty else _Lines)(
    items, what, total, leave=not tty, unit=unit, initial=start,
    mininterval=0.1 if tty else EVERY, maxinterval=0.1 if tty else EVERY,
    ncols=None if tty else 78, ascii=not tty, disable=False,
  )


@contextlib.contextmanager
def alive(bar: tqdm.tqdm) -> Iterator[tqdm.tqdm]:
  """Closes a bar of `progress` after a block, and shows that the block runs.

  Where a compiled program takes minutes nobody can update the bar. On a
  terminal its clock goes on, elsewhere a line is written whenever there was
  none for SILENT seconds.
  """
  done, begun = threading.Event(), time.monotonic()

  def show():
    while not done.wait(min(1.0, SILENT)):
      if not isinstance(bar, _Lines):
        bar.refresh()
      elif time.monotonic() - max(begun, bar.said) >= SILENT:
        bar.display(str(bar))

  thread = threading.Thread(target=show, daemon=True)
  thread.start()
  try:
    yield bar
  finally:
    done.set()
    thread.join()
    bar.close()


def duration(seconds: float) -> str:
  """'40 s', '3 min' or '2.5 h'."""
  if seconds < 99.5:
    return f'{seconds:.0f} s'
  minutes = seconds / 60
  return f'{minutes:.0f} min' if minutes < 99.5 else f'{minutes / 60:.1f} h'
