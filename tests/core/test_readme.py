"""The README's Python runs as it stands, and its paths exist."""

import pathlib
import re

from punt_jax import samplers

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / 'README.md').read_text(encoding='utf-8')


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
