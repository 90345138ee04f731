"""Benchmarks: accuracy against forward passes, for several samplers.

  punt-jax evaluate --model=DIR --data=DIR --workdir=runs/evaluate
  punt-jax evaluate --model=DIR --data=DIR --workdir=runs/part --limit=100 \\
    --preset=llada/gsm8k,ifeval --sampler='punt(epsilon=0.05)'

Asks the model the questions of GSM8K, IFEval, HumanEval and MBPP, through
EleutherAI's lm-evaluation-harness (pip install 'punt-jax[eval]'): its prompts,
its answer extraction, its checkers. Nothing is fetched: --data is a folder with

  gsm8k/test.jsonl, gsm8k/train.jsonl  (openai/grade-school-math)
  ifeval/input_data.jsonl              (google-research)
  humaneval/HumanEval.jsonl[.gz]       (openai/human-eval)
  mbpp/mbpp.jsonl                      (google-research)

Writes results.jsonl (a row per task and sampler setting, the first of each
task for random tokens: the floor below which a score says nothing),
answers.jsonl (every text, as soon as it is there; a run that was stopped goes
on) and in the end <task>.png. HumanEval and MBPP run programs that the model
wrote: only with --allow_code_execution, each in a sandbox
(punt_jax/cli/evaluate/sandbox.py).

A folder of other task files of lm-eval (--more=FOLDER) may be named as
well, for what LLaDA and others measure by likelihood: multiple choice then
takes the answer whose bound (punt_jax/generation/likelihood.py) is best.
"""

import functools
import pathlib
import random
import tempfile
from typing import Any

import numpy as np
from absl import flags

from punt_jax import extras, metrics
from punt_jax.cli import columns, command, records
from punt_jax.cli.evaluate import defaults
from punt_jax.cli.evaluate import plan as evaluate_plan
from punt_jax.cli.sweep import sweep

# Of the config: they choose rows; what a task says of itself is in its rows.
# What the task files and questions are is in them too, not where they lie.
FREE = (*records.FREE, 'tasks', 'samplers', 'sampler', 'data', 'more')
SHOTS_SEED = 1234  # lm-eval's: the same examples stand before each question


def run(
  config: Any, workdir: str | pathlib.Path, model: str | None = None,
  data: str | None = None, may_run_code: bool = False,
) -> list[dict]:
  """The whole evaluation. Returns the rows of results.jsonl.

  Args:
    config: of configs/evaluate.py.
    workdir: folder of this run.
    model: instead of config.model.
    data: instead of config.data.
    may_run_code: whether the user agreed to run programs of the model.

  Raises:
    ValueError: one sentence about what is wrong or missing, before anything
      is asked of the model.
  """
  config.model, config.data = model or config.model, data or config.data
  workdir = pathlib.Path(workdir)
  harness = evaluate_plan.import_harness()
  with tempfile.TemporaryDirectory() as folder:
    plan = evaluate_plan.prepare(config, harness, folder, may_run_code)
    places = {str(place.point()): place for place in plan}

    @functools.lru_cache(1)
    def known():
      return harness.answers(workdir / 'answers.jsonl')

    def measure(point):
      place = places[str(point)]
      model = harness.Harness(place.engine, known())
      found = score(place, model, config.limit, config.chat, config.draws)
      return {**found, 'model': config.model}

    rows = sweep(
      'evaluate', workdir, config, [place.point() for place in plan], measure,
      ('accuracy', 'seconds'), FREE,
      digests={'model': plan[0].model},
    )
  for name in config.tasks:
    draw(workdir / f'{name}.png', [r for r in rows if r['subject'] == name])
  print(f'in {workdir}: results.jsonl, answers.jsonl, <task>.png')
  return rows


def score(
  place: evaluate_plan.Place, model: Any, limit: int, chat: bool, draws: int
) -> dict[str, Any]:
  """The measured columns of one Place.

  Args:
    place: plan.Place.
    model: lm_eval.Harness.
    limit: questions; 0 for all.
    chat: whether questions are put into the model's chat template.
    draws: forward passes of an answer whose likelihood was asked for.
  """
  from lm_eval.evaluator import (  # pyright: ignore[reportMissingImports]
    evaluate,
  )

  place.task.set_config('num_fewshot', place.shots)
  place.task.set_fewshot_seed(SHOTS_SEED)
  random.seed(0)  # as lm-eval does; IFEval's checkers draw from it
  said: Any = evaluate(
    model, {'tasks': {place.name: place.task}}, limit=limit or None,
    bootstrap_iters=2, log_samples=False, apply_chat_template=chat,
    fewshot_as_multiturn=chat, confirm_run_unsafe_code=True,
  )
  scores = {
    key: columns.finite(value)
    for key, value in said['results'][place.name].items() if ',' in key
  }
  headline = place.task.config.metadata.get('headline', next(iter(scores)))
  metric, kind = headline.split(',')
  passes = lambda row: row.get('nfe', draws + row.get('passes', 0))
  nfe = metrics.spread(np.array([passes(row) for row in model.used]))
  mean = lambda key: float(np.mean([row.get(key, 0) for row in model.used]))
  return {
    'metric': f'{metric} {kind}'.split(' none')[0],
    'accuracy': scores[headline],
    'accuracy_error': scores.get(f'{metric}_stderr,{kind}'), 'scores': scores,
    'items': said['n-samples'][place.name]['effective'],
    'chat': chat,
    'nfe': nfe.mean, 'nfe_error': columns.finite(nfe.stderr),
    'nfe_low': nfe.low, 'nfe_median': nfe.median, 'nfe_high': nfe.high,
    'tokens': mean('tokens'),
    'seconds': mean('seconds'),  # per answer, compilation aside
  }


def draw(path: pathlib.Path, rows: list[dict]) -> None:
  """The picture of a task, if it has several samplers, and matplotlib."""
  if all(row['sampler'] in ('random', 'likelihood') for row in rows):
    return
  try:
    extras.load('matplotlib', path.name)
  except ValueError as error:
    print(error)
    return
  from punt_jax.cli.evaluate import plot

  plot.write(path, rows)


def main() -> None:
  """The command."""
  agreed = flags.DEFINE_bool(
    'allow_code_execution', False, 'Run programs that the model writes.'
  )


  def job(config, workdir, preset=None, **values):
    del preset  # `default` has seen it
    return run(config, workdir, may_run_code=agreed.value, **values)

  command.run_config(
    job, default=defaults.default, preset=defaults.HELP,
    model='Folder, file or name of the model, instead of config.model.',
    data='Folder of the questions, instead of config.data.',
  )
