"""Runs a program that a model wrote, where it can do no harm.

It gets a Python process of its own that can compute and read files and do
nothing else. The kernel enforces it: a seccomp filter (seccomp(2)) knows a list
of system calls, and refuses every other one. So there is no network, no other
process, no signal, and no file is opened for writing. Processor time, memory
and open files are limited; standard streams lead nowhere; the environment is
empty; after a time limit the process is killed.

What it can read are Python and its packages, the system's libraries and an
empty folder (landlock(7)). So the evaluator's environment (/proc/PID/environ),
its memory and its files are out of reach. Twice: the process has given up all
capabilities, root's too, and the evaluator is not dumpable while it runs.

Not prevented: seeing that a file is there, and its size; and a program that
searches its own process for the word that means success. Kernels before 5.13
have no Landlock: what the user may read can be read there, other processes'
environments too, but not the evaluator's (see `reads_little`).
"""

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import platform
import resource
import secrets
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile

SECONDS = 5  # of the processor; twice as many on the clock
MEMORY = 2**30  # bytes of address space
# Numbers of system calls on x86_64: read, write, close, stat, fstat, lstat,
# poll, lseek, mmap, mprotect, munmap, brk, signal handlers, pread64, readv,
# writev, access, select, sched_yield, mremap, dup, dup2, nanosleep, getpid,
# exit, uname, getdents, getcwd, readlink, gettimeofday,
# getrlimit, getrusage, sysinfo, times, user and group ids, getppid,
# sigaltstack, arch_prctl, gettid, time, futex, sched_getaffinity, getdents64,
# clocks, exit_group, newfstatat, readlinkat, faccessat, pselect6, ppoll, dup3,
# getrandom, statx, rseq, faccessat2.
HARMLESS = (
  0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 21, 23, 24, 25,
  32, 33, 35, 39, 60, 63, 78, 79, 89, 96, 97, 98, 99, 100, 102, 104,
  107, 108, 110, 131, 158, 186, 201, 202, 204, 217, 228, 229, 230, 231, 262,
  267, 269, 270, 271, 292, 318, 332, 334, 439,
)
# Calls allowed with some commands alone: which argument, and its values.
COMMANDS = {
  # madvise: the usual advice (root could have it break pages of memory).
  28: (2, (0, 1, 2, 3, 4, 8, 14, 15)),
  # fcntl: no F_SETOWN, which has the kernel signal any process of the user,
  # and no leases or locks, for which others wait.
  72: (1, (
    fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD,
    fcntl.F_GETFL, fcntl.F_GETLK,
  )),
}
OPEN, OPENAT = 2, 257  # allowed for reading
# What may be read, beside Python's own folders and the working folder.
LIBRARIES = '/lib', '/lib64', '/usr/lib', '/usr/lib64', '/usr/local/lib'
READABLE = (
  *LIBRARIES, '/usr/share/zoneinfo', '/etc/localtime', '/etc/ld.so.cache',
  '/dev/null', '/dev/zero', '/dev/urandom', '/dev/random',
)
LANDLOCK = 444  # and 445, 446: make a list, add to it, obey it
CAPSET = 126
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@functools.cache
def check() -> None:
  """Raises ValueError where programs cannot be confined."""
  here = sys.platform, platform.machine()
  if here != ('linux', 'x86_64') or not _ends_well('pass'):
    raise ValueError(
      'programs that a model wrote run on Linux on x86_64 alone, where seccomp'
      ' can confine them, and here it cannot: leave out the tasks that run code'
    )


@functools.cache
def reads_little() -> bool:
  """Whether the kernel has Landlock, and programs cannot read your files."""
  libc = ctypes.CDLL(None, use_errno=True)
  return libc.syscall(LANDLOCK, None, 0, 1) > 0


def passes(program: str) -> bool:
  """Whether a program runs to its end without an exception.

  Args:
    program: str, Python source.

  Raises:
    ValueError: programs cannot be confined here.
  """
  check()
  with _undumpable():
    return _ends_well(program)


@contextlib.contextmanager
def _undumpable():
  """While nobody but root may look into this process through /proc."""
  libc, get, set_ = ctypes.CDLL(None), 3, 4
  before = libc.prctl(get, 0, 0, 0, 0)
  libc.prctl(set_, 0, 0, 0, 0)
  try:
    yield
  finally:
    libc.prctl(set_, before, 0, 0, 0)


def _ends_well(program):
  word = secrets.token_hex()
  order = json.dumps([word, program, SECONDS]).encode()
  # The word comes back in a file, whose size is limited: a pipe's is not.
  with (
    tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said,
  ):
    process = subprocess.Popen(
      [sys.executable, '-I', '-B', os.path.abspath(__file__)],
      stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL,
      cwd=folder, env={}, start_new_session=True,
    )
    try:
      process.communicate(order, timeout=2 * SECONDS)
    except subprocess.TimeoutExpired:
      return False
    finally:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
    said.seek(0)
    return said.read() == word.encode()


def confine(seconds: int, size: int) -> None:
  """Takes from this process all but computing and reading, for good.

  Args:
    seconds: int, of the processor.
    size: int, bytes that a file already open for writing may have.
  """
  for kind, most in (
    (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY),
    (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 64),
  ):
    resource.setrlimit(kind, (most, most))
  libc = ctypes.CDLL(None, use_errno=True)
  code = filter_code()
  buffer = ctypes.create_string_buffer(code)
  # struct sock_fprog: the number of instructions, and where they are.
  program = struct.pack('HxxxxxxQ', len(code) // 8, ctypes.addressof(buffer))
  die_with_parent, no_new_privileges, set_seccomp, by_filter = 1, 38, 22, 2
  # Of capset(2): version 3, this process; no capability of any kind.
  whose, none = struct.pack('Ii', 0x20080522, 0), bytes(24)
  if (
    libc.prctl(die_with_parent, signal.SIGKILL, 0, 0, 0)
    or libc.prctl(no_new_privileges, 1, 0, 0, 0)
    or _read_little(libc)
    or libc.syscall(CAPSET, whose, none)
    or libc.prctl(set_seccomp, by_filter, program, 0, 0)
  ):
    raise OSError(ctypes.get_errno(), 'the process could not be confined')


def _read_little(libc):
  """Restricts what this process opens to READABLE and Python -> 0 if it did."""
  if not reads_little():
    return 0
  everything = (1 << 13) - 1  # rights of the first version of Landlock
  read_file, read_folder, beneath = 1 << 2, 1 << 3, 1
  rules = libc.syscall(LANDLOCK, struct.pack('Q', everything), 8, 0)
  prefixes = sys.prefix, sys.base_prefix, sys.exec_prefix
  python = [os.path.join(x, lib) for x in prefixes for lib in ('lib', 'lib64')]
  python += [path for path in sysconfig.get_paths().values() if 'lib' in path]
  for path in {*READABLE, *python, os.getcwd()}:
    if not os.path.exists(path):
      continue
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights = read_file | (read_folder if os.path.isdir(path) else 0)
    rule = struct.pack('=Qi', rights, place)
    if libc.syscall(LANDLOCK + 1, rules, beneath, rule, 0):
      return 1
    os.close(place)
  failed = libc.syscall(LANDLOCK + 2, rules, 0)
  os.close(rules)
  return failed


def filter_code() -> bytes:
  """The seccomp filter, bytes: 8 per instruction (classic BPF)."""
  load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
  allow, refuse = 0x7FFF0000, 0x00050000 | 13  # with "permission denied"
  # In seccomp_data. Of an argument the lower half, all that these calls read.
  number, machine, argument = 0, 4, lambda i: 16 + 8 * i
  x86_64 = 0xC000003E
  reading = lambda i: [
    (load, 0, 0, argument(i)), (any_bit, 0, 1, WRITING), (give, 0, 0, refuse),
    (give, 0, 0, allow),
  ]
  among = lambda values: [
    line for value in values
    for line in ((equal, 0, 1, value), (give, 0, 0, allow))
  ] + [(give, 0, 0, refuse)]
  lines = [
    (load, 0, 0, machine), (equal, 1, 0, x86_64), (give, 0, 0, refuse),
    (load, 0, 0, number),
    (equal, 0, 4, OPEN), *reading(1), (equal, 0, 4, OPENAT), *reading(2),
  ]
  for call, (i, values) in COMMANDS.items():
    body = [(load, 0, 0, argument(i)), *among(values)]
    lines += [(equal, 0, len(body), call), *body]
  lines += among(HARMLESS)
  return b''.join(struct.pack('HBBI', *line) for line in lines)


def main() -> None:
  """In the process of its own: reads the order, obeys, says the word."""
  word, program, seconds = json.load(sys.stdin)
  tell, nowhere = os.dup(1), os.open(os.devnull, os.O_RDWR)
  for stream in (0, 1, 2):
    os.dup2(nowhere, stream)
  confine(seconds, len(word))
  exec(program, {})  # a SystemExit is no success either
  os.write(tell, word.encode())


if __name__ == '__main__':
  main()
