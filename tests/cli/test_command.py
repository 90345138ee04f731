"""punt-jax: commands, flags, --help, Ctrl-C, and where configs come from."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import ml_collections
import pytest
from absl import flags

from configs import frontier
from punt_jax import extras
from punt_jax.cli import __main__ as top
from punt_jax.cli import (
  command,
  configs,
  demo,
  ending,
  evaluate,
  families,
  job,
  manual,
)
from punt_jax.cli import random_checkpoint as made

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def typed(monkeypatch):
  """A function: words of a command line -> what `main` leaves in the end."""

  def type_(main, *words):
    monkeypatch.setattr(sys, 'argv', list(words))
    monkeypatch.setattr(ending, 'watch', lambda *_: None)
    old = flags.FLAGS
    before = {name: old[name] for name in old}
    try:
      main()
    except SystemExit as error:
      return error.code
    finally:
      for name in set(old) - set(before):
        delattr(old, name)
      old.unparse_flags()
    return None

  return type_


@pytest.fixture
def got(typed):
  """A function: flags of a job with a small config -> (what it got, code)."""

  def default(_):
    config = ml_collections.ConfigDict(dict(rows=3, name='a', stop=True))
    config.group = dict(k=1.0)
    config.sampler = configs.placeholders()
    config.samplers = dict(halton=dict(steps=(9, 12)))  # a sweep's
    return config

  def type_(*words):
    seen = []
    main = lambda: command.run_config(
      lambda config, workdir, **more: seen.append((config, workdir, more)),
      needs=(), default=default, model='A model.',
    )
    code = typed(main, 'job', *words)
    return seen, code

  return type_


def test_the_list_of_commands(typed, capsys):
  for words in ((), ('--help',), ('-h',)):
    assert typed(top.main, 'punt-jax', *words) is None
    said = capsys.readouterr().out
    for name, (_, words_of) in top.COMMANDS.items():
      assert re.search(rf'^  {name} +{re.escape(words_of)}$', said, re.M)
  said = typed(top.main, 'punt-jax', 'generat')
  assert said.startswith("punt-jax: unknown command 'generat': use one of gen")
  assert set(top.COMMANDS) <= set(re.findall(r'[\w-]+', said))
  typed(top.main, 'punt-jax', '--version')
  assert re.match(r'punt-jax \d+\.\d+', capsys.readouterr().out)


@pytest.mark.parametrize('name', sorted(top.COMMANDS))
def test_help_has_every_flag_and_value_in_a_line(name, typed, capsys):
  assert typed(top.main, 'punt-jax', name, '--help') is None
  said = capsys.readouterr().out
  assert said.startswith(f'punt-jax {name} [--NAME=VALUE ...]')
  assert max(map(len, said.splitlines())) <= 80
  config = {
    'demo': job.defaults, 'generate': configs.defaults,
    'evaluate': evaluate.defaults.get_config,
  }.get(name, dict)()
  for key in config:
    if not isinstance(config[key], ml_collections.ConfigDict):
      (line,) = re.findall(rf'^  --{key}=.*(?:\n {{20,}}.*)?', said, re.M)
      assert re.search(r'=\S+\s+\S+|".*"\s+\S+', line), f'no words for {key}'


def test_help_of_an_experiment_reads_its_config_file(typed, capsys):
  def run(config, workdir):
    raise AssertionError('not to be run')

  run.__module__ = 'experiments.frontier.__main__'
  import experiments.frontier.__main__  # noqa: F401

  typed(lambda: command.run_config(run), 'frontier', '--help')
  said = capsys.readouterr().out
  assert re.search(r'--rows=256 +samples per point$', said, re.M)
  for key in frontier.get_config():
    assert re.search(rf'^  (--)?{key}\b', said, re.M), key


def test_words_of_values():
  source = """
config.a = 1  # of a
config.b.c = dict(  # of b
  x=1,
)
# Above d,
# two lines
config.d = 2
config.e = 3  # of e, which
# goes on
# What f is.
config.f = 4
config.g = 5
class S:
  h: int = 6  # of h
"""
  assert manual.explained(source) == {
    'a': 'of a', 'b.c': 'of b', 'd': 'Above d, two lines',
    'e': 'of e, which goes on', 'f': 'What f is.', 'h': 'of h',
  }


def test_values_as_flags(got):
  (config, workdir, more), = got(
    '--rows=5', '--name', 'b', '--nostop', '--group.k=2', '--model=x',
    '--workdir=w',
  )[0]
  assert (config.rows, config.name, config.stop) == (5, 'b', False)
  assert (config.group.k, workdir, more) == (2.0, 'w', {'model': 'x'})
  (config, _, _), = got('--config.rows=6', '--config.group.k', '3')[0]
  assert (config.rows, config.group.k) == (6, 3.0)


def test_a_sampler_as_a_flag(got):
  (config, _, _), = got('--sampler=punt(epsilon=0.5, first=msb)')[0]
  assert config.sampler.name == 'punt' and config.sampler.first == 'msb'
  assert config.sampler.epsilon == 0.5
  (config, _, _), = got('--sampler=halton')[0]  # steps: those of the config
  assert config.sampler.name == 'halton'
  for text, said in (
    ('pnut', "job: unknown sampler 'pnut': use one of"),
    ('top_k(q=1)', "job: unknown hyperparameter of top_k: 'q'"),
    ('top_k(k=1', 'is not a sampler'),
  ):
    seen, code = got(f'--sampler={text}')
    assert said in code and not seen


@pytest.mark.parametrize('words, said', [
  (['--rowz=1'], r'job: unknown flag --rowz: use one of --rows, --'),
  (['--config.rowz=1'], r'job: unknown config value config.rowz: here is rows'),
  (['--group.j=1'], r'job: unknown config value config.group.j: here is k$'),
  (['--model.x=1'], r'job: unknown flag --model.x: use one of --model, '),
  (['--rows=x'], r'job: flag --rows=x: .*'),
  (['--config.rows=x'], r'job: flag --config.rows=x: .*'),
  (['5'], r"job: '5' is no flag: values are given as --NAME=VALUE"),
  (['--config=none.py'], r'job: there is no config file none.py'),
])
def test_what_is_not_understood(words, said, got):
  seen, code = got(*words)
  assert re.match(said, code) and '\n' not in code and not seen


@pytest.mark.parametrize('source, said', [
  ('def get_config(:\n', ', line 1: SyntaxError: '),
  ('x = 1\n1 / 0\n', ', line 2: ZeroDivisionError: division by zero'),
  ('def get_config():\n  return {}["a"]\n', ", line 2: KeyError: 'a'"),
  ('def get_config():\n  return int("x")\n', ', line 2: invalid literal for'),
  ('import sys\nsys.exit(3)\n', ', line 2: SystemExit: 3'),
  ('import nothing_of_that_name\n', ', line 1: ModuleNotFoundError: No mod'),
  ('x = 1\n', ' defines no function get_config'),
  ('def get_config(size):\n  return size\n', ': TypeError: get_config() miss'),
  ('def get_config():\n  return 3\n', ' returns 3, no ConfigDict'),
  ('\0', ': '),
])
def test_a_config_file_that_fails(source, said, got, tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(source)
  seen, code = got(f'--config={file}')
  assert not seen and code.startswith('job: ') and '\n' not in code
  assert f'{file}{said}' in code


def test_what_is_said_twice_or_not_at_all(got):
  text = '--sampler=punt(epsilon=0.5)'
  seen, code = got(text, '--sampler.epsilon=1')
  assert not seen and 'both say epsilon: give one of them' in code
  (config, _, _), = got(text, '--sampler.first=msb')[0]
  assert (config.sampler.epsilon, config.sampler.first) == (0.5, 'msb')
  seen, code = got(text, '--sampler.k=3')
  assert not seen and "unknown hyperparameter of punt: 'k'" in code
  seen, code = got('--workdir=')
  assert code == 'job: --workdir is empty: give the path of a folder'
  assert not seen


def test_what_is_too_long_is_cut(got):
  long = ('rows', '9' * 5000), ('a' * 5000, '1'), ('rows', 'x' * 5000)
  for name, value in long:
    seen, code = got(f'--{name}={value}')
    assert not seen and len(code) < 700 and '\n' not in code


def test_programs_are_called_as_they_are_started():
  called = lambda *parts: command._program([str(ROOT.joinpath(*parts))])
  assert called('train', 'main.py') == 'train.main'
  assert called('train', 'orders', '__main__.py') == 'train.orders'
  assert called('experiments', 'frontier', '__main__.py') == (
    'experiments.frontier'
  )
  assert command._program(['punt-jax demo']) == 'punt-jax demo'


def test_what_must_be_given(typed):
  run = lambda config, workdir: None
  run.__module__ = 'train.main'
  import train.main  # noqa: F401

  config = f'--config={ROOT}/configs/table_world.py'
  main = lambda: command.run_config(run)
  assert typed(main, 'main') == (
    'main: give --config=FILE, such as configs/pydoc.py'
  )
  assert typed(main, 'main', config) == (
    'main: give --workdir=...: Folder of this run.'
  )
  assert typed(main, 'main', config, '--workdir=a') is None
  said = typed(main, 'main', f'{config}:tiny', '--workdir=a')
  assert said.endswith('has one config alone: leave out :tiny')
  assert typed(top.main, 'punt-jax', 'convert') == (
    'punt-jax convert: give --source=...: File, pattern or index to read.'
  )


def test_whose_settings(tmp_path):
  ask = lambda **words: families.default(lambda name: words.get(name))
  config = ask()
  assert config.model == 'shakespeare' and not config.chat and config.fit
  assert not ask(max_new_tokens='7').fit
  folder = tmp_path / 'llada'
  made.write(folder, 'llada', 'tiny')
  config = ask(model=str(folder))
  assert config.chat and config.eos_last and config.block_length == 64
  assert 'llada, as a chat' in families.said(config, '')
  assert families.said(config, None) == families.said(config, 'llada') == ''
  (folder / 'tokenizer_config.json').unlink()
  assert not ask(model=str(folder)).chat
  config = ask(preset='dream:instruct_gsm8k')
  assert config.judged and config.sampler.name == 'top_k'
  with pytest.raises(ValueError, match="unknown family 'x': use one of llada"):
    ask(preset='x')
  with pytest.raises(ValueError, match='unknown preset'):
    ask(preset='mdlm:x')


def test_a_preset_beside_a_config(typed):
  said = typed(
    top.main, 'punt-jax', 'generate', f'--config={ROOT}/configs/llada.py',
    '--preset=llada', '--prompt=a',
  )
  assert said == 'punt-jax generate: give --config or --preset, not both'


def test_a_new_folder_for_each_demo(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('demo', 'demo_2', 'demo_3'):
    assert demo.new_folder() == pathlib.Path('runs', name)
    demo.new_folder().mkdir(parents=True)


def test_extras_that_are_named_exist():
  setup = (ROOT / 'setup.py').read_text()
  there = set(re.findall(r"^    '(\w+)': ", setup, re.M))
  files = [ROOT / 'README.md', *ROOT.glob('docs/**/*.md')]
  for folder in ('punt_jax', 'train', 'experiments', 'configs'):
    files += (ROOT / folder).rglob('*.py')
  named = set(extras.EXTRAS.values())
  for file in files:
    for said in re.findall(r'punt-jax\[([^\]{]+)\]', file.read_text('utf-8')):
      named |= set(said.split(','))
  assert {'hf', 'plots', 'eval'} <= named <= there


def test_a_package_that_is_not_there(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ValueError) as error:
    extras.load('matplotlib', 'order.png')
  assert str(error.value) == (
    "order.png needs matplotlib: pip install 'punt-jax[plots]'"
  )


def test_ctrl_c_ends_even_a_busy_process_in_a_line(tmp_path):
  """It interrupts code that never gives Python a chance, as a compiler does."""
  code = """
import ctypes, sys
from punt_jax.cli import command
def job(config, workdir):
  print('busy', flush=True)
  ctypes.CDLL(None).sleep(60)
  ctypes.CDLL(None).sleep(60)
command.run_config(job)
"""
  process = subprocess.Popen(
    [sys.executable, '-c', code, '--config=configs/table_world.py',
     f'--workdir={tmp_path}'], cwd=ROOT, stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, text=True, env={**os.environ},
  )
  assert process.stdout.readline() == 'busy\n'
  process.send_signal(signal.SIGINT)
  start = time.monotonic()
  _, said = process.communicate(timeout=30)
  assert time.monotonic() - start < 10
  assert process.returncode == 130
  assert said == '-c: interrupted; run the same command again to go on\n'
