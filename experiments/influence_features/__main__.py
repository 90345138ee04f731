"""What tells how far revealing one character moves the prediction of another?

  python -m experiments.influence_features \\
    --config=configs/influence_features.py --workdir=runs/influence_features

A table of influence needs positions, or features, that mean the same in every
row. On the shipped text model this compares what a sampler could look at before
it reveals position i: the distance to j, entropies, the attention between i and
j (both ways, mean over heads of the last third of the layers), and the cosine
of their final hidden states. Each predicts KL(before || after) at j by the mean
of its bin, learned on half of the rows and judged on the other half (share of
variance explained). Writes results.jsonl (a row per set of features; that of
the distance alone has the mean KL at each distance) and influence_features.png.
"""

import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from experiments.common import subjects
from experiments.influence_features import plot
from punt_jax import samplers, scores
from punt_jax.checks import known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.decode import film
from punt_jax.models import transformer

CHUNK = 32  # canvases per forward pass
FEATURES = (
  'distance', 'attention', 'hidden', 'entropy_shown', 'entropy_moved'
)
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'rows': (2,), 'length': (4,), 'bins': (1,),
}


def probes_of(loaded, rows, length, seed):
  """(canvases before, shown, moved), (N, L) each, and the row (N,) of each."""
  build = lambda params, _: (loaded.denoiser(params), samplers.explore())
  empty = np.full((rows, length), loaded.text.vocab, np.int32)
  record = punt_jax.compile(build, driver=film)
  _, moves = record(loaded.params, (), jax.random.key(seed), empty)
  tokens, info = np.asarray(moves.tokens), moves.info
  before = np.concatenate([empty[None], tokens[:-2]])  # of steps 1, 2, ...
  flat = lambda x: np.asarray(x).reshape(-1, length)
  row = np.tile(np.arange(rows), length - 1)
  return flat(before), flat(info.shown[1:]), flat(info.moved[1:]), row


def looker(loaded):
  """look(canvases (N, L)) -> entropy (N, L), attention, cosine (N, L, L)."""
  module = loaded.module
  last = max(1, module.layers // 3)

  @jax.jit
  def look(params, tokens):
    valid = jnp.ones(tokens.shape, bool)
    features, attention = transformer.attend(module, params, tokens, valid)
    attention = attention[:, -last:].mean(1)
    logp = jax.nn.log_softmax(
      module.apply({'params': params}, features, method='head')
    )
    unit = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
    return (
      scores.entropy(logp),
      attention + attention.swapaxes(1, 2),
      jnp.einsum('nid,njd->nij', unit, unit),
    )

  return lambda tokens: look(loaded.params, tokens)


def pairs_of(loaded, before, shown, moved, row):
  """One entry per (revealed i, hidden j): {feature: (P,)}, moved and row."""
  look = looker(loaded)
  found = []
  for start in range(0, len(before), CHUNK):
    part = slice(start, start + CHUNK)
    entropy, attention, cosine = map(np.asarray, look(before[part]))
    n, j = np.nonzero(~np.isnan(moved[part]))
    i = shown[part].argmax(-1)[n]
    found.append(dict(
      distance=np.abs(i - j), attention=attention[n, i, j],
      hidden=cosine[n, i, j], entropy_shown=entropy[n, i],
      entropy_moved=entropy[n, j], moved=moved[part][n, j], row=row[part][n],
    ))
  return {key: np.concatenate([x[key] for x in found]) for key in found[0]}


def bins(values, count):
  """Quantile bins (P,) of values; whole numbers keep a bin each."""
  if np.issubdtype(values.dtype, np.integer):
    return values
  edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
  return np.searchsorted(edges, values)


def explained(pairs, names, count):
  """Share of the variance of `moved` explained on the rows not learned from."""
  cell = 0
  for name in names:
    own = bins(pairs[name], count)
    cell = cell * (own.max() + 1) + own
  _, cell = np.unique(cell, return_inverse=True)
  learned = pairs['row'] % 2 == 0
  moved = pairs['moved']
  total = np.bincount(cell[learned], moved[learned], cell.max() + 1)
  seen = np.bincount(cell[learned], minlength=cell.max() + 1)
  overall = moved[learned].mean()
  # A cell is pulled to the overall mean as if five pairs had shown it.
  mean = (total + 5 * overall) / (seen + 5)
  rest = moved[~learned] - mean[cell[~learned]]
  return float(1 - (rest**2).mean() / moved[~learned].var())


def by_distance(pairs, length):
  """Mean `moved` (nats) at the distances 1, 2, ... below length / 2."""
  moved, distance = pairs['moved'], pairs['distance']
  return [float(moved[distance == d].mean()) for d in range(1, length // 2)]


def run(config, workdir):
  """All sets of features. Returns the rows of results.jsonl."""
  model, length = config.model, config.length
  numbers(config, LIMITS)
  for name in itertools.chain(*config.features):
    known('feature', name, FEATURES)
  if not isinstance(subjects.load(model).module, transformer.Transformer):
    raise ValueError(f'{model} is no model of train.main: its attention and'
                     ' features cannot be read')
  points = [
    Point(subjects.label(model), length, 'explore', {'features': list(names)})
    for names in config.features
  ]

  @functools.lru_cache(1)
  def pairs():
    loaded = subjects.load(model)
    seen = probes_of(loaded, config.rows, length, config.seed)
    return pairs_of(loaded, *seen)

  def measure(point):
    names = point.settings['features']
    alone = names == ['distance']
    return {
      'explained': explained(pairs(), names, config.bins),
      'nats_by_distance': by_distance(pairs(), length) if alone else None,
      'pairs': len(pairs()['moved']),
      'rows': config.rows,
    }

  rows = sweep(
    'influence_features', workdir, config, points, measure, ('explained',),
    ('features', 'model', 'length'),
  )
  plot.draw(pathlib.Path(workdir) / 'influence_features.png', rows)
  return rows


if __name__ == '__main__':
  command.run_config(run)
