"""Trains a masked diffusion model.

  python -m train.main --config=configs/pydoc.py --workdir=DIR

Any value of the config is a flag: --config.batch=64. Run the same command
again to go on after an interruption.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from train import loop

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of this run.')


def main(_):
  try:
    run = loop.prepare(_CONFIG.value, _WORKDIR.value)
  except ValueError as error:
    sys.exit(f'train: {error}')
  row = loop.train(run)
  print(
    f'held-out NELBO {row["heldout_bits"]:.3f} +- '
    f'{row["heldout_bits_error"]:.3f} bits per character, '
    f'{row["heldout_nats"]:.3f} nats per token'
  )


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main)
