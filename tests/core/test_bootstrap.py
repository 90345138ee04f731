"""bootstrap.py with interpreters that only pretend to install."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap

# Answers the probe, notes whatever else it is asked to run, fails if told to;
# a copy of itself is the interpreter of the environments that it makes.
FAKE = """#!/bin/sh
case "$2" in
  *ensurepip*) echo {version}; exit {status} ;;
  venv) /bin/mkdir "$3/bin"; /bin/cp "$0" "$3/bin/python" ;;
esac
echo "$@" >> {folder}/ran
[ ! -e "{folder}/$2 fails" ] || {{ echo "$2 says why"; exit 5; }}
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
  """A function that writes an interpreter; one, 3.12, is the running one."""

  def write(name, version, status=0):
    path = tmp_path / name
    text = FAKE.format(version=version, status=status, folder=tmp_path)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)

  this = write('this', '3.12')
  monkeypatch.setattr(sys, '_base_executable', this, raising=False)
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.setenv('PUNT_VENV', str(tmp_path / 'deep' / 'venv'))
  return write


@pytest.fixture
def ran(fake, tmp_path):
  """What main(words) runs, as lines without the leading -m."""

  def lines(*words, code=0):
    log = tmp_path / 'ran'
    log.write_text('')
    assert bootstrap.main(list(words)) == code
    return [line[3:] for line in log.read_text().splitlines()]

  return lines


def heads(lines):
  return [line.split()[0] for line in lines]


def test_the_first_run_installs_and_later_ones_start_at_once(
  ran, tmp_path, monkeypatch
):
  _, pip, demo = ran('demo', '--config.seed=1')
  assert pip.startswith('pip install ')
  assert pip.endswith(f' --editable {bootstrap.ROOT}[plots]')
  assert demo.startswith('punt_jax.cli.demo --config=configs/demo.py ')
  assert demo.endswith(' --config.seed=1')
  assert heads(ran('demo')) == ['punt_jax.cli.demo']
  # More is wanted, or less.
  pip, lint, types = ran('lint', 'docs')
  assert pip.endswith('[test]')
  assert lint == 'ruff check . docs'
  python = tmp_path / 'deep' / 'venv' / 'bin' / 'python'
  assert types == f'basedpyright --pythonpath {python}'
  assert heads(ran('test')) == ['ruff', 'basedpyright', 'pytest']
  assert heads(ran('demo')) == ['punt_jax.cli.demo']
  pip, tests = ran('parity', '-x')
  assert pip.endswith('[parity]')
  assert tests.endswith(' -m torch --slow -x')
  # The requirements changed.
  hashed = bootstrap.hashlib.sha256
  monkeypatch.setattr(bootstrap.hashlib, 'sha256', lambda x: hashed(x + b'#'))
  assert heads(ran('lint')) == ['pip', 'ruff', 'basedpyright']
  assert heads(ran('lint')) == ['ruff', 'basedpyright']


def test_what_was_made_for_something_else_is_made_anew(
  fake, ran, tmp_path, monkeypatch
):
  anew = ['venv', 'pip', 'ruff', 'basedpyright']
  assert heads(ran('lint')) == anew
  fake('this', '3.11')
  assert heads(ran('lint')) == anew
  (tmp_path / 'deep/venv/bin/python').unlink()
  assert heads(ran('lint')) == anew
  for text in (b'', b'{"python": [3', b'\xff'):
    (tmp_path / 'deep/venv/bootstrap.stamp').write_bytes(text)
    assert heads(ran('lint')) == anew
  # Another clone, whose own .venv is the default.
  (tmp_path / 'setup.py').write_text('')
  monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
  assert heads(ran('lint')) == anew
  monkeypatch.delenv('PUNT_VENV')
  assert heads(ran('lint')) == anew
  assert (tmp_path / '.venv/bin/python').exists()


def test_an_interrupted_run_starts_over(ran, tmp_path, monkeypatch, capfd):
  def interrupt(command, **_):
    raise KeyboardInterrupt

  half = tmp_path / 'deep/venv/half'
  for word, begun in ('lint', ['venv']), ('parity', []):
    with monkeypatch.context() as patch:
      patch.setattr(subprocess, 'call', interrupt)
      assert heads(ran(word, code=130)) == begun
    assert capfd.readouterr().err == '\nbootstrap.py: interrupted.\n'
    half.write_text('')
    assert heads(ran('lint')) == ['venv', 'pip', 'ruff', 'basedpyright']
    assert not half.exists()


@pytest.mark.parametrize('step', ['venv', 'pip'])
def test_a_failed_installation_says_why_and_starts_over(
  step, ran, tmp_path, capfd
):
  mark = tmp_path / f'{step} fails'
  mark.write_text('')
  assert heads(ran('lint', code=1))[-1] == step
  out, err = capfd.readouterr()
  assert out.startswith('Setting up ') and f'{step} says why' in out + err
  assert err.startswith('bootstrap.py: ') and 'a full disk?' in err
  mark.unlink()
  assert heads(ran('lint')) == ['venv', 'pip', 'ruff', 'basedpyright']


def test_the_first_failing_command_decides(ran, tmp_path):
  (tmp_path / 'ruff fails').write_text('')
  assert heads(ran('test', code=5)) == ['venv', 'pip', 'ruff']


def test_a_folder_of_somebody_else_is_left_alone(ran, tmp_path, capfd):
  mine = tmp_path / 'deep/venv/mine'
  mine.parent.mkdir(parents=True)
  # An empty folder is used.
  assert heads(ran('lint')) == ['venv', 'pip', 'ruff', 'basedpyright']
  mine.write_text('precious')
  (mine.parent / 'bootstrap.stamp').unlink()
  assert ran('lint', code=1) == []
  assert 'did not make it: move it away' in capfd.readouterr().err
  assert mine.exists()


def test_the_first_fitting_interpreter_is_taken(fake):
  here = 'python{}.{}'.format(*sys.version_info)
  assert bootstrap.probe(sys.executable) == here
  assert Path(bootstrap.find_python()[0]).name == 'this'
  for minor in (11, 12, 13):
    fake(f'python3.{minor}', f'3.{minor}')
  assert Path(bootstrap.find_python()[0]).name == 'this'
  fake('this', '3.9')
  assert bootstrap.find_python() == ('python3.13', 'python3.13')
  fake('python3.13', '3.13', status=1)  # no venv module
  fake('python3.12', 'not found')
  assert bootstrap.find_python() == ('python3.11', 'python3.11')


@pytest.mark.parametrize('version, status', [('3.14', 0), ('3.12', 1)])
def test_no_interpreter_is_one_sentence(version, status, fake, ran, capfd):
  fake('this', version, status)
  assert ran('lint', code=1) == []
  out, err = capfd.readouterr()
  assert out == '' and err.count('\n') == 1
  assert err.startswith('bootstrap.py: punt_jax needs Python 3.11, 3.12 or')
  assert 'with its venv module' in err and 'python3.12-venv' in err


def test_errors_become_sentences(ran, tmp_path, capfd):
  (tmp_path / 'deep').write_text('')
  ran('demo', code=1)
  error = capfd.readouterr().err
  assert error.startswith('bootstrap.py: ') and error.count('\n') == 1
  ran('dmeo', code=2)
  ran(code=2)
  assert 'bootstrap.py demo' in capfd.readouterr().err


def test_it_needs_the_standard_library_alone_and_an_old_python_parses_it():
  code = (
    'import sys; before = set(sys.modules); import bootstrap; '
    'new = {name.split(".")[0] for name in set(sys.modules) - before}; '
    'print(new - set(sys.stdlib_module_names) - {"bootstrap"})'
  )
  command = [sys.executable, '-S', '-c', code]
  out = subprocess.check_output(command, cwd=bootstrap.ROOT, text=True)
  assert out.strip() == 'set()'
  ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 7))


def test_continuous_integration_has_slow_tests_and_comparisons():
  tests = Path(__file__).parents[1]
  said = ''.join(file.read_text('utf-8') for file in tests.rglob('test_*.py'))
  for marker in ('slow', 'torch'):  # a suite without them has lost them
    assert said.count(f'mark.{marker}') >= 5
