"""What every number of a training config must be, in tables.

All of it is checked before anything is read or written. Intervals of 0 mean
never. A limit that is an int says that the number must be whole, see
checks.numbers.
"""

from typing import Any

from punt_jax import checks, corruption
from punt_jax.models import block_masks
from train import puzzles, step

SEED = 0, 2**32 - 2  # jax draws with 32 bits of it; orders take the next, too
COUNT, OFTEN, RATE = (1,), (0,), (1e-12, 1e9)
WIDTH, LAYERS = (1, 2**16), (1, 2**10)  # XLA aborts at 2**30
CELLS = 2**28  # entries of the largest array of an exact world

RUN = {  # of every training command
  'seed': SEED,
  'steps': COUNT,
  'batch': (1, 2**20),
  'warmup': OFTEN,
  'decay': OFTEN,
  'clip': RATE,
  'log_every': OFTEN,
  'eval_every': OFTEN,
  'save_every': OFTEN,
}
DENOISER = RUN | {
  'muon_rate': RATE,
  'adam_rate': RATE,
  'weight_decay': (0.0, 1e9),
  'final_share': (0.0, 1.0),
  'ema': (0.0, 1.0),
  'eval_rows': COUNT,
  'model.width': WIDTH,
  'model.layers': LAYERS,
  'model.heads': WIDTH,
  'model.taps': WIDTH,
  'model.places': (0, 2**24),
  'model.block_length': (0, 2**16),
}
TEXT = {'data.length': COUNT, 'data.heldout': (1e-12, 1 - 1e-12)}
WORLD = {
  'data.length': COUNT,
  'data.heldout': COUNT,
  'data.vocab': (2,),
  'data.seed': SEED,
}
PUZZLE = {'data.heldout': (1, 2**20)}
ORDER = RUN | {'rate': RATE, 'tests': COUNT}
SUDOKU = {'task.clues': (0, puzzles.LENGTH - 1)}
WRITTEN = {'task.length': COUNT, 'task.rows': COUNT}
POLICY = {
  'samples': (2,),
  'module.width': WIDTH,
  'module.layers': LAYERS,
  'module.heads': WIDTH,
  'module.start': (-1e9, 1e9),
  'module.slope': (-1e9, 1e9),
  'module.temperature': (1e-9,),
}
METHODS = {
  'variational': POLICY,  # and its budgets
  'reinforce': POLICY | {
    'epochs': COUNT,
    'step_cost': (0.0,),
    'clip_ratio': (0.0,),
    'temperature': (0.0,),
  },
  'pairs': {
    'rows': COUNT,
    'epsilon': (-1e9, 1e9),
    'module.width': WIDTH,
    'module.hidden': WIDTH,
    'module.reach': (0, 2**16),
    'module.places': (0, 2**24),
  },
}
CHOICES = {  # of orders, what is no number
  'module.sees': ('confidence', 'features'),
  'probes': ('punt', 'explore'),
  'normalize': (False, True),
}
# What may be missing; the networks have defaults of their own.
OPTIONAL = 'decay', 'data.seed', 'data.vocab', 'model.', 'module.'


def denoiser(config: Any, devices: int) -> None:
  """Checks a config of train.main; `devices` share every batch.

  Raises:
    ValueError: one sentence about the first value that will not do.
  """
  data = config.data
  kind = WORLD if 'world' in data else PUZZLE if 'puzzle' in data else TEXT
  numbers(config, DENOISER | kind)
  checks.known('loss_weight', config.loss_weight, corruption.WEIGHTS)
  checks.known('optimizer', config.optimizer, tuple(step.OPTIMIZERS))
  together(config)
  if config.batch % devices:
    raise ValueError(
      f'a batch of {config.batch} rows does not divide over {devices}'
      ' devices: set --config.batch to a multiple'
    )
  network('model', config.model, DENOISER, ('attention',))
  if not config.model.get('taps', 1) % 2:
    raise ValueError(f'model.taps = {config.model.taps} must be odd')
  length = puzzles.LENGTH if kind is PUZZLE else data.length
  if 0 < config.model.get('places', 0) < length:
    raise ValueError(
      f'model.places = {config.model.places} must be 0, or at least the'
      f' {length} positions of the canvases'
    )
  blocks(config.model, length)
  if kind is WORLD:
    world(data)


def blocks(model: Any, length: int) -> None:
  """Attention of a network, and blocks that canvases are cut into.

  Raises:
    ValueError: one sentence.
  """
  attention, size = model.get('attention', 'full'), model.get('block_length', 0)
  checks.known('model.attention', attention, block_masks.ATTENTION)
  if attention == 'full' and size:
    raise ValueError(
      f'model.block_length = {size} is for block_causal attention: set'
      ' --config.model.attention=block_causal, or leave it at 0'
    )
  if attention != 'full' and (not size or length % size):
    said = f'= {size} does not divide' if size else 'is missing: it must divide'
    raise ValueError(
      f'model.block_length {said} the {length} positions of the canvases: set'
      ' --config.model.block_length to a divisor'
    )
  if size and model.get('places', 0) % size:
    raise ValueError(
      f'model.places = {model.places} must be a multiple of model.block_length'
      f' = {size}'
    )


def order(config: Any) -> None:
  """Checks a config of train.orders.

  Raises:
    ValueError: one sentence about the first value that will not do.
  """
  method = checks.known('method', config.method, tuple(METHODS))
  task = SUDOKU if 'clues' in config.task else WRITTEN
  limits = ORDER | task | METHODS[method]
  numbers(config, limits)
  if method == 'variational':
    if not config.budgets:
      raise ValueError('budgets is empty: name at least one number of steps')
    checks.numbers({'budget': tuple(config.budgets)}, {'budget': COUNT})
  for name, values in CHOICES.items():
    *path, last = name.split('.')
    inside = config[path[0]] if path else config
    if last in inside:
      checks.known(last, inside[last], values)
  together(config)
  network('module', config.module, limits, ('sees',))


def numbers(config: Any, limits: Any) -> None:
  """checks.numbers of those that are there, and all must be that have to."""
  there = {}
  for name, limit in limits.items():
    *path, last = name.split('.')
    inside = config
    for part in path:
      inside = inside[part]
    if last in inside:
      if isinstance(inside[last], (tuple, list)):
        raise ValueError(f'{name} = {inside[last]!r:.40} must be one number')
      there[name] = limit
    elif not name.startswith(OPTIONAL):
      raise ValueError(f'{name} is missing: see configs/ for examples')
  checks.numbers(config, there)


def together(config: Any) -> None:
  """What two numbers of RUN must be to each other."""
  step.warm_up(config)
  save, log = config.save_every, config.log_every
  if save and log and save % log:
    raise ValueError(
      f'save_every ({save}) must be a multiple of log_every ({log}), so that a'
      ' resumed curve has the same rows'
    )


def network(group: str, sizes: Any, limits: Any, words: Any) -> None:
  """Values of a network: no others, and heads of an even number of features."""
  names = [x.partition('.')[2] for x in limits if x.startswith(f'{group}.')]
  for name in sizes:
    checks.known(f'value of {group}', name, (*names, *words))
  width, heads = (sizes.get(x) for x in ('width', 'heads'))
  if width and heads and width % (2 * heads):  # they turn in pairs
    raise ValueError(
      f'{group}.width = {width} must be an even multiple of {group}.heads ='
      f' {heads}'
    )


def world(data: Any) -> None:
  """An exact world must fit into memory."""
  length = data.length
  vocab = 2 if data.world == 'parity' else data.get('vocab', 2)
  in_full = data.world in ('table', 'parity')
  size = vocab ** min(data.length, 64) if in_full else data.length * vocab
  pairs = 0 if in_full else data.length * vocab**2
  if max(size * data.heldout, pairs) > CELLS:
    raise ValueError(
      f'data.world = {data.world} of data.length = {data.length} positions with'
      f' {vocab} tokens, {data.heldout} held out, is too big to be exact: use'
      ' fewer'
    )
  if data.world == 'parity':
    rows = data.get('checks', ())
    if not isinstance(rows, (tuple, list)) or not all(
      isinstance(row, (tuple, list)) for row in rows
    ):
      raise ValueError(f'data.checks = {rows!r:.40} must be tuples of numbers')
    places = tuple(place for row in rows for place in row)
    checks.numbers(
      {'position': places}, {'position': (0, length - 1)}, 'data.checks: '
    )
