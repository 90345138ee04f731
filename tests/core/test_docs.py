"""Every fenced block of Python in the documents runs, each in a fresh process.

A block stands for a file that somebody copies: it imports what it uses. The
checkpoint directories that blocks name are random ones of that architecture.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from punt_jax.cli import random_checkpoint

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = {'LLaDA-8B-Instruct': 'llada', 'DIR': 'llada'}
OFTEN = ('README.md:0', 'README.md:1')  # the others are slow
DOCUMENTS = sorted(
  [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('*/README.md')]
)


def blocks():
  """(document, the block, its place) of all fenced blocks of Python."""
  for file in DOCUMENTS:
    text = file.read_text(encoding='utf-8')
    for n, found in enumerate(re.finditer(r'```python\n(.*?)```', text, re.S)):
      name = f'{file.relative_to(ROOT)}:{n}'
      often = [] if name in OFTEN else [pytest.mark.slow]
      yield pytest.param(found[1], id=name, marks=often)


@pytest.mark.parametrize('block', list(blocks()))
def test_blocks_run(block, tmp_path):
  for name, kind in FOLDERS.items():
    if name in block:
      random_checkpoint.write(tmp_path / name, kind, 'tiny')
  told = subprocess.run(
    [sys.executable, '-c', block], cwd=tmp_path, capture_output=True,
    text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  assert told.returncode == 0, told.stderr
