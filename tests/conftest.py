"""Settings of every test: eight virtual CPU devices, the slow marker."""

import os

# Before jax is imported, here and in the processes that tests start.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_force_host_platform_device_count=8'
)

import pytest  # noqa: E402


def pytest_addoption(parser):
  parser.addoption(
    '--slow', action='store_true', help='run the slow tests as well'
  )


def pytest_collection_modifyitems(config, items):
  """Skip slow tests unless --slow or a -m expression about them is given."""
  if config.option.slow or 'slow' in config.option.markexpr:
    return
  skip = pytest.mark.skip(reason='slow: runs with --slow or -m slow')
  for item in items:
    if 'slow' in item.keywords:
      item.add_marker(skip)
