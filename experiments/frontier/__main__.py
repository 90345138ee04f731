"""The frontier: what each sampler pays in forward passes for how much error.

  python -m experiments.frontier --config=configs/frontier.py \\
    --workdir=runs/frontier
  python -m experiments.frontier --config=configs/frontier.py \\
    --workdir=runs/mine --models=my.safetensors,permuted \\
    --samplers='punt(epsilon=0.05) top_k(k=2)'

Sweeps the hyperparameters of each sampler over the worlds of
punt_jax/oracles/named.py and over lengths. A world is an exact model, so all
error is the sampler's. The name of a model that ships, a file of train.export
or a checkpoint directory stands for its text (see
experiments/common/subjects.py). --models and --samplers take the place of
config.worlds and config.samplers, whose numbers are then as they are written.
A sampler is compiled once per subject and
length; hyperparameters, temperatures and the world's parameters are traced.
Writes results.jsonl (a row per point; a run that was stopped, or is asked for
more, goes on) and frontier_<subject>.png.

At temperature 1 a row holds both kinds of error; at others, where errors have
no meaning (see experiments/common/columns.py), how well the tokens fit. These
runs start from canvases that show a share of an exact sample, because at
temperature 0 most samplers would write one and the same canvas every time.
"""

import functools
import itertools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.frontier import plot
from punt_jax import checks, metrics
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, sweep
from punt_jax.generation import options, sampler_text
from punt_jax.generation.warm_up import hyperparams_of, learn, warm_up
from punt_jax.oracles import named

# Of the config: they choose rows.
FREE = ('worlds', 'lengths', 'samplers', 'shares', 'temperatures')
LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'rows': (2,), 'text_rows': (2,),
  'draws': (1,), 'warm_up': (2,), 'shown': (0.0, 1.0), 'scored': (2,),
}
SECONDS = 3.4  # a row, CPU time, see sweep


class Case(NamedTuple):
  """A setting of the grid."""

  subject: str  # a name or path, see subjects.check
  length: int
  temperature: float
  choice: options.Choice

  def point(self):
    return Point(
      subjects.label(self.subject), self.length, self.choice.name,
      self.choice.settings(), {'temperature': self.temperature},
    )

  def program(self):
    """What is fixed when it is compiled."""
    return *self[:2], self.choice.name, str(self.choice.static)


class Start(NamedTuple):
  """A subject, and canvases to start from."""

  subject: subjects.Subject
  key: jax.Array  # of the runs
  empty: np.ndarray  # (B, L)
  shown: np.ndarray  # (B, L): a share of the tokens of exact samples
  noise: Any  # excess_nll_floor of a world: that of as many exact samples
  learned: Any  # warm_up.Learned if a sampler needs it


def cases(config):
  """Every Case of a config, those that share a compilation together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  subjects.check_numbers(config, LIMITS)
  for heats in dict(config.temperatures).values():
    checks.numbers({'temperature': heats}, {'temperature': (0.0,)})
  settings, found = config.settings.to_dict(), []
  listed = isinstance(config.samplers, str)
  for name, length in itertools.product(config.worlds, config.lengths):
    checks.numbers({'length': length}, {'length': (2,)})
    subjects.check(name, length, settings)
    offers = subjects.offers(name)
    for choice in written(config.samplers) if listed else options.grid(
      config.samplers.to_dict(), length, config.shares
    ):
      if choice.needs and choice.needs not in offers:
        if not listed:
          continue
        raise ValueError(
          f'{choice.name} needs {choice.needs}, which {name} does not offer:'
          ' leave it out of --samplers'
        )
      for heat in config.temperatures.get(name, (1.0,)):
        if heat != 1 and name not in named.NAMES:
          raise ValueError(f'{name} is compared at temperature 1 alone')
        found.append(Case(name, length, float(heat), choice))
  return found


def written(samplers):
  """The options.Choice of each sampler of a text; see sampler_text."""
  choices = [options.choose(*one) for one in sampler_text.parse_all(samplers)]
  once = {(x.name, str(x.settings())): x for x in choices}.values()
  program = [(x.name, x.static) for x in choices]
  return sorted(once, key=lambda x: program.index((x.name, x.static)))


def asked(config, models, samplers):
  """The config with what was asked for by flags; None: as it is."""
  if models is not None:
    config.worlds = tuple(filter(None, map(str.strip, models.split(','))))
  if samplers is not None:
    with config.unlocked():
      del config.samplers  # not of the same type
      config.samplers = samplers
  return config


def prepare(config, name, length, learns=()) -> Start:
  """The subject and its canvases. Worlds of one length share keys.

  Args:
    config: of the frontier.
    name: of subjects.NAMES, or a path.
    length: L.
    learns: what samplers need to be told, see options.Choice.
  """
  key = jax.random.fold_in(jax.random.key(config.seed), length)
  own, runs, exact, seen = jax.random.split(key, 4)
  if name in named.NAMES:
    subject = subjects.of_world(name, length, config.settings.to_dict(), own)
    samples = np.asarray(subject.world.sample(exact, config.rows))
    noise = metrics.estimate(metrics.excess_nll(subject.world, samples)).stderr
    empty = subject.empty(config.rows)
  else:
    subject = subjects.of_text(
      name, length, config.text_rows, config.draws, config.seed
    )
    samples = empty = subject.empty(config.text_rows)
    noise = None
  seen = np.asarray(jax.random.bernoulli(seen, config.shown, empty.shape))
  learned = None if not learns else learn(
    subject.model, subject.params, subject.vocab, length, config.warm_up,
    config.seed, subject.alike, profile='sizes' in learns,
  )
  shown = np.where(seen, samples, empty)
  return Start(subject, runs, empty, shown, noise, learned)


def compile_one(subject, choice, most):
  """run(params, hyperparams, key, tokens) for all settings of this program.

  Args:
    subject: subjects.Subject.
    choice: options.Choice, one of them.
    most: steps that any of them may take.
  """
  how = {'attention': True} if choice.needs == 'attention' else {}

  def build(params, hyperparams):
    model = subject.model(params, **how)
    tempered = punt_jax.temper(model, hyperparams['temperature'])
    return tempered, choice.make(hyperparams['sampler'])

  return punt_jax.compile(build, most)


def fill(config, case, start, decode):
  """The columns that are measured."""
  exact = case.temperature == 1
  given = start.empty if exact else start.shown
  hyperparams = {
    'sampler': hyperparams_of(case.choice, start.learned),
    'temperature': case.temperature,
  }
  begun = time.perf_counter()
  decoded = decode(start.subject.params, hyperparams, start.key, given)
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - begun
  options.check_finished(case.choice, decoded)
  if exact:
    found = start.subject.errors(decoded)
    if start.noise is not None:
      found['excess_nll_floor'] = start.noise
    if case.choice.rewrites:
      found |= {'gap': None, 'gap_error': None}
  else:
    found = columns.fit(start.subject.world, decoded, given, config.scored)
  return {
    'label': str(case.choice),
    **columns.cost(decoded),
    'warm_up': warm_up(case.choice, start.learned),
    **found,
    'shown': 0.0 if exact else config.shown,
    'seconds': seconds,
    'rows': len(given),
    'world': config.settings.to_dict(),
  }


def run(config, workdir, models=None, samplers=None):
  """The whole sweep. Returns the rows of results.jsonl.

  Args:
    config: of configs/frontier.py.
    workdir: folder of this run.
    models: names and paths, by commas, in place of config.worlds.
    samplers: a text as sampler_text.parse_all reads it, for config.samplers.
  """
  plan = cases(asked(config, models, samplers))
  by_point = {str(case.point()): case for case in plan}
  learns = {
    case[:2]: {c.choice.learns for c in plan if c[:2] == case[:2]} - {None}
    for case in plan
  }
  programs = {}
  for case in plan:
    programs.setdefault(case.program(), []).append(case)

  @functools.lru_cache(1)
  def start_of(*place):
    return prepare(config, *place, learns[place])

  @functools.lru_cache(1)
  def decoder(*program):
    together = [case.choice for case in programs[program]]
    length = program[1]
    most = max(options.most_steps(choice, length) for choice in together)
    return compile_one(start_of(*program[:2]).subject, together[0], most)

  def measure(point):
    case = by_point[str(point)]
    return fill(config, case, start_of(*case[:2]), decoder(*case.program()))

  rows = sweep(
    'frontier', workdir, config, [case.point() for case in plan], measure,
    ('gap', 'excess_nll', 'agreement', 'log_p', 'impossible', 'seconds'),
    FREE, SECONDS,
  )
  for name in map(subjects.label, config.worlds):
    plot.write(
      pathlib.Path(workdir) / f'frontier_{name}.png',
      [row for row in rows if row['subject'] == name],
    )
  names = ', '.join(f'frontier_{subjects.label(x)}.png' for x in config.worlds)
  print(f'in {workdir}: results.jsonl, {names}')
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(
    run,
    models='Names, files of train.export or folders, by commas.',
    samplers="Samplers, for instance 'punt(epsilon=0.05) top_k(k=2)'.",
  )
