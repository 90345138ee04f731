"""Files that are whole whenever a process ends, folders with one writer.

A file or folder is written aside, synced and renamed, so that a kill or a full
disk leaves the old one or the new one. Ctrl-C and SIGTERM wait for a `whole`
block. What is read is a plain file, and no larger than what it should be.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

try:
  import fcntl
except ImportError:  # Windows: nothing is locked
  fcntl = None

FilePath = str | os.PathLike[str]
LOCK = '.lock'  # in a folder that is, or was, in use
MOST = 2**24  # bytes of a file that is read whole
stopping = threading.Event()  # the process has been asked to end
_guard = threading.RLock()
_inside = 0  # blocks of `whole`
_leave: Callable[[], Any] = lambda: None  # ends the process


def stop(leave: Callable[[], Any]) -> None:
  """Calls leave(), which ends the process: now, or behind `whole` blocks."""
  global _leave
  with _guard:
    _leave = leave
    stopping.set()
    if not _inside:
      leave()


@contextlib.contextmanager
def whole() -> Iterator[threading.Event]:
  """A block that Ctrl-C and SIGTERM do not cut: the process ends behind it.

  A long block polls what is yielded, `stopping`, and leaves early once it is
  set. A second signal ends the process at once. Commands alone do so
  (punt_jax/cli/command.py); elsewhere signals do what they always do.
  """
  global _inside
  with _guard:
    _inside += 1
  try:
    yield stopping
  finally:
    with _guard:
      _inside -= 1
      last = not _inside
  if last and stopping.is_set():  # but not if the block has failed
    _leave()


def part_of(path: FilePath) -> pathlib.Path:
  """Where a file is written before it takes its place."""
  path = pathlib.Path(path)
  return path.with_name(f'.{path.stem}.part{path.suffix}')


@contextlib.contextmanager
def replacing(path: FilePath) -> Iterator[pathlib.Path]:
  """Yields a path to write to, which takes the place of `path` in the end.

  An exception leaves what was there; an OSError names `path`.
  """
  path = pathlib.Path(path)
  part = part_of(path)
  with whole():
    try:
      yield part
      sync(part)
      os.replace(part, path)
    except BaseException as error:
      with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
      if isinstance(error, OSError):
        error.filename, error.filename2 = str(path), None
      raise


def sync(path: FilePath) -> None:
  """Waits until a file that was written is on the disk."""
  with open(path, 'rb+') as stream:
    os.fsync(stream.fileno())


@contextlib.contextmanager
def new_folder(folder: FilePath) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which gets the name `folder` in the end.

  It lies beside it; what a killed process left there is removed.

  Raises:
    ValueError: there is something of that name, or another process writes it.
  """
  folder = pathlib.Path(os.path.abspath(folder))
  if os.path.lexists(folder) and (
    not folder.is_dir() or any(folder.iterdir())
  ):
    raise ValueError(
      f'{folder} is there already and is no empty folder: give another name'
    )
  part = part_of(folder)
  part.mkdir(parents=True, exist_ok=True)
  with lock(part):
    for file in part.iterdir():
      if file.name != LOCK:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    try:
      yield part
      (part / LOCK).unlink()
      os.replace(part, folder)
    except BaseException:
      shutil.rmtree(part, ignore_errors=True)
      raise


def size(path: FilePath) -> int | None:
  """Bytes of a plain file, None if there is nothing of that name.

  Raises:
    ValueError: one sentence: a folder, a device or a pipe (to read from one may
      never end), a link to nothing, or something that may not be looked at.
  """
  said = f'{path!s:.200}'
  try:
    found = os.stat(path)
  except (FileNotFoundError, NotADirectoryError):
    if os.path.islink(path):
      raise ValueError(f'{said} is a link to a file that is absent') from None
    return None
  except (OSError, ValueError) as error:
    why = getattr(error, 'strerror', None) or error
    raise ValueError(f'{said} cannot be read: {why}') from None
  if not stat.S_ISREG(found.st_mode):
    kind = 'a folder' if stat.S_ISDIR(found.st_mode) else 'a device or a pipe'
    raise ValueError(f'{said} is {kind}, and must be a file')
  return found.st_size


def read(path: FilePath, most: int = MOST) -> bytes:
  """The content of a plain file.

  Raises:
    ValueError: one sentence: see `size`, or it is missing or larger than `most`
      bytes.
  """
  found = size(path)
  if found is None:
    raise ValueError(f'{path} is missing')
  try:
    with open(path, 'rb') as stream:
      data = stream.read(most + 1) if found <= most else b''
  except OSError as error:
    raise ValueError(f'{path} cannot be read: {error.strerror}') from None
  if max(found, len(data)) > most:  # a file of Linux's may claim no bytes
    raise ValueError(f'{path} has more than {most} bytes, too many to be read')
  return data


def write(path: FilePath, content: str | bytes) -> None:
  """Writes a file; text as UTF-8. See `replacing`."""
  data = content.encode('utf-8') if isinstance(content, str) else content
  with replacing(path) as part:
    part.write_bytes(data)


def digest(path: FilePath) -> str:
  """SHA-256 of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as stream:
    return hashlib.file_digest(stream, 'sha256').hexdigest()


def lock(folder: FilePath) -> IO[str]:
  """Locks a folder for as long as the file that is returned is open.

  The system frees it when the process ends, however it ends. Where the file
  system knows no locks, nothing is locked.

  Raises:
    ValueError: another run holds it.
  """
  stream = open(pathlib.Path(folder, LOCK), 'a+', encoding='utf-8')
  try:
    if fcntl:
      fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    stream.seek(0)
    who = stream.read(20).strip() or 'unknown'
    stream.close()
    raise ValueError(
      f'{folder} is in use by another run (process {who}): wait until it has'
      ' ended, or use another folder'
    ) from None
  except OSError:
    pass
  stream.seek(0)
  stream.truncate()
  stream.write(str(os.getpid()))
  stream.flush()
  return stream
