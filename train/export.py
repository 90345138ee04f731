"""Writes the averaged parameters of a run as one safetensors file.

  python -m train.export --workdir=DIR --out=punt_jax/assets/NAME.safetensors

The header keeps the model's sizes, its vocabulary, the config, digests of what
it has learned from and the last held-out score, so that
punt_jax.checkpoints.load(FILE) needs nothing else. DIR is only read, so a run
that still trains may be exported, as it was at its newest checkpoint.
"""

import pathlib

import jax
import ml_collections
from absl import flags

from punt_jax import jsonl
from punt_jax.checkpoints import saving
from punt_jax.cli import command
from train import finite, loop


def last_score(workdir, done):
  """The newest held-out score of a run of `done` steps, with its step."""
  for name in ('results.jsonl', 'metrics.jsonl'):
    rows = jsonl.read(pathlib.Path(workdir) / name)
    done_then = lambda row: row.get('step', done + 1) <= done
    rows = [x for x in rows if 'heldout_bits' in x and done_then(x)]
    if rows:
      keys = [k for k in rows[-1] if k.startswith('heldout')]
      return {k: rows[-1][k] for k in ['step', *keys]}
  return {}


def newest(workdir):
  """(config, digests, data, averaged parameters, steps done) of a run.

  Raises:
    ValueError: one sentence: there is none, it has saved nothing, is damaged,
      or what it has learned from is not what it was.
  """
  file = workdir / 'config.json'
  if not file.is_file():
    raise ValueError(f'{workdir} holds no run: it has no config.json')
  stored = jsonl.read_object(file)
  digests = stored.pop('digests', {})
  config = ml_collections.ConfigDict(stored)
  if 'data' not in config:
    raise ValueError(f'{workdir} holds no run of train.main')
  data, _, init = loop.plan(config, 1)
  if changed := [k for k, x in digests.items() if data.digests.get(k) != x]:
    where = config.data[loop.SOURCES[changed[0]].partition('.')[2]]
    raise ValueError(
      f'{workdir} was trained on another {changed[0]} than what now lies at'
      f' {where} (by SHA-256): put that back'
    )
  found, folder = None, workdir / 'checkpoints'
  if folder.is_dir():
    manager = saving.open_checkpoints(folder, read_only=True)
    found = loop.restore(manager, jax.eval_shape(init))
  if found is None:
    raise ValueError(f'{workdir} has not saved anything yet: train it first')
  return config, data.digests, data, found[0].ema, int(found[0].step)


def export(workdir, out):
  """Writes `out`, named like its config. Returns the header's card."""
  out, workdir = pathlib.Path(out), pathlib.Path(workdir)
  config, digests, data, params, step = newest(workdir)
  if data.text is None:
    raise ValueError(f'{workdir} was trained on a world, not on text')
  if name := finite.leaf(params):
    raise ValueError(f'{name} of {workdir} is not finite: nothing is written')
  # The weights travel; where the corpus lay on this machine does not.
  path = config.data.get('path')
  if path:
    config.data.path = pathlib.Path(path).name
  card = {
    'model': dict(config.model),
    'text': data.text.spec,
    'length': data.heldout.shape[1],
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    'command': f'python -m train.main --config=configs/{out.stem}.py'
    + (f' --config.data.path={config.data.path}' if path else ''),
    'config': config.to_dict(),
    'digests': digests,
    'steps': step,
    **last_score(workdir, step),
  }
  saving.export_params(out, params, card)
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
