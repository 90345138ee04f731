"""The README's Python runs as it stands, and its paths exist."""

import pathlib
import re

import numpy as np

from punt_jax import samplers

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_python_blocks_run():
  first, second, third = re.findall(r'```python\n(.*?)```', TEXT, re.S)
  assert len([x for x in first.splitlines() if x]) <= 18
  names = {}
  exec(first, names)
  out = names['out']
  assert out.done.all() and (np.asarray(out.tokens) < names['V']).all()
  assert out.meter.nfe.max() < names['L']  # PUNT pays less than one by one
  exec(second, names)
  exec(third, names)
  assert names['influences'].shape == (names['L'], names['L'])
  assert names['influences'][0, 1] > names['influences'][0, 8]


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
