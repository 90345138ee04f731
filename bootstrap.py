"""From a bare Python to the demo or the tests in one command.

  python3 bootstrap.py demo [arguments of punt_jax.cli.demo]
  python3 bootstrap.py test [arguments of pytest]
  python3 bootstrap.py parity [arguments of pytest]  (torch, lm-eval: 5 GB)
  python3 bootstrap.py lint [arguments of ruff check]  (types, too)

Needs nothing but the standard library. The first run makes the virtual
environment .venv (or the folder that PUNT_VENV names) and installs punt_jax
in it; a stamp written at the very end tells later runs to start at once. A
run that was cut short leaves an empty stamp, and the next one starts over.
Every command runs in the root folder of the repository.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHONS = ('python3.13', 'python3.12', 'python3.11')  # in order of preference
EXTRAS = ('plots', 'test', 'parity')  # of setup.py; each holds those before it
LINT = ['ruff', 'check', '.']
TYPES = ['basedpyright', '--pythonpath', '{python}']  # half a minute
PYTEST = [  # the one place for it
  'pytest', '-n', '2', '--dist', 'loadfile', '--no-loadscope-reorder',
]
DEMO = ['punt_jax.cli.demo', '--config=configs/demo.py', '--workdir=runs/demo']
MORE = ['{more}']  # where the arguments behind a word go
WORDS = {  # the extra that a word needs, then what it runs with python -m
  'demo': ('plots', DEMO + MORE),
  'test': ('test', LINT, TYPES, PYTEST + MORE),
  'parity': ('parity', PYTEST + ['-m', 'torch', '--slow'] + MORE),
  'lint': ('test', LINT + MORE, TYPES),
}


def probe(python):
  """'python3.12' if it is that and can make environments, '' if not."""
  code = 'import ensurepip, venv, sys; print(*sys.version_info[:2], sep=".")'
  try:
    return 'python' + subprocess.check_output(
      [python, '-c', code], stderr=subprocess.DEVNULL, timeout=60, text=True
    ).strip()
  except (OSError, subprocess.SubprocessError):
    return ''


def find_python():
  """(command, version) of the first that serves: this one, then PATH's.

  Raises OSError with a sentence if none does.
  """
  this = getattr(sys, '_base_executable', None) or sys.executable
  for python in (this, *PYTHONS):
    version = probe(python)
    if version in PYTHONS:
      return python, version
  raise OSError(
    'punt_jax needs Python 3.11, 3.12 or 3.13 with its venv module, and '
    'neither this one ({}.{}) nor one on PATH is that: install one (Debian, '
    'Ubuntu: python3.12 and python3.12-venv, say) and run this again.'
    .format(*sys.version_info)
  )


def prepare(venv, extra):
  """The interpreter of an environment that holds punt_jax[extra].

  Raises OSError with a sentence if the user has to mend something.
  """
  python, version = find_python()
  inside = venv / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
  stamp = venv / 'bootstrap.stamp'
  held = stamp.read_text(errors='replace') if stamp.exists() else None
  if held is None and venv.exists() and any(venv.iterdir()):
    raise OSError(
      f'{venv} exists and bootstrap.py did not make it: move it away, or '
      'name another folder in PUNT_VENV.'
    )
  made = f'{version} for {ROOT!a}, '
  setup = hashlib.sha256((ROOT / 'setup.py').read_bytes()).hexdigest()
  enough = [f'{made}{setup} {x}' for x in EXTRAS[EXTRAS.index(extra) :]]
  whole = (held or '').startswith(made) and probe(inside) == version
  if whole and held in enough:
    return inside
  print(f'Setting up {venv} for {python} (once, a minute or so)', flush=True)
  if not whole and venv.exists():
    shutil.rmtree(venv)
  venv.mkdir(parents=True, exist_ok=True)
  stamp.write_text('')
  if not whole:
    done = subprocess.run(
      [python, '-m', 'venv', venv], stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True,
    )
    if done.returncode:
      raise OSError(f'no environment (a full disk?): {done.stdout.strip()}')
  # Few of the files are ever imported: --no-compile halves the wait.
  pip = ['pip', 'install', '--disable-pip-version-check', '--no-compile']
  if subprocess.call([inside, '-m', *pip, '--editable', f'{ROOT}[{extra}]']):
    raise OSError(
      'pip failed and says why above (no network? a full disk?): mend it and '
      'run this again.'
    )
  stamp.write_text(enough[0])
  return inside


def main(argv):
  """Exit status: 0, that of the command that failed, or 2 for bad usage.

  1 after a sentence about what to mend, 130 after an interrupt.
  """
  if not argv or argv[0] not in WORDS:
    print(__doc__.strip(), file=sys.stderr)
    return 2
  extra, *commands = WORDS[argv[0]]
  try:
    venv = Path(os.environ.get('PUNT_VENV') or ROOT / '.venv').absolute()
    python = prepare(venv, extra)
    filled = {'{python}': [str(python)], '{more}': argv[1:]}
    for command in commands:
      words = [x for word in command for x in filled.get(word, [word])]
      code = subprocess.call([python, '-m', *words], cwd=ROOT)
      if code:
        return code
  except OSError as error:
    print(f'bootstrap.py: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('\nbootstrap.py: interrupted.', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
