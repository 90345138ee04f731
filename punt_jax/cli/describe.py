"""Loads a checkpoint directory and says what it is and what loading took.

  python -m punt_jax.cli.describe --model=DIR

Peak host memory is the process's, less what it held before loading; on a CPU
the placed weights are part of it.
"""

import pathlib
import re
import resource
import time

import jax
from absl import flags

from punt_jax import checkpoints
from punt_jax.cli import command

GIB = 2**30


def peak():
  """Most bytes of host memory that this process has held."""
  status = pathlib.Path('/proc/self/status')
  if status.exists():  # ru_maxrss would count the process that started it
    found = re.findall(r'VmHWM:\s*(\d+)', status.read_text())
    return int(found[0]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def run(folder):
  """Loads `folder` and prints; returns what it measured as a dict."""
  folder = pathlib.Path(folder)
  jax.block_until_ready(jax.numpy.zeros(3))
  before, start = peak(), time.perf_counter()
  loaded = checkpoints.load(folder)
  seconds = time.perf_counter() - start
  leaves = jax.tree.leaves(loaded.params)
  count = sum(x.size for x in leaves)
  placed = sum(x.nbytes for x in leaves)
  shards = [file.stat().st_size for file in folder.glob('*.safetensors')]
  on_host = placed if jax.default_backend() == 'cpu' else 0
  more = (peak() - before - on_host) / max(shards)
  kind = type(loaded.module).__name__
  print(f'{kind}, {count / 1e6:,.1f} M parameters, {leaves[0].dtype}')
  print(f'ids {loaded.ids}, canvases of up to {loaded.length} positions')
  print(
    f'{placed / GIB:.2f} GiB placed in {seconds:.0f} s, and at the peak'
    f' {more:.2f} times the largest of {len(shards)} files more'
  )
  return dict(parameters=count, placed=placed, more=more)


if __name__ == '__main__':
  flags.DEFINE_string('model', None, 'Checkpoint directory.', required=True)
  command.run(lambda _: run(flags.FLAGS.model))
