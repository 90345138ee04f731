"""Programs that a model wrote: what they can do, and what they cannot."""

import os
import pathlib
import subprocess
import sys
import time
import tracemalloc

import pytest

from punt_jax.cli.evaluate import sandbox, scoring

try:
  sandbox.check()
  CONFINED = True
except ValueError:
  CONFINED = False
confined = pytest.mark.skipif(not CONFINED, reason='needs Linux on x86_64')

USUAL = """
import collections, copy, dataclasses, datetime, decimal, fractions, functools
import hashlib, heapq, itertools, json, math, random, re, statistics, string
import sys, threading, typing

@dataclasses.dataclass
class A:
  x: int = 1

def deep(n):
  return deep(n + 1)

try:
  deep(0)
except RecursionError:
  pass
else:
  assert False
assert A().x == 1 and math.sqrt(4) == 2 and random.random() < 1
assert hashlib.md5(b'').hexdigest() and datetime.datetime.now().year > 2000
print('x' * 10**6)
assert sys.stdin.read() == ''
"""


@confined
def test_usual_programs_pass():
  assert sandbox.passes(USUAL)


@confined
@pytest.mark.parametrize('program', [
  '1 / 0', 'def', 'assert False', 'input()', 'raise KeyboardInterrupt',
  'import sys; sys.exit(0)', 'import os; os._exit(0)',
  'print("passed")', 'import os\nos.write(1, b"passed"); os._exit(0)',
  'x = bytearray(2**31)',
])
def test_failures(program):
  assert sandbox.passes(program) == (program == 'print("passed")')


@confined
@pytest.mark.parametrize('program', [
  'while True: pass', 'import time; time.sleep(60)',
])
def test_time_is_limited(program, monkeypatch):
  monkeypatch.setattr(sandbox, 'SECONDS', 1)
  start = time.monotonic()
  assert not sandbox.passes(program)
  assert time.monotonic() - start < 20


REFUSED = {
  'write': 'open(FILE, "w")',
  'append': 'open(FILE, "a")',
  'change': 'open(FILE, "r+")',
  'truncate': 'os.truncate(FILE, 0)',
  'big file': 'open("big", "wb").write(bytes(2**30))',
  'folder': 'os.mkdir("new")',
  'delete': 'os.remove(FILE)',
  'rename': 'os.rename(FILE, FILE + "2")',
  'link': 'os.symlink(FILE, "new")',
  'permissions': 'os.chmod(FILE, 0)',
  'times': 'os.utime(FILE)',
  'fork': 'os.fork()',
  'spawn': 'subprocess.run(["true"])',
  'exec': 'os.execv(sys.executable, ["python"])',
  'thread': '_thread.start_new_thread(print, ())',
  'signal the parent': 'os.kill(os.getppid(), 0)',
  'signal all': 'os.kill(-1, 0)',
  'network': 'socket.socket()',
  'unix socket': 'socket.socketpair()',
  'more memory': 'resource.setrlimit(resource.RLIMIT_AS, (-1, -1))',
  'memory of a process': 'open("/proc/self/mem", "r+b")',
  'raw fork': 'call(57)',
  'raw io_uring': 'call(425, 1, 0)',
  'raw openat2': 'call(437, -100, 0, 0, 0)',
  'raw creat': 'call(85, FILE.encode(), 0)',
  '32-bit numbers': 'call(0x40000000 + 57)',
  'upper half of flags': 'call(2, FILE.encode(), ctypes.c_ulong(2**32 + 1))',
  'upper half of a command': 'call(72, 0, ctypes.c_ulong(2**32 + 8), 0)',
  'signals from a file': 'fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())',
  'which signal': 'fcntl.fcntl(0, fcntl.F_SETSIG, 9)',
  'signals on': 'fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)',
  'owner of another kind': 'fcntl.fcntl(0, 15, bytes(8))',
  'lease': 'fcntl.fcntl(open(FILE), fcntl.F_SETLEASE, fcntl.F_RDLCK)',
  'lock': 'fcntl.lockf(open(FILE), fcntl.LOCK_SH)',
  'broken memory': 'call(28, 0, 0, 101)',
  'terminal': 'fcntl.ioctl(0, 0x5413)',
  'name': 'call(157, 15, b"x", 0, 0, 0)',
}


@confined
@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused(name, tmp_path):
  file = tmp_path / 'precious'
  file.write_text('kept')
  before = os.stat(file)
  program = f"""
import _thread, ctypes, errno, fcntl, os, resource, socket, subprocess, sys
FILE = {str(file)!r}

def call(*args):
  result = ctypes.CDLL(None, use_errno=True).syscall(*args)
  if (result, ctypes.get_errno()) == (-1, errno.EACCES):
    raise PermissionError

try:
  {REFUSED[name]}
except (OSError, ValueError, RuntimeError):
  pass
else:
  raise SystemExit('it could')
"""
  assert sandbox.passes(program)  # that is, it was refused
  after = os.stat(file)
  assert file.read_text() == 'kept' and os.listdir(tmp_path) == ['precious']
  assert (before.st_mode, before.st_mtime) == (after.st_mode, after.st_mtime)


SIGNALS = """
import fcntl, os, time
for file in range(10):
  for attempt in (
    lambda: fcntl.fcntl(file, fcntl.F_SETOWN, VICTIM),
    lambda: fcntl.fcntl(file, fcntl.F_SETSIG, 9),
    lambda: fcntl.fcntl(file, fcntl.F_SETFL, os.O_WRONLY | os.O_ASYNC),
    lambda: os.write(file, b'x'),
  ):
    try:
      attempt()
    except OSError:
      pass
time.sleep(.2)
"""


@confined
def test_no_signal_through_a_pipe():
  with subprocess.Popen(['sleep', '60']) as victim:
    program = SIGNALS.replace('VICTIM', str(victim.pid))
    order = 'from punt_jax.cli.evaluate import sandbox; sandbox.confine(60, 0);'
    order += ' exec('
    done = subprocess.run(
      [sys.executable, '-c', f'{order}{program!r})'], stdout=subprocess.PIPE,
      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
      cwd=pathlib.Path(__file__).parents[2],
    )
    ended = victim.poll()
    victim.kill()
  assert (done.returncode, done.stdout, ended) == (0, b'x', None)


@confined
def test_the_parent_is_not_flooded():
  flood = 'import os\nwhile True: os.write(3, bytes(2**20))'
  tracemalloc.start()
  try:
    assert not sandbox.passes(flood)
    assert tracemalloc.get_traced_memory()[1] < 2**22
  finally:
    tracemalloc.stop()


@confined
def test_usual_commands_on_files_pass():
  assert sandbox.passes(
    'import fcntl, os\nfor command in (\n  fcntl.F_DUPFD, fcntl.F_GETFD,'
    ' fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC\n):\n'
    '  fcntl.fcntl(0, command)\n'
    'import mmap\nmmap.mmap(-1, 4096).madvise(mmap.MADV_DONTNEED)'
  )


@confined
def test_the_environment_is_empty(monkeypatch):
  monkeypatch.setenv('TOKEN', 'secret')
  assert sandbox.passes(
    'import os\nassert "TOKEN" not in os.environ and "PATH" not in os.environ'
    '\nassert os.listdir() == []'
  )


SECRETS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

def reads(file):
  try:
    return 'precious' in open(file, 'rb').read(2**20).decode('latin-1')
  except OSError as error:
    return False

def sees(file):
  try:
    return bool(os.readlink(file))
  except OSError:
    return False

found = []
for pid in PARENT, 1, os.getppid():
  for name in 'environ', 'cmdline', 'mem', 'maps', 'auxv', 'stack', 'comm':
    found += [(pid, name)] * reads(f'/proc/{pid}/{name}')
    found += [(pid, name)] * reads(f'/proc/{pid}/task/{pid}/{name}')
  for name in 'fd/0', 'fd/1', 'fd/2', 'exe', 'cwd', 'root':
    found += [(pid, name)] * sees(f'/proc/{pid}/{name}')
found += [file for file in FILES if reads(file)]
assert not found, found
"""


@confined
@pytest.mark.parametrize('landlock', [True, False])
def test_the_evaluator_is_out_of_reach(landlock, tmp_path):
  """Its environment, memory and open files; as root, too, and without Landlock.

  A program that cannot read them passes: not a bit of the secret leaves.
  """
  if landlock and not sandbox.reads_little():
    pytest.skip('needs Landlock')
  file = tmp_path / 'precious'
  file.write_text('precious')
  order = f"""
import os
from punt_jax.cli.evaluate import sandbox
if not {landlock}:
  sandbox._read_little = lambda libc: 0
  source = open(sandbox.__file__).read().replace(
    'if not reads_little()', 'if True'
  )
  sandbox.__file__ = {str(tmp_path / 'sandbox.py')!r}
  open(sandbox.__file__, 'w').write(source)
program = {SECRETS!r}.replace('PARENT', str(os.getpid()))
files = [{str(file)!r}, '/etc/passwd'] if {landlock} else []
if not {landlock}:  # what is said of a process to everybody stays
  program = program.replace("'cmdline', ", '').replace(", 'comm'", '')
print(sandbox.passes(program.replace('FILES', repr(files))))
print(sandbox.passes('import ssl; open("/dev/null").read()'))
print(open('/proc/self/environ').read().count('precious'))
"""
  done = subprocess.run(
    [sys.executable, '-c', order, 'precious'], stdout=subprocess.PIPE,
    cwd=pathlib.Path(__file__).parents[2], text=True,
    env={**os.environ, 'API_KEY': 'precious'},
  )
  assert done.stdout.split() == ['True', 'True', '1']


def test_elsewhere_one_sentence_refuses(monkeypatch):
  monkeypatch.setattr(sandbox.platform, 'machine', lambda: 'riscv64')
  sandbox.check.cache_clear()
  with pytest.raises(ValueError, match='on Linux on x86_64 alone'):
    sandbox.passes('pass')
  sandbox.check.cache_clear()


@confined
def test_scores_of_programs():
  doc = {
    'prompt': 'def add(a, b):\n  """Adds."""\n', 'entry_point': 'add',
    'test': 'def check(f):\n  assert f(1, 2) == 3',
  }
  good = '  return a + b\n'
  assert scoring.humaneval(doc, [good]) == {'pass@1': 1.0}
  assert scoring.humaneval(doc, [good + '```\nThat is it.']) == {'pass@1': 1.0}
  assert scoring.humaneval(doc, ['  return a - b\n']) == {'pass@1': 0.0}
  doc = {'test_list': ['assert f(1) == 2'], 'test_setup_code': ''}
  assert scoring.mbpp(doc, ['def f(x): return x + 1']) == {'pass@1': 1.0}
  assert scoring.mbpp(doc, ['def f(x): return x']) == {'pass@1': 0.0}
  assert scoring.mbpp(doc, ['']) == {'pass@1': 0.0}
