"""From a bare Python to the demo or the tests in one command.

  python3 bootstrap.py demo [arguments of punt_jax.cli.demo]
  python3 bootstrap.py test [arguments of pytest]
  python3 bootstrap.py parity [arguments of pytest]  (torch, lm-eval: 5 GB)
  python3 bootstrap.py lint [arguments of ruff check]

Needs nothing but the standard library. The first run makes the virtual
environment .venv (or the folder that PUNT_VENV names) and installs punt_jax
in it; a stamp written at the very end tells later runs to start at once. A
run that was cut short leaves an unfinished stamp, and the next one starts
over. Every command runs in the root folder of the repository.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHONS = ((3, 13), (3, 12), (3, 11))  # in order of preference
EXTRAS = {'demo': 'plots', 'test': 'test', 'parity': 'parity', 'lint': 'test'}
COVERS = {
  'plots': ('plots',), 'test': ('test', 'plots'),
  'parity': ('parity', 'test', 'plots'),
}
PYTEST = ('-n', '2', '--dist', 'loadfile')  # the one place for the workers
STAMP = 'bootstrap.json'
CAUSES = (  # what pip's log says, what to tell the user
  ('No space left on device', 'The disk is full: free about 1 GB.'),
  ('Timeout', 'The package index did not answer in time: try again.'),
  ('No matching distribution', 'No package index? Check the network.'),
)


class Stop(Exception):
  """Something the user has to mend; the message is one clear sentence."""


def probe(python):
  """(major, minor) of the interpreter at this path; None if it won't run."""
  command = [str(python), '-c', 'import sys; print(*sys.version_info[:2])']
  try:
    done = subprocess.run(
      command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
    )
    major, minor = done.stdout.split()
    return int(major), int(minor)
  except (OSError, ValueError, subprocess.TimeoutExpired):
    return None


def makes_venvs(python):
  """Whether the interpreter has what a virtual environment is made with."""
  command = [str(python), '-c', 'import ensurepip, venv']
  return subprocess.call(command, stderr=subprocess.DEVNULL) == 0


def candidates():
  """Interpreters to try: the running one, then those on PATH."""
  this = getattr(sys, '_base_executable', None) or sys.executable
  named = [shutil.which(f'python{major}.{minor}') for major, minor in PYTHONS]
  return [this] + [python for python in named if python]


def find_python(paths):
  """The first usable interpreter and its (major, minor); Stop if none is."""
  bare = None
  for python in paths:
    version = probe(python)
    if version in PYTHONS:
      if makes_venvs(python):
        return python, version
      bare = bare or (python, version)
  if bare:
    python, (major, minor) = bare
    raise Stop(
      f'{python} has no venv or ensurepip module: install it (Debian, '
      f'Ubuntu: apt install python{major}.{minor}-venv) and run this again.'
    )
  raise Stop(
    'punt_jax needs Python 3.11, 3.12 or 3.13; this is {}.{} and none of them '
    'is on PATH: install one and run this again.'.format(*sys.version_info)
  )


def venv_python(venv):
  """Path of the interpreter inside a virtual environment."""
  return venv / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def identity(version):
  """What an environment was made for: this Python and this checkout."""
  return {'python': list(version), 'root': str(ROOT)}


def setup_hash():
  """SHA-256 of the file that lists the requirements."""
  return hashlib.sha256((ROOT / 'setup.py').read_bytes()).hexdigest()


def read_stamp(venv):
  """The stamp as a dict: {} if unreadable, None if there is none."""
  path = venv / STAMP
  if not path.exists():
    return None
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (ValueError, TypeError):
    return {}


def write_stamp(venv, version, extra):
  """Record what the environment holds; extra = None means unfinished."""
  stamp = dict(identity(version), setup=setup_hash(), extra=extra)
  (venv / STAMP).write_text(json.dumps(stamp), encoding='utf-8')


def judge(stamp, version, extra):
  """What an environment with this stamp needs.

  Returns 'ready', 'install' (pip only: the requirements changed or more of
  them are wanted) or 'rebuild' (never finished, or made for another Python
  or another folder).
  """
  made_for = {key: stamp.get(key) for key in ('python', 'root')}
  if stamp.get('extra') not in COVERS or made_for != identity(version):
    return 'rebuild'
  if stamp.get('setup') != setup_hash() or extra not in COVERS[stamp['extra']]:
    return 'install'
  return 'ready'


def read_lines(log):
  """The lines of a log, which may still be growing."""
  return log.read_text(encoding='utf-8', errors='replace').splitlines()


def explain(label, log):
  """Why a logged command failed: the end of its log and the likely cause."""
  lines = read_lines(log)
  text = '\n'.join(lines)
  cause = next((say for needle, say in CAUSES if needle in text), '')
  tail = '\n'.join(lines[-12:])
  return f'this failed: {label}\n{tail}\n{cause} The whole log: {log}'


def show_time(spent, log, live):
  """One line of progress; on a terminal it replaces the line before."""
  last = (read_lines(log) or [''])[-1].strip()[:60]
  start, end = ('\r\033[K', '') if live else ('', '\n')
  print(f'{start}  {spent:3.0f} s  {last}', end=end, flush=True)


def run_logged(label, command, log):
  """Run a command with its output in `log`, showing that it works.

  Raises Stop, with the end of the log, if the command fails.
  """
  live = sys.stdout.isatty()
  print(f'- {label}', flush=True)
  start, told = time.monotonic(), 0.0
  with log.open('ab') as out:
    process = subprocess.Popen(
      [str(part) for part in command], cwd=str(ROOT), stdout=out,
      stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )
    try:
      while process.poll() is None:
        time.sleep(0.1)
        spent = time.monotonic() - start
        if spent - told >= (0.5 if live else 10):
          told = spent
          show_time(spent, log, live)
    finally:
      process.kill()
      process.wait()
  print('\r\033[K' if live else '', end='', flush=True)
  if process.returncode:
    raise Stop(explain(label, log))
  print(f'  done in {time.monotonic() - start:.0f} s', flush=True)


def prepare(venv, extra):
  """The interpreter of an environment that holds punt_jax[extra]."""
  python, version = find_python(candidates())
  inside, stamp = venv_python(venv), read_stamp(venv)
  if stamp is None and venv.exists() and any(venv.iterdir()):
    raise Stop(
      f'{venv} exists and bootstrap.py did not make it: move it away, or '
      'name another folder in PUNT_VENV.'
    )
  need = judge(stamp or {}, version, extra)
  if need != 'rebuild' and probe(inside) != version:
    need = 'rebuild'
  if need == 'ready':
    return inside
  print(f'punt_jax: setting up {venv} for {python} (once, a minute or so)')
  if need == 'rebuild' and venv.exists():
    shutil.rmtree(str(venv))
  venv.mkdir(parents=True, exist_ok=True)
  write_stamp(venv, version, None)
  log = venv / 'bootstrap.log'
  log.write_bytes(b'')
  if need == 'rebuild':
    run_logged('virtual environment', [python, '-m', 'venv', venv], log)
  pip = [inside, '-m', 'pip', 'install', '--disable-pip-version-check']
  if extra == 'plots':  # the demo imports few of the files: halves the wait
    pip.append('--no-compile')
  run_logged('packages', pip + ['--editable', f'{ROOT}[{extra}]'], log)
  write_stamp(venv, version, extra)
  return inside


def commands(name, python, arguments):
  """The command lines behind each word, in order."""
  module = [str(python), '-m']
  lint = module + ['ruff', 'check', '.']
  demo = ['--config=configs/demo.py', '--workdir=runs/demo']
  return {
    'demo': [module + ['punt_jax.cli.demo'] + demo + arguments],
    'test': [lint, module + ['pytest'] + list(PYTEST) + arguments],
    'parity': [
      module + ['pytest', '-m', 'torch', '--slow'] + list(PYTEST) + arguments
    ],
    'lint': [lint + arguments],
  }[name]


def main(argv):
  """Exit status: 0, that of the command that failed, or 2 for bad usage."""
  if not argv or argv[0] not in EXTRAS:
    print(__doc__.strip(), file=sys.stderr)
    return 2
  try:
    venv = Path(os.environ.get('PUNT_VENV') or ROOT / '.venv').absolute()
    python = prepare(venv, EXTRAS[argv[0]])
    for command in commands(argv[0], python, argv[1:]):
      code = subprocess.call(command, cwd=str(ROOT))
      if code:
        return code
  except (Stop, OSError) as error:
    print(f'bootstrap.py: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('\nbootstrap.py: interrupted.', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
