"""The main job: a masked diffusion model writes, with PUNT and its baselines.

  punt-jax demo
  punt-jax demo --sampler='punt(epsilon=0.05)' --temperature=0.7

Fills an empty canvas and a prompt with blanks (--prompt='To __ or not', where _
is a blank, and \\n a line break with --escapes), prints the texts and what they
cost, and writes results.jsonl, samples.txt, order.png and film.html to
--workdir, a new folder of runs/ unless told.
"""

import concurrent.futures
import itertools
import math
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import punt_jax
from punt_jax import checkpoints, extras, files, jsonl
from punt_jax.cli import command, records
from punt_jax.cli import job as job_lib
from punt_jax.generation import generator, options, quality
from punt_jax.text.vocabulary import Text
from punt_jax.types import FilePath
from punt_jax.viz import film, terminal
from punt_jax.viz.progress import progress

SECONDS = 2.7  # to compile a program, of two at a time on two CPU cores
FillFn = Callable[[job_lib.Page], Any]  # to Decoded, a film to a pair with Move


class Outcome(NamedTuple):
  """What one sampler did with one page."""

  choice: options.Choice
  page: job_lib.Page
  decoded: Any  # punt_jax.Decoded, but of NumPy arrays
  seconds: float
  text: Text

  def row(self, r: int) -> tuple[list[str], Any, Any]:
    """(letters, when (n,), steps ()) of a row, without padding."""
    inside = slice(self.page.length)
    letters = [self.text.decode([i]) for i in self.decoded.tokens[r, inside]]
    return letters, self.decoded.when[r, inside], self.decoded.steps[r]


def compile_one(
  job: job_lib.Job, choice: options.Choice, filmed: bool
) -> FillFn:
  """fill(page) -> what punt_jax.compile gives, already compiled.

  It is compiled by filling a canvas that has nothing open, which costs
  nothing. A film has one row, and Move.info as film.metered says.
  """
  wrap = film.metered if filmed else lambda sampler: sampler
  build, hyperparams = job_lib.builder(job, choice, wrap)
  most = options.most_steps(choice, job.config.length)
  if filmed:
    run = punt_jax.compile(build, most, driver=punt_jax.decode.film)
  else:
    run = punt_jax.compile(build, most, job.devices)
  rows = slice(1 if filmed else None)

  def fill(page):
    key = jax.random.fold_in(jax.random.key(job.config.seed), page.number)
    out = run(
      job.loaded.params, hyperparams, key, page.tokens[rows],
      valid=page.valid[rows],
    )
    return jax.tree.map(np.asarray, out)

  first = job.pages[0]
  fill(first._replace(tokens=np.zeros_like(first.tokens)))
  return fill


def compile_all(job: job_lib.Job) -> dict[tuple[str, bool], FillFn]:
  """{(choice, filmed): fill}, compiled two at a time."""
  tasks = [(choice, False) for choice in job.choices]
  tasks += [(choice, True) for choice in job.film]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    waiting = [pool.submit(compile_one, job, *task) for task in tasks]
    finished = concurrent.futures.as_completed(waiting)
    for _ in progress(finished, 'compiling', len(tasks), 'program'):
      pass
  return {
    (choice.name, filmed): future.result()
    for (choice, filmed), future in zip(tasks, waiting, strict=True)
  }


def fill_page(
  job: job_lib.Job, page: job_lib.Page, choice: options.Choice, fill: FillFn
) -> Outcome:
  """Fills a page, and takes the time."""
  start = time.perf_counter()
  decoded = fill(page)
  seconds = time.perf_counter() - start
  options.check_finished(choice, decoded)
  text = generator.need_text(job.loaded)
  return Outcome(choice, page, decoded, seconds, text)


def result(
  job: job_lib.Job, outcome: Outcome,
  score: Callable[[np.ndarray], tuple[float, float]], origin: dict[str, Any],
) -> dict[str, Any]:
  """The row of results.jsonl."""
  config, decoded = job.config, outcome.decoded
  tokens = decoded.tokens[:, : outcome.page.length]
  bits, error = score(tokens)
  nfe = float(decoded.meter.nfe.mean())
  written = float((decoded.when >= 0).sum(1).mean())
  keys = ('model', 'rows', 'temperature', 'top_p')
  return {
    'schema': records.SCHEMA,
    'experiment': 'demo',
    'subject': outcome.page.name,
    'length': config.length,
    'sampler': outcome.choice.name,
    'settings': outcome.choice.settings(),
    'label': str(outcome.choice),
    'nfe': nfe,
    'depth': float(decoded.meter.depth.mean()),
    'steps': float(decoded.steps.mean()),
    'forwards': decoded.meter.forwards.tolist(),
    'seconds': outcome.seconds,
    'characters_per_nfe': written / nfe,
    'bits_per_character': bits,
    'bits_error': None if math.isnan(error) else error,
    'distinct_4': quality.distinct(tokens),
    'texts': [outcome.text.decode(row) for row in tokens],
    **{key: config[key] for key in keys},
    'origin': origin,
  }


def shoot(
  job: job_lib.Job, page: job_lib.Page, choice: options.Choice, fill: FillFn
) -> dict[str, Any]:
  """Films the first row of a page."""
  decoded, moves = fill(page)
  inside = slice(page.length)
  row = moves._replace(tokens=moves.tokens[:, 0, inside], info=moves.info[:, 0])
  start, steps = page.tokens[0, inside], decoded.steps[0]
  return film.reel(choice, job.loaded.text, start, steps, row)


def report(
  job: job_lib.Job, outcomes: Sequence[Outcome],
  rows: Sequence[dict[str, Any]], color: bool,
) -> None:
  """Prints texts and table."""
  print('\n' + terminal.legend(color))
  for page in job.pages:
    mine = [o for o in outcomes if o.page is page]
    first = mine[0]
    passes = terminal.counted(first.decoded.meter.nfe[0], 'forward pass', 'es')
    said = f' ({first.choice})' if str(first.choice) else ''
    print(f'\n{first.choice.name}{said} on the {page.name}, {passes}:\n')
    letters, when, steps = first.row(0)
    print(terminal.verse(letters, when, steps, color))
    if len(mine) > 1:
      print(f'\nEvery sampler on the {page.name}:\n')
      print(terminal.strips(mine, 0, color))
  print('\n' + terminal.table(rows[: len(job.choices)]))  # of the first page
  heldout = job.loaded.card.get('heldout_bits')
  devices = len(job.devices or [0])
  print('\n' + terminal.notes(rows, devices, heldout) + '\n')


def save(
  workdir: pathlib.Path, job: job_lib.Job, outcomes: Sequence[Outcome],
  rows: Sequence[dict[str, Any]], scenes: dict[str, list[dict[str, Any]]],
) -> ValueError | None:
  """Writes the files; returns why there is no picture, or None."""
  jsonl.replace(workdir / 'results.jsonl', rows)
  texts = [
    f'== {row["sampler"]}, {row["subject"]}, row {r}\n{text}\n\n'
    for row in rows
    for r, text in enumerate(row['texts'])
  ]
  files.write(workdir / 'samples.txt', ''.join(texts))
  title = f'{job_lib.describe(job)}: the first row'
  film.write(workdir / 'film.html', title, scenes)
  try:
    extras.load('matplotlib', 'order.png')
  except ValueError as error:
    return error
  from punt_jax.viz import picture

  title = f'{job_lib.describe(job)}, {job.pages[0].name}'
  shown = [o for o in outcomes if o.page is job.pages[0]]
  picture.write(workdir / 'order.png', title, shown, rows)
  return None


def new_folder() -> pathlib.Path:
  """runs/demo, or runs/demo_2, ... if that is taken."""
  names = itertools.chain(['demo'], (f'demo_{n}' for n in itertools.count(2)))
  folders = (pathlib.Path('runs', name) for name in names)
  return next(folder for folder in folders if not folder.exists())


def run(config: Any, workdir: FilePath | None) -> list[dict[str, Any]]:
  """The whole job. Returns the rows of results.jsonl."""
  job = job_lib.prepare(config)
  workdir = pathlib.Path(workdir) if workdir else new_folder()
  digests = {'model': checkpoints.digest(job.loaded)}
  with records.claim(workdir, config, digests=digests):
    return write(job, workdir)


def write(job: job_lib.Job, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Does a job, and leaves its files in workdir."""
  config = job.config
  count = len(job.choices) + len(job.film)
  print(f'{job_lib.describe(job)}; files go to\n{workdir}')
  print(
    f'{terminal.counted(count, "program")} to compile: about'
    f' {SECONDS * count:.0f} s on two CPU cores, and as long again to run',
    flush=True,
  )
  job = job_lib.learn_first(job)
  marks = [time.perf_counter()]
  made = compile_all(job)
  marks.append(time.perf_counter())
  asked = [*itertools.product(job.pages, job.choices)]
  outcomes = [
    fill_page(job, page, choice, made[choice.name, False])
    for page, choice in progress(asked, 'filling', len(asked), 'canvas')
  ]
  scenes = {
    page.name: [
      shoot(job, page, choice, made[choice.name, True]) for choice in job.film
    ]
    for page in job.pages
  }
  marks.append(time.perf_counter())
  score = quality.scorer(job.loaded, config.draws, config.seed)
  origin = records.origin(config.seed)
  rows = [
    result(job, outcome, score, origin)
    for outcome in progress(outcomes, 'scoring', len(outcomes), 'canvas')
  ]
  marks.append(time.perf_counter())
  report(job, outcomes, rows, terminal.colored(sys.stdout))
  lacking = save(workdir, job, outcomes, rows, scenes)
  spent = 'compiled in {:.0f} s, filled in {:.0f} s, scored in {:.0f} s'
  print(spent.format(*np.diff(marks)))
  drawn = '' if lacking else ' order.png,'
  print(f'in {workdir}:')
  print(f'film.html (open it),{drawn} samples.txt, results.jsonl')
  if lacking:
    print(lacking)
  return rows


def main() -> None:
  """The command."""
  command.compile_quickly()
  command.run_config(
    run, needs=(), default=job_lib.defaults, resumes=False,
    workdir='Folder of this run; a new one of runs/ unless told.',
  )


if __name__ == '__main__':
  main()
