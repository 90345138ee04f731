"""When is each kind of token written: structure first, details later?

  python -m experiments.writing_order --config=configs/writing_order.py \\
    --workdir=runs/writing_order

PUNT's authors (https://arxiv.org/abs/2510.21961) report headings and skeleton
first, details later. This decodes documents (oracles.documents) over a sweep of
the two couplings, and text of the shipped model, and measures the moment at
which each token was written: the share of the canvas that was written before
it, tokens of the same step counted half, so 0.5 on average whatever the
sampler. Writes results.jsonl (a row per subject and sampler; a run that was
stopped goes on), kinds.png (mean moment of each kind) and order.png (heat
maps).
"""

import functools
import itertools
import pathlib

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.writing_order import plot
from punt_jax import metrics
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.generation import options
from punt_jax.oracles import named

LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'length': (2,), 'rows': (2,), 'text_rows': (2,),
  'down': (-1e3, 1e3), 'up': (-1e3, 1e3),
}
SECONDS = 13.5  # a row, CPU time, see sweep
BINS = 16  # moments of the heat maps
DOCUMENT = ('heading', 'structure', 'detail')
TEXT = ('line break', 'space', 'punctuation', 'capital', 'letter')


def worlds(config):
  """[(subject, its settings)]: documents over the sweep, then text (None)."""
  both = itertools.product(config.down, config.up)
  settings = config.settings.to_dict()
  found = [('documents', {**settings, 'down': d, 'up': u}) for d, u in both]
  return found + [(name, None) for name in config.texts]


def moments(when):
  """(B, L) steps -> share of the row written before, ties counted half."""
  when = np.asarray(when)
  earlier = (when[:, None, :] < when[:, :, None]).sum(-1)
  same = (when[:, None, :] == when[:, :, None]).sum(-1) - 1
  return (earlier + same / 2) / (when.shape[1] - 1)


def tau(when):
  """Kendall's tau-b (B,) of position and step: 1 is left to right.

  0 where everything was written in one step.
  """
  when = np.asarray(when)
  i, j = np.triu_indices(when.shape[1], 1)
  sign = np.sign(when[:, j] - when[:, i])
  untied = np.abs(sign).sum(-1)
  return sign.sum(-1) / np.sqrt(np.maximum(untied, 1) * len(i))


def kind_of(letter):
  """The index in TEXT of a character."""
  if letter == '\n':
    return 0
  if letter.isspace():
    return 1
  if not letter.isalpha():
    return 2
  return 3 if letter.isupper() else 4


def kinds_of(subject, world, tokens):
  """(names of the kinds, (B, L) kind of each token)."""
  if world is not None:
    kinds = named.kinds(subject.name, subject.length, world)
    return DOCUMENT, np.broadcast_to(kinds, tokens.shape)
  table = [kind_of(subject.text.decode([t])) for t in range(subject.vocab)]
  return TEXT, np.array(table)[tokens]


def by_kind(moment, kinds, names):
  """{kind: (mean moment, standard error over rows, share of tokens)}.

  Without kinds that fewer than two rows have.
  """
  found = {}
  for i, name in enumerate(names):
    here = kinds == i
    rows = here.any(-1)
    if rows.sum() < 2:
      continue
    mean = (moment * here).sum(-1)[rows] / here.sum(-1)[rows]
    found[name] = [*metrics.estimate(mean), float(here.mean())]
  return found


def heat(moment):
  """(L, BINS) shares: when each position was written."""
  place = np.minimum((moment * BINS).astype(int), BINS - 1)
  return np.stack([(place == b).mean(0) for b in range(BINS)], -1)


def fill(subject, world, choice, rows, seed):
  """Decodes so many empty canvases -> the columns that are measured."""

  def build(params, settings):
    return subject.model(params), choice.make(settings)

  traced = {k: float(v) for k, v in choice.traced.items()}
  decode, key = punt_jax.compile(build), jax.random.key(seed)
  out = decode(subject.params, traced, key, subject.empty(rows))
  out = jax.tree.map(np.asarray, out)
  moment = moments(out.when)
  names, kinds = kinds_of(subject, world, out.tokens)
  correlation = metrics.estimate(tau(out.when))
  return {
    **columns.cost(out),
    'tau': correlation.mean,
    'tau_error': correlation.stderr,
    'kinds': by_kind(moment, kinds, names),
    'heat': np.round(heat(moment), 4).tolist(),
    'layout': None if world is None else kinds[0].tolist(),
    'rows': rows,
  }


def run(config, workdir):
  """All subjects and samplers. Returns the rows of results.jsonl."""
  subjects.check_numbers(config, LIMITS)
  length, seed = config.length, config.seed
  choices = {
    name: options.choose(name, settings)
    for name, settings in config.samplers.items()
  }
  points, source = [], {}
  for name, world in worlds(config):
    subjects.check(name, length, world)
    source[subjects.label(name)] = name
    points += [
      Point(
        subjects.label(name), length, choice.name, choice.settings(),
        {'world': world},
      )
      for choice in choices.values()
    ]
  subject_of = functools.lru_cache(1)(
    lambda name, world: subjects.of(name, length, dict(world), seed)
  )

  def measure(point):
    world = point.about['world']
    place = source[point.subject], tuple((world or {}).items())
    subject = subject_of(*place)
    rows = config.text_rows if world is None else config.rows
    return fill(subject, world, choices[point.sampler], rows, seed)

  rows = sweep(
    'writing_order', workdir, config, points, measure, ('tau',),
    ('texts', 'down', 'up', 'samplers', 'length'), SECONDS,
  )
  workdir = pathlib.Path(workdir)
  plot.kinds(workdir / 'kinds.png', rows)
  plot.heat_maps(workdir / 'order.png', rows)
  print(f'in {workdir}: kinds.png, order.png, results.jsonl')
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
