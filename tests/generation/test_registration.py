"""How lm-eval's command comes to know the model punt_jax; without lm-eval."""

import importlib
import pathlib
import re
import sys
from types import SimpleNamespace

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PTH = ROOT / 'punt_jax' / 'assets' / 'punt_jax_lm_eval.pth'


@pytest.fixture
def known(monkeypatch):
  """{name: target} of a registry that only pretends to be lm-eval's."""
  names = {}
  registry = SimpleNamespace(
    register=lambda name, target: names.update({name: target})
  )
  for name, module in {
    'lm_eval': SimpleNamespace(), 'lm_eval.models': SimpleNamespace(),
    'lm_eval.api': SimpleNamespace(),
    'lm_eval.api.registry': SimpleNamespace(model_registry=registry),
  }.items():
    monkeypatch.setitem(sys.modules, name, module)
  return names


def start(monkeypatch, *argv):
  """What site.py does with the file when Python starts."""
  monkeypatch.setattr(sys, 'orig_argv', ['python', *argv])
  for line in PTH.read_text().splitlines():
    if line.startswith('import '):
      exec(line)


@pytest.mark.parametrize('argv', [
  ['/bin/lm_eval', '--model', 'punt_jax'],
  ['/bin/lm-eval', 'run', '--model=punt_jax'],
  ['-m', 'lm_eval', '-M', 'punt_jax'],
  ['C:\\lm_eval.exe', '--model', 'punt_jax'],
])
def test_the_command_of_lm_eval_knows_the_name(argv, known, monkeypatch):
  start(monkeypatch, *argv)
  assert known == {'punt_jax': 'punt_jax.generation.lm_eval:PuntJax'}
  # The same as the entry point says, which later releases read.
  assert f"'punt_jax = {known['punt_jax']}'" in (ROOT / 'setup.py').read_text()
  module, _, name = known['punt_jax'].partition(':')
  file = ROOT / pathlib.Path(*module.split('.')).with_suffix('.py')
  assert re.search(
    rf"^@register_model\('punt_jax'\)\nclass {name}\(", file.read_text(), re.M
  )


@pytest.mark.parametrize('argv', [
  [], ['-c', 'pass'], ['-m', 'punt_jax.cli.demo'], ['/bin/lm_eval', '--help'],
  ['/bin/lm_eval', '--model', 'hf'], ['/bin/pytest', 'x/test_lm_eval.py', '-k',
  'punt_jax'],
])
def test_other_processes_go_on(argv, known, monkeypatch):
  del known
  for name in [name for name in sys.modules if name.startswith('lm_eval')]:
    monkeypatch.setitem(sys.modules, name, None)  # an import would fail
  start(monkeypatch, *argv)


def test_without_the_extra_a_sentence_names_it(monkeypatch):
  from punt_jax.cli import lm_eval

  monkeypatch.setitem(sys.modules, 'lm_eval', None)
  monkeypatch.setattr(sys, 'argv', ['lm-eval', 'ls'])
  with pytest.raises(SystemExit, match=r"pip install 'punt-jax\[eval\]'"):
    lm_eval.main()


@pytest.mark.parametrize('error, code', [
  (ValueError('no such task'), 'lm-eval: no such task'),
  (KeyboardInterrupt(), 130),
])
def test_the_command_ends_in_a_line(error, code, monkeypatch, capsys):
  def fail():
    raise error

  module = SimpleNamespace(cli_evaluate=fail)
  monkeypatch.setitem(sys.modules, 'lm_eval', SimpleNamespace())
  monkeypatch.setitem(sys.modules, 'lm_eval.__main__', module)
  generation = importlib.import_module('punt_jax.generation')
  fake = SimpleNamespace()
  monkeypatch.setattr(generation, 'lm_eval', fake, raising=False)
  monkeypatch.setitem(sys.modules, 'punt_jax.generation.lm_eval', fake)
  from punt_jax.cli import lm_eval

  monkeypatch.setattr(sys, 'argv', ['lm-eval', 'ls'])
  with pytest.raises(SystemExit) as caught:
    lm_eval.main()
  assert caught.value.code == code
