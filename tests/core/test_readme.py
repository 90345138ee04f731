"""The README's paths exist, and its lines for a shell run as they stand.

A line runs in a folder that holds what it names (DIR is a tiny checkpoint with
random weights), with a few values after it that make the job small.
"""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from punt_jax import samplers
from punt_jax.cli import random_checkpoint
from tests.checkpoints import test_torch_files as torch_files
from tests.helpers.processes import environment

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'```sh\n(.*?)```', TEXT, re.S)
LINES = re.sub(r'\\\n\s*', '', ''.join(BLOCKS)).splitlines()
# Lines with this in them do not run here, and why.
LEFT = {
  'python3 bootstrap.py': 'downloads; .ci/run and test_bootstrap.py',
  'lm_eval --model': 'needs lm-eval; generation/test_lm_eval.py',
  'punt-jax evaluate ': 'needs lm-eval; cli/test_evaluate.py',
}
FEW = '--config.steps=4 --config.log_every=1 --config.save_every=2'.split()
NET = '--config.model.layers=1 --config.model.width=16'.split()
TRAIN = [
  *FEW, *NET, '--config.batch=2', '--config.eval_rows=2', '--config.warmup=2'
]
# What makes a job small that has this in its line.
SMALL = {
  'punt-jax demo': [
    '--rows=1', '--length=16', '--prompt=', '--draws=1',
    '--sampler=top_k(k=4)',
  ],
  'generate --model=shakespeare': ['--max_new_tokens=16'],
  'generate --model=DIR': ['--max_new_tokens=64'],
  'punt_jax.cli.demo': [
    '--config.rows=1', '--config.length=16', '--config.prompt=',
    '--config.draws=1',
  ],
  'runs/frontier': [
    "--config.worlds=('chain',)", '--config.lengths=(8,)', '--config.rows=4',
    '--samplers=uniform(k=4)',
  ],
  'runs/mine': [
    '--config.lengths=(8,)', '--config.text_rows=2', '--config.draws=1'
  ],
  'train.main --config=configs/pydoc.py': TRAIN,
  'train.main --config=configs/shakespeare.py': [
    *TRAIN, '--config.data.length=32', '--config.data.heldout=0.2'
  ],
  'train.main --config=configs/sudoku.py': [
    *TRAIN, '--config.data.heldout=4'
  ],
  'train.orders': [
    *FEW, '--config.warmup=2', '--config.batch=2', '--config.eval_every=2',
    '--config.tests=2', '--config.samples=2', '--config.budgets=(2,)',
  ],
  'experiments.learned_orders': [
    '--config.rows=2', '--config.batch=2', '--config.seeds=(0,)',
    "--config.contenders=('independent',)",
    '--config.grids.independent.steps=(4,)',
  ],
}


def test_every_sampler_is_in_the_table():
  listed = re.findall(r'^\| `(\w+)\(', TEXT, re.M)
  assert sorted(listed) == sorted(samplers.NAMES)


def test_paths_exist():
  links = re.findall(r'\]\((?!http)([^)#]+)', TEXT)
  configs = re.findall(r'--config=(\S+)', TEXT)
  modules = re.findall(r'python -m (\S+)', TEXT)
  files = links + [c.split(':')[0] for c in configs]
  files += [m.replace('.', '/') for m in modules]
  assert files
  for file in files:
    there = file, f'{file}.py', f'{file}/__main__.py'
    assert any((ROOT / name).is_file() for name in there), file


def value_for(line, table):
  """The value of the one key of a table that is in a line, or None."""
  found = [value for key, value in table.items() if key in line]
  assert len(found) < 2
  return found[0] if found else None


def test_every_small_value_belongs_to_a_line():
  assert len(LINES) > 15
  for key in {**LEFT, **SMALL}:
    assert any(key in line for line in LINES), key


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """What the lines name."""
  root = tmp_path_factory.mktemp('readme')
  random_checkpoint.write(root / 'DIR', 'llada', 'tiny')
  (root / 'prompts.jsonl').write_text('{"prompt": "2 + 2 ="}\n')
  (root / 'input.txt').write_text('All the world is a stage.\n' * 99)
  weight = torch_files.program(torch_files.dict_of(weight=torch_files.tensor()))
  torch_files.zipped(root / 'pytorch_model.bin', weight, bytes(24))
  return root


@pytest.mark.slow
@pytest.mark.parametrize(
  'line', [x for x in LINES if value_for(x, LEFT) is None], ids=str
)
def test_lines_run(line, folder):
  words = shlex.split(line, comments=True) + (value_for(line, SMALL) or [])
  own = r'\b(DIR|TRY|NEW|runs/|\w+\.(?:txt|jsonl|bin|safetensors)$)'
  words = [re.sub(own, rf'{folder}/\1', word) for word in words]
  start = {'punt-jax': ['-m', 'punt_jax.cli'], 'python': []}[words[0]]
  told = subprocess.run(
    [sys.executable, *start, *words[1:]], cwd=ROOT, text=True,
    capture_output=True, input='To be\n', env=environment(),
  )
  assert told.returncode == 0, told.stderr
  assert told.stdout, told.stderr
