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

from punt_jax.checks import known
from punt_jax.cli import configs
from punt_jax.generation.presets import DREAM, LLADA

PRESETS = {
  'llada': {
    'gsm8k': dict(shots=4, **LLADA['1.5_gsm8k']),
    'ifeval': LLADA['1.5_ifeval'],
    'humaneval_instruct': LLADA['1.5_humaneval'],
    'mbpp_instruct': dict(shots=3, **LLADA['1.5_mbpp']),
  },
  'llada_base': {
    'gsm8k': dict(shots=4, **LLADA['base']),
    'humaneval': LLADA['base'],
    'mbpp': dict(shots=3, **LLADA['base']),
  },
  'dream': {
    'gsm8k_cot': DREAM['instruct_gsm8k'],
    'ifeval': DREAM['instruct_ifeval'],
    'humaneval_instruct': DREAM['instruct_humaneval'],
    'mbpp_instruct': dict(shots=3, **DREAM['instruct_mbpp']),
  },
  'dream_base': {
    'gsm8k': dict(shots=8, **DREAM['base_gsm8k']),
    'humaneval': DREAM['base_humaneval'],
    'mbpp': dict(shots=3, **DREAM['base_mbpp']),
  },
}


def get_config(name='llada'):
  """Plain values; experiments.evaluate and the generator read every one.

  Args:
    name: one of PRESETS, and behind a slash some of its tasks, by commas.
  """
  name, _, tasks = name.partition('/')
  preset = PRESETS[known('preset', name, PRESETS)]
  base = name.endswith('_base')
  config = configs.defaults()
  config.data = ''  # folder of the questions
  config.limit = 0  # questions of each task; 0: all
  config.more = ''  # folder of more task files of lm-eval
  config.draws = 128  # masks per answer, for tasks that ask for likelihoods
  config.chat = not base
  if name == 'dream_base':
    config.prefix = '<|beginoftext|>'  # the tokenizer's BOS
  # What a task says stands in for the same value above; `shots` are examples.
  config.tasks = {
    task: preset[known('task', task, preset)]
    for task in (tasks.split(',') if tasks else preset)
  }
  # One value or several of each setting; every combination is run.
  order = 'draft' if name.startswith('llada') else 'entropy'
  config.samplers = dict(
    top_k=dict(k=(1, 2, 4, 8), score=order),
    entropy_bound=dict(gamma=(0.05, 0.2, 1.0), score=order),
    punt=dict(epsilon=(0.01, 0.04, 0.16), score=order),
  )
  config.sampler.name = None  # or one of them
  return config
