"""Settings of every test: virtual devices, compiled code kept, markers."""

import gc
import hashlib
import os
import pathlib
import sys
from importlib.metadata import version

import pytest


def keep_compiled_code():
  """Lets jax keep compiled code in the virtual environment, if that is safe.

  Compiled code runs only on a CPU with the same features, so these name the
  folder; where they cannot be read, or outside an environment, nothing is
  kept. A second run of the tests then takes a fraction of the first.
  """
  info = pathlib.Path('/proc/cpuinfo')
  if sys.prefix == sys.base_prefix or not info.exists():
    return
  features = {
    line for line in info.read_text().splitlines()
    if line.startswith(('model name', 'flags', 'Features'))
  }
  name = hashlib.sha256('\n'.join(sorted(features)).encode()).hexdigest()[:12]
  folder = pathlib.Path(sys.prefix, 'compiled', name)
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')


# Before jax is imported, here and in the processes that tests start.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Where each operation was called from is written into programs: a tenth.
os.environ.setdefault('JAX_TRACEBACK_IN_LOCATIONS_LIMIT', '1')
FLAGS = [
  '--xla_force_host_platform_device_count=8',
  # Compilation is most of the suite's time: half of it is LLVM's.
  '--xla_backend_optimization_level=0',
]
if version('jax').startswith('0.10.'):  # another XLA may not know the flag
  # A quarter of what is left (measured on tests/samplers/test_battery.py), and
  # 29 % of the rest: modules are not cut in parts for more cores.
  FLAGS.append('--xla_cpu_use_fusion_emitters=false')
  FLAGS.append('--xla_cpu_parallel_codegen_split_count=1')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *FLAGS])
keep_compiled_code()
# Tracing makes many objects beside many that stay: 6 % of the time.
gc.set_threshold(200_000, 100, 100)


def pytest_addoption(parser):
  parser.addoption(
    '--slow', action='store_true', help='run the slow tests as well'
  )


def pytest_collection_modifyitems(config, items):
  """Skip marked tests unless --slow or a -m expression names them.

  Files that take longest come first, so that no worker is left alone at the
  end with one of them.
  """
  longest = 'test_battery', 'test_train', 'test_demo', 'test_frontier'
  items.sort(key=lambda item: item.path.stem not in longest)
  chosen = config.option.markexpr
  skipped = {
    'slow': config.option.slow or 'slow' in chosen,
    'torch': 'torch' in chosen,
  }
  for name in (name for name, runs in skipped.items() if not runs):
    skip = pytest.mark.skip(reason=f'{name}: runs with -m {name}')
    for item in items:
      if item.get_closest_marker(name):
        item.add_marker(skip)
