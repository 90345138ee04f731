"""Trains a small network beside a frozen denoiser: what is written when?

  python -m train.orders --config=configs/orders.py:variational --workdir=DIR

`:variational`, `:reinforce` and `:pairs` learn on Sudoku, `:variational_text`
and `:pairs_text` on the shipped text model. Any value of the config is a flag:
--config.seed=1. Run the same command again to go on after an interruption, or
with more --config.steps (see train/loop.py). The work folder ends with
order.safetensors, which punt_jax.checkpoints.order_files.load reads.
"""

import json
import pathlib
import shlex
import sys

import jax

from punt_jax import checkpoints, jsonl
from punt_jax.checkpoints import saving
from punt_jax.cli import command, records
from train import finite, loop, settings
from train.orders import method, pairs, reinforce, tasks, variational

METHODS = {
  'variational': variational.make,
  'reinforce': reinforce.make,
  'pairs': pairs.make,
}


def train(config, workdir, said=''):
  """Trains to the last step. Returns the card of the network it has written.

  Args:
    config: of configs/orders.py.
    workdir: folder.
    said: the command's flags, for the card.
  """
  settings.order(config)
  workdir = pathlib.Path(workdir)
  saving.check_folder(workdir)
  task = tasks.load(config, config.seed)
  way = METHODS[config.method](config, task)
  digests = {'denoiser': checkpoints.digest(task.loaded)}
  state, recent, manager, lock = loop.begin(
    config, workdir, lambda: method.start(config, way.init), digests
  )
  with lock:
    state, seconds = loop.drive(
      config, workdir, manager, state, recent, way.advance, way.evaluate
    )
    return finish(config, workdir, way, state, manager, {
      'command': f'python -m train.orders {said}', 'digests': digests,
    }, seconds)


def finish(config, workdir, way, state, manager, about, seconds):
  """Writes the network and the row of results.jsonl. Returns its card."""
  params, step = way.keep(state.params), int(state.step)
  scores = way.evaluate(state)
  finite.check(scores, step, manager)
  card = {
    'kind': way.kind,
    'module': config.module.to_dict(),
    'denoiser': pathlib.Path(config.task.model).stem,
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    **about,
    'config': json.loads(config.to_json()),
    'step': step,
    'scores': scores,
    'revision': records.revision(),
    'jax': jax.__version__,
  }
  saving.export_params(workdir / 'order.safetensors', params, card)
  row = {**card, 'seconds_since_start_or_resume': seconds}
  jsonl.append(workdir / 'results.jsonl', row)
  return card


def main(config, workdir):
  """Trains, and says what came out."""
  said = shlex.join(x for x in sys.argv[1:] if x.startswith('--config'))
  card = train(config, workdir, said)
  scores = ', '.join(f'{k} {v:.3f}' for k, v in card['scores'].items())
  file = pathlib.Path(workdir) / 'order.safetensors'
  print(f'{file}: {card["parameters"]} parameters, {scores}')


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(main)
