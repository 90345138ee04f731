"""Trains a masked diffusion model.

  python -m train.main --config=configs/pydoc.py --workdir=DIR

Any value of the config is a flag: --config.batch=64. Run the same command
again to go on after an interruption; after the last step, go on with more
--config.steps and --config.decay=THE STEPS BEFORE (see train/loop.py).
"""

from punt_jax.cli import command
from train import loop


def main(config, workdir):
  """Trains, and says how well."""
  row = loop.train(loop.prepare(config, workdir))
  unit = 'character' if row['floor_nats'] is None else 'token'
  print(
    f'held-out NELBO {row["heldout_bits"]:.3f} +- '
    f'{row["heldout_bits_error"]:.3f} bits per {unit}, '
    f'{row["heldout_nats"]:.3f} nats per token'
  )
  if row['floor_nats'] is not None:
    print(f'exact -log p of the same canvases: {row["floor_nats"]:.3f} nats')


if __name__ == '__main__':
  command.run_config(main)
