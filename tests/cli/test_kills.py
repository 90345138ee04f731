"""Long jobs that are killed: no row is lost, doubled or changed."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a row says of time alone.
TIMES = ('seconds', 'took', 'origin', 'seconds_since_start_or_resume')
FRONTIER = """
from configs import frontier

def get_config():
  config = frontier.get_config()
  config.worlds, config.lengths = ('chain',), (8,)
  config.rows, config.temperatures = 4, {}
  config.samplers = dict(uniform=dict(k=(1, 2, 3, 4, 5, 6, 7, 8)))
  return config
"""
SWEEP = """
import sys, time, ml_collections
from punt_jax.cli.sweep import Point, sweep

def measure(point):
  time.sleep(0.05)
  return {'nfe': float(point.settings['k'])}

def go(workdir):
  points = [Point('toy', 8, 'uniform', {'k': k}) for k in range(24)]
  config = ml_collections.ConfigDict({'seed': 0})
  return sweep('toy', workdir, config, points, measure)

if __name__ == '__main__':
  go(sys.argv[1])
"""
EVALUATE = """
from configs import evaluate

def get_config():
  config = evaluate.get_config('llada/gsm8k')
  config.update(dict(batch=1, bucket=512, data=DATA, chat=False))
  config.tasks.gsm8k.update(dict(max_new_tokens=8, block_length=4, shots=0))
  config.samplers = dict(top_k=dict(k=(2, 4)))
  return config
"""


def generate(folder):
  """(module and flags, file whose lines are counted, how many they get)."""
  file = folder / 'prompts.jsonl'
  file.write_text('{"prompt": "To be"}\n{"prompt": "ROMEO:"}\n' * 8)
  return [
    'punt_jax.cli.generate', f'--input={file}', '--samples=2', '--batch=1',
    '--max_new_tokens=6', '--bucket=16', '--temperature=1', '--sampler=uniform',
  ], 'results.jsonl', 32


def frontier(folder):
  (folder / 'small.py').write_text(FRONTIER)
  words = ['experiments.frontier', f'--config={folder / "small.py"}']
  return words, 'results.jsonl', 8


def orders(folder):
  del folder
  return [
    'train.orders', '--config=configs/orders.py:variational', '--steps=16',
    '--batch=2', '--samples=2', '--tests=4', '--budgets=(4,)', '--warmup=2',
    '--log_every=1', '--eval_every=0', '--save_every=2',
  ], 'metrics.jsonl', 16


def evaluate(folder):
  pytest.importorskip('lm_eval')
  pytest.importorskip('punkt')
  from punt_jax.cli import random_checkpoint

  random_checkpoint.write(folder / 'model', 'llada', 'tiny', dtype='float32')
  (folder / 'data' / 'gsm8k').mkdir(parents=True)
  rows = ''.join(
    json.dumps({'question': f'{n} + {n}?', 'answer': f'#### {2 * n}'}) + '\n'
    for n in range(6)
  )
  for name in ('test', 'train'):
    (folder / 'data' / 'gsm8k' / f'{name}.jsonl').write_text(rows)
  data = repr(str(folder / 'data'))
  (folder / 'small.py').write_text(EVALUATE.replace('DATA', data))
  return [
    'punt_jax.cli.evaluate', f'--config={folder / "small.py"}',
    f'--model={folder / "model"}',
  ], 'answers.jsonl', 18


def count(file):
  """The lines of a file that may not be there."""
  return file.read_bytes().count(b'\n') if file.exists() else 0


def rows(file):
  """The rows of a file without what they say of time."""
  found = [json.loads(line) for line in file.read_text().splitlines()]
  return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


@pytest.mark.slow
@pytest.mark.parametrize('job', [
  generate, frontier, orders,
  pytest.param(evaluate, marks=pytest.mark.torch),
])
def test_kills(job, tmp_path):
  words, name, most = job(tmp_path)
  env = {
    **os.environ, 'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  done = subprocess.run(
    [
      sys.executable, '-m', 'tests.helpers.kills', tmp_path, name, str(most),
      *words,
    ], cwd=ROOT, env=env, capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  (times,) = re.findall(r'^killed (\d+) times$', done.stdout, re.MULTILINE)
  assert int(times) > 4
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  for file in {name, 'results.jsonl'}:
    assert rows(broken / file) == rows(whole / file), file
  left = {x.name for x in broken.iterdir()} - {x.name for x in whole.iterdir()}
  assert {x for x in left if not x.startswith('events.')} == set()


def test_a_kill(tmp_path):
  names = {'__name__': 'job'}
  exec(SWEEP, names)
  whole = names['go'](tmp_path / 'whole')
  file = tmp_path / 'broken' / 'results.jsonl'
  with subprocess.Popen(
    [sys.executable, '-c', SWEEP, str(tmp_path / 'broken')], cwd=ROOT
  ) as process:
    while process.poll() is None and count(file) < 5:
      time.sleep(0.005)
    process.kill()
  there = count(file)
  assert 5 <= there < len(whole)
  names['go'](tmp_path / 'broken')
  assert count(file) == len(whole)
  assert rows(file) == rows(tmp_path / 'whole' / 'results.jsonl')
