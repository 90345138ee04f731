"""Benchmarks: accuracy against forward passes, for several samplers.

  python -m experiments.evaluate --config=configs/evaluate.py --model=DIR \\
    --data=DIR --workdir=runs/evaluate

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
on) and <task>.png. HumanEval and MBPP run programs that the model wrote: only
with --allow_code_execution, each in a sandbox (experiments/evaluate/sandbox.py).

A folder of other task files of lm-eval (--config.more=FOLDER) may be named as
well, for what LLaDA and others measure by likelihood: multiple choice then
takes the answer whose bound (punt_jax/generation/likelihood.py) is best.
"""

import itertools
import math
import pathlib
import random
import tempfile

import numpy as np
from absl import flags

from experiments.evaluate import plan as evaluate_plan
from punt_jax import jsonl, metrics
from punt_jax.cli import command, records

SHOTS_SEED = 1234  # lm-eval's: the same examples stand before each question


def run(config, workdir, model=None, data=None, may_run_code=False):
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
    rows = records.resume(workdir, config, records.FREE)
    known = harness.answers(workdir / 'answers.jsonl')
    done = {(row['task'], row['sampler'], row['label']) for row in rows}
    for name, places in itertools.groupby(plan, lambda place: place.name):
      for place in places:
        if place.identity() in done:
          continue
        model = harness.Harness(place.engine, known)
        rows.append(measure(config, place, model))
        jsonl.append(workdir / 'results.jsonl', rows[-1])
        print(progress(rows[-1]), flush=True)
      mine = [row for row in rows if row['task'] == name]
      draw(workdir / f'{name}.png', mine)
  print(f'in {workdir}: results.jsonl, answers.jsonl, <task>.png')
  return rows


def measure(config, place, model):
  """The row of results.jsonl about one Place."""
  from lm_eval.evaluator import evaluate

  shots = config.tasks[place.name].get('shots', 0)
  place.task.set_config('num_fewshot', shots)
  place.task.set_fewshot_seed(SHOTS_SEED)
  random.seed(0)  # as lm-eval does; IFEval's checkers draw from it
  said = evaluate(
    model, {'tasks': {place.name: place.task}}, limit=config.limit or None,
    bootstrap_iters=2, log_samples=False, apply_chat_template=config.chat,
    fewshot_as_multiturn=config.chat, confirm_run_unsafe_code=True,
  )
  scores = {
    key: number(value) for key, value in said['results'][place.name].items()
    if ',' in key
  }
  headline = place.task.config.metadata.get('headline', next(iter(scores)))
  metric, kind = headline.split(',')
  nfe = metrics.spread(
    np.array([row.get('nfe', config.draws) for row in model.used])
  )
  mean = lambda key: float(np.mean([row.get(key, 0) for row in model.used]))
  return {
    'task': place.name, 'sampler': place.sampler, 'label': place.label,
    'settings': place.settings, 'metric': f'{metric} {kind}'.split(' none')[0],
    'accuracy': scores[headline],
    'accuracy_error': scores.get(f'{metric}_stderr,{kind}'), 'scores': scores,
    'items': said['n-samples'][place.name]['effective'],
    'shots': shots, 'chat': config.chat,
    'nfe': nfe.mean, 'nfe_error': number(nfe.stderr), 'nfe_low': nfe.low,
    'nfe_median': nfe.median, 'nfe_high': nfe.high, 'tokens': mean('tokens'),
    'seconds': mean('seconds'),  # per answer, compilation aside
    'model': config.model, **place.law(),
    **records.origin(config.seed),
  }


def number(value):
  """A finite float, or None."""
  good = isinstance(value, (int, float)) and math.isfinite(value)
  return float(value) if good else None


def progress(row):
  """A line about a row that is finished."""
  error = row['accuracy_error']
  said = f' +- {error:.3f}' if error is not None else ''
  return (
    f'{row["task"]:20}{row["sampler"]:15}{row["label"]:32}{row["nfe"]:7.1f}'
    f' passes, {row["metric"]} {row["accuracy"]:.3f}{said}'
  )


def draw(path, rows):
  """The picture of a task, if it has several samplers, and matplotlib."""
  if all(row['sampler'] in ('random', 'likelihood') for row in rows):
    return
  try:
    from experiments.evaluate import plot
  except ModuleNotFoundError:
    print("no picture: pip install 'punt-jax[plots]'")
    return
  plot.write(path, rows)


if __name__ == '__main__':
  flags.DEFINE_bool(
    'allow_code_execution', False, 'Run programs that the model writes.'
  )
  command.run_config(
    lambda *args, **values: run(
      *args, may_run_code=flags.FLAGS.allow_code_execution, **values
    ),
    model='Folder, file or name of the model, instead of config.model.',
    data='Folder of the questions, instead of config.data.',
  )
