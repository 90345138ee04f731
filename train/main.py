"""Trains a masked diffusion model.

  python -m train.main --config=configs/pydoc.py --workdir=DIR

Any value of the config is a flag: --config.batch=64. Run the same command
again to go on after an interruption.
"""

from absl import flags
from ml_collections import config_flags

from train import command, loop

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of this run.')


def main(_):
  row = loop.train(loop.prepare(_CONFIG.value, _WORKDIR.value))
  unit = 'character' if row['floor_nats'] is None else 'token'
  print(
    f'held-out NELBO {row["heldout_bits"]:.3f} +- '
    f'{row["heldout_bits_error"]:.3f} bits per {unit}, '
    f'{row["heldout_nats"]:.3f} nats per token'
  )
  if row['floor_nats'] is not None:
    print(f'exact -log p of the same canvases: {row["floor_nats"]:.3f} nats')


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  command.run(main)
