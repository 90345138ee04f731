"""Beyond PUNT: which sampler needs fewer passes for the same errors?

  python -m experiments.beyond --config=configs/beyond.py --workdir=runs/beyond

Tries the ideas of experiments/beyond/contenders.py on the subjects of the
config (see experiments/common/subjects.py). Influence tables are learned first,
from a warm-up whose passes are reported on their own and, in `nfe_amortized`,
spread over config.amortize canvases. Writes results.jsonl (a row per subject,
length and setting; a run that was stopped goes on), tables/, beyond.png and
verdict.txt.
"""

import functools
import pathlib
import time
import zipfile

import jax
import numpy as np

import punt_jax
from experiments.beyond import plot
from experiments.beyond.contenders import CONTENDERS, FIXED, TABLES
from experiments.common import columns, subjects
from experiments.punt_variants import variants
from punt_jax import files
from punt_jax.checks import known, numbers
from punt_jax.cli import command
from punt_jax.cli.sweep import Point, grid, sweep
from punt_jax.generation.warm_up import learn

LIMITS = {  # of its numbers, see checks.numbers
  'seed': (0,), 'rows': (2,), 'text_rows': (2,), 'draws': (1,),
  'warm_up.explore': (1,), 'warm_up.punt': (1,), 'amortize': (1,),
}


def points(config):
  """Every Point of a config, those that share a program together.

  Raises:
    ValueError: one sentence about what the config asks for.
  """
  found = []
  subjects.check_numbers(config, LIMITS)
  for name, length, contenders in config.subjects:
    numbers({'length': length}, {'length': (2,)})
    subjects.check(name, length, config.settings.to_dict())
    for contender in contenders:
      known('contender', contender, CONTENDERS)
      known('contender without a grid:', contender, config.grids)
      for settings in grid(config.grids[contender].to_dict()):
        named_early(contender, settings, length)
        found.append(Point(subjects.label(name), length, contender, settings))
  return found


def named_early(contender, settings, length):
  """Raises ValueError for a setting out of range, missing or unknown."""
  variants.check_numbers(settings)
  table = np.zeros((length, length), np.float32)
  try:
    CONTENDERS[contender](settings, dict.fromkeys(TABLES.values(), table))
  except (KeyError, TypeError) as error:
    raise ValueError(
      f'the grid of {contender} has a wrong or missing setting: {error}'
    ) from None


def learned(subject, kind, rows, seed, file):
  """(influence table, the passes it took); kept in `file`, so made only once.

  Args:
    subject: subjects.Subject.
    kind: whose probes, see warm_up.learn.
    rows: canvases of the warm-up.
    seed: of it.
    file: pathlib.Path, .npz.
  """
  if not file.exists():
    file.parent.mkdir(exist_ok=True)
    made = learn(
      subject.model, subject.params, subject.vocab, subject.length, rows, seed,
      subject.alike, kind,
    )
    with files.replacing(file) as part:
      np.savez(part, **made._asdict())
  try:
    with np.load(file) as saved:
      return saved['table'], int(saved['passes'])
  except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
    raise ValueError(f'{file} is damaged: delete it, and start again') from None


def compile_one(subject, contender, fixed):
  """run({'subject', 'tables'}, settings, key, tokens)."""

  def build(params, settings):
    model = subject.model(params['subject'])
    make = CONTENDERS[contender]
    return model, make({**settings, **fixed}, params['tables'])

  return punt_jax.compile(build)


def fill(subject, rows, decode, params, settings, seed):
  """Decodes so many empty canvases -> the columns of any contender."""
  traced = {k: float(v) for k, v in settings.items() if k not in FIXED}
  start = time.perf_counter()
  decoded = decode(params, traced, jax.random.key(seed), subject.empty(rows))
  decoded = jax.tree.map(np.asarray, decoded)
  seconds = time.perf_counter() - start
  return {
    **columns.cost(decoded), **subject.errors(decoded), 'rows': rows,
    'seconds': seconds,
  }


def run(config, workdir):
  """The whole comparison. Returns the rows of results.jsonl."""
  workdir, settings = pathlib.Path(workdir), config.settings.to_dict()
  plan = points(config)
  source = {subjects.label(name): name for name, *_ in config.subjects}

  @functools.lru_cache(1)
  def subject_of(name, length):
    return subjects.of(
      source[name], length, settings, config.seed, config.text_rows,
      config.draws,
    )

  @functools.lru_cache(1)
  def table_of(name, length, kind):
    return learned(
      subject_of(name, length), kind, config.warm_up[kind], config.seed + 1,
      workdir / 'tables' / f'{name}_{length}_{kind}.npz',
    )

  @functools.lru_cache(1)
  def decoder(name, length, contender, fixed):
    return compile_one(subject_of(name, length), contender, dict(fixed))

  def measure(point):
    place = point.subject, point.length
    subject, kind = subject_of(*place), TABLES.get(point.sampler)
    table, passes = table_of(*place, kind) if kind else (None, 0)
    fixed = {k: v for k, v in point.settings.items() if k in FIXED}
    found = fill(
      subject, config.text_rows if subject.world is None else config.rows,
      decoder(*place, point.sampler, tuple(fixed.items())),
      {'subject': subject.params, 'tables': {kind: table} if kind else {}},
      point.settings, config.seed + 2,
    )
    return found | {
      'warm_up': passes,
      'nfe_amortized': found['nfe'] + passes / config.amortize,
      'world': None if subject.world is None else settings,
    }

  rows = sweep(
    'beyond', workdir, config, plan, measure,
    ('excess_nll', 'unigram_tv', 'pair_tv'), ('subjects', 'grids'),
  )
  plot.write(workdir, rows)
  return rows


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
