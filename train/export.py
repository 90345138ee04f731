"""Writes the averaged parameters of a run as one safetensors file.

  python -m train.export --workdir=DIR --out=punt_jax/assets/NAME.safetensors

The header keeps the model's sizes, its vocabulary, the config and the last
held-out score, so that punt_jax.checkpoints.load(FILE) needs nothing else.
"""

import json
import pathlib

import jax
import ml_collections
from absl import flags

from punt_jax.checkpoints import saving
from punt_jax.cli import command
from train import loop


def last_score(workdir):
  """The newest held-out score of a run, with its step."""
  for name in ('results.jsonl', 'metrics.jsonl'):
    file = pathlib.Path(workdir) / name
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if 'heldout_bits' in row]
    if rows:
      keys = [k for k in rows[-1] if k.startswith('heldout')]
      return {k: rows[-1][k] for k in ['step', *keys]}
  return {}


def export(workdir, out):
  """Writes `out`, named like its config. Returns the header's card."""
  out = pathlib.Path(out)
  file = pathlib.Path(workdir) / 'config.json'
  if not file.exists():
    raise ValueError(f'{workdir} holds no run: it has no config.json')
  config = ml_collections.ConfigDict(json.loads(file.read_text()))
  run = loop.prepare(config, workdir)
  if run.data.text is None:
    raise ValueError(f'{workdir} was trained on a world, not on text')
  # The weights travel; where the corpus lay on this machine does not.
  path = config.data.get('path')
  if path:
    config.data.path = pathlib.Path(path).name
  card = {
    'model': dict(config.model),
    'text': run.data.text.spec,
    'length': run.data.heldout.shape[1],
    'parameters': sum(x.size for x in jax.tree.leaves(run.state.ema)),
    'command': f'python -m train.main --config=configs/{out.stem}.py'
    + (f' --config.data.path={config.data.path}' if path else ''),
    'config': config.to_dict(),
    **last_score(workdir),
  }
  saving.export_params(out, run.state.ema, card)
  return card


def main(_):
  out = flags.FLAGS.out
  card = export(flags.FLAGS.workdir, out)
  print(f'{out}: {card["parameters"]} parameters')


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'Folder of a run.')
  flags.DEFINE_string('out', None, 'File to write.')
  flags.mark_flags_as_required(['workdir', 'out'])
  command.run(main)
