"""A training command that is killed again and again until it has ended.

  python -m tests.helpers.killed WORKDIR KILLS SEED FLAGS

What is imported is imported once: each run is a fork of this process, in which
jax has not started anything. It is killed at a random moment from its first
checkpoint on, until it has been KILLS times.
"""

import os
import pathlib
import random
import signal
import sys
import time

import orbax.checkpoint  # noqa: F401

from punt_jax.cli import command
from train import main

LIFE = 0.25  # seconds, at most, from the first checkpoint to the end


def fork(argv):
  """The process that runs the command."""
  child = os.fork()
  if child:
    return child
  sys.argv = argv
  try:
    command.run_config(main.main)
    code = 0
  except SystemExit as error:
    print(error, file=sys.stderr, flush=True)
    code = 1
  os._exit(code)


def names(workdir):
  """Checkpoints, and what is to become one."""
  folder = workdir / 'checkpoints'
  return {x.name for x in folder.iterdir()} if folder.exists() else set()


def killed(child, workdir, rng):
  """Whether it was killed, and did not end before with success."""
  before, life = names(workdir), rng.uniform(0, LIFE)
  while not names(workdir) - before:
    if os.waitpid(child, os.WNOHANG)[0]:
      return False
    time.sleep(0.002)
  time.sleep(life)
  os.kill(child, signal.SIGKILL)
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  assert code in (0, -signal.SIGKILL), code
  return code != 0


def run(workdir, kills, seed, *flags):
  """Prints how often it was killed, and how often within a checkpoint."""
  workdir, rng = pathlib.Path(workdir), random.Random(int(seed))
  argv = ['train.main', '--config=configs/table_world.py', *flags]
  argv.append(f'--workdir={workdir}')
  count = inside = 0
  while count < int(kills) and killed(fork(argv), workdir, rng):
    count += 1
    inside += any((workdir / 'checkpoints').glob('*tmp*'))
  code = os.waitstatus_to_exitcode(os.waitpid(fork(argv), 0)[1])
  print(f'killed {count} times, {inside} of them in a checkpoint')
  sys.exit(code)


if __name__ == '__main__':
  run(*sys.argv[1:])
