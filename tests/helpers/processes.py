"""The environment of processes that tests start."""

import os


def environment(devices=1, **more):
  """That of this one, with its flags for the compiler and so many devices."""
  said = os.environ['XLA_FLAGS']
  flags = f'{said} --xla_force_host_platform_device_count={devices}'
  return {**os.environ, 'XLA_FLAGS': flags, **more}
