"""Calls of orbax that end without a word or with a reason."""

import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

SETTLE = 0.3  # seconds until reads that were cut short have ended
SYSTEM = (  # what is no fault of a file's content
  'No space left on device', 'File too large', 'Disk quota exceeded',
  'Permission denied', 'Read-only file system', 'Input/output error',
  'Too many open files', 'Stale file handle',
)


def call(work: Callable[[], Any]) -> tuple[Any, str | None]:
  """work() -> (what it returns, None), or (None, why it has failed).

  The reason is one of SYSTEM or the exception's kind. Where memory is missing
  the exception comes through.

  orbax logs what it meets, and the reads of its threads that a failure has cut
  short complain when they end: none of it reaches the screen.
  """
  hooks, silent = (sys.unraisablehook, sys.excepthook), lambda *_: None
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  sys.unraisablehook = sys.excepthook = silent
  found = failed = None
  try:
    try:
      found = work()
    except MemoryError:
      raise
    except Exception as error:  # orbax and tensorstore raise many kinds
      failed = _reason(error)
      if 'RESOURCE_EXHAUSTED' in str(error) and failed not in SYSTEM:
        raise  # of a device
    if failed:
      time.sleep(SETTLE)
      gc.collect()
  finally:
    logging.disable(before)
    sys.unraisablehook, sys.excepthook = hooks
  return found, failed


def _reason(error):
  """What an exception says of the system, or else its kind."""
  said = getattr(error, 'strerror', None) or str(error)
  named = (word for word in SYSTEM if word in said)
  return next(named, type(error).__name__)
