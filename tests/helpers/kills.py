"""A long job as a whole, and killed again and again until it has ended.

  python -m tests.helpers.kills FOLDER FILE LINES MODULE FLAGS

Of MODULE (what `python -m` would run) all is imported once: each run is a fork
of this process, in which jax has not started anything. FOLDER/whole is the
workdir of a run that nobody kills, FOLDER/broken that of one that is killed
KILLS times: as soon as its FILE has a share of its LINES, and a random moment
later. Prints how often it was killed before it had ended.
"""

import importlib
import os
import pathlib
import random
import runpy
import signal
import sys
import time

KILLS = 8
LATER = 0.05  # seconds, at most
NEEDS = {'punt_jax.cli.evaluate': ('datasets', 'lm_eval.evaluator')}


def fork(module, flags, workdir):
  """The process that runs the job."""
  child = os.fork()
  if child:
    return child
  sys.argv = [module, *flags, f'--workdir={workdir}']
  code = 1
  try:
    runpy.run_module(module, run_name='__main__')
    code = 0
  except SystemExit as error:
    print(error, file=sys.stderr)
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end(child):
  """The exit status of a process."""
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(child, file, lines, delay):
  """Kills a process when a file has so many lines -> whether it was there."""
  while not file.exists() or file.read_bytes().count(b'\n') < lines:
    if os.waitpid(child, os.WNOHANG)[0]:
      return False
    time.sleep(0.002)
  time.sleep(delay)
  os.kill(child, signal.SIGKILL)
  return end(child) != 0


def main(folder, name, lines, module, *flags):
  """See the top of this file."""
  for needed in (module, *NEEDS.get(module, ())):
    importlib.import_module(needed)
  is_package = hasattr(sys.modules[module], '__path__')
  if is_package:
    importlib.import_module(f'{module}.__main__')
  folder = pathlib.Path(folder)
  if end(fork(module, flags, folder / 'whole')):
    sys.exit(1)
  rng, count = random.Random(0), 0
  for n in range(KILLS):
    child = fork(module, flags, folder / 'broken')
    count += killed(
      child, folder / 'broken' / name, n * int(lines) // KILLS,
      rng.uniform(0, LATER),
    )
  print(f'killed {count} times')
  sys.exit(end(fork(module, flags, folder / 'broken')))


if __name__ == '__main__':
  main(*sys.argv[1:])
