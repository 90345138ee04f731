"""How far a job is: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Iterable

import tqdm

EVERY = 10.0  # seconds between two lines of a log


class _Lines(tqdm.tqdm):
  """A bar whose every state is a line of its own, for files and pipes."""

  def display(self, msg=None, pos=None):
    del pos
    if self.n or msg:  # nothing to say before the first
      self.fp.write(f'{msg or self}\n')
      self.fp.flush()

  def clear(self, nolock=False):
    """There is no bar to wipe out."""

  def close(self):
    """Says the last state."""
    if not self.disable:
      self.disable = True
      self.display()


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
    ncols=None if tty else 78, ascii=not tty,
  )
