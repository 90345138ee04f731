"""Accuracy against forward passes on GSM8K, IFEval, HumanEval and MBPP.

  python -m experiments.evaluate --config=configs/evaluate.py --model=DIR \\
    --data=DIR --workdir=runs/evaluate --allow_code_execution

Canvas, blocks, temperature and end tokens are the authors' of the model (the
presets of configs/llada.py and configs/dream.py). top_k with k = 1 is their
rule; what else stands under `samplers` takes its place. ':llada' (the default,
LLaDA 1.5 and Instruct), ':llada_base', ':dream', ':dream_base'.

Examples before a question: GSM8K 4 for LLaDA, 8 for Dream Base and none for
Dream Instruct; MBPP 3; none elsewhere.

A part of it: --config.limit=100 (the first questions of each task),
--config.sampler.name=punt (one sampler), and, with fewer tasks,
--config=configs/evaluate.py:llada/gsm8k,ifeval.

Expected time: answers times forward passes times the time of one. On GSM8K
(1,319 questions of 256 tokens) top_k alone asks for 633,000 rows' passes, so
begin with a limit. With random weights of 0.1 M parameters, two questions of
each task, 16 tokens and three settings: 2.2 minutes of CPU time, nearly all of
it compilation. No published weights have been run with this file.
"""

from punt_jax.cli.evaluate import defaults


def get_config(name='llada'):
  """Plain values, those of punt_jax/cli/evaluate/defaults.py.

  Args:
    name: one of its PRESETS, and behind a slash some of its tasks, by commas.
  """
  return defaults.get_config(name)
