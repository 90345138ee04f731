"""bootstrap.py without its installs: choices, stamps and sentences."""

import os
import subprocess
import sys

import pytest

import bootstrap

HERE = sys.version_info[:2]


@pytest.fixture
def calls(monkeypatch):
  """Commands that would have run, instead of running them."""
  said = []
  monkeypatch.setattr(
    bootstrap, 'run_logged', lambda label, command, log: said.append(command)
  )
  monkeypatch.setattr(bootstrap, 'probe', lambda python: HERE)
  monkeypatch.setattr(bootstrap, 'makes_venvs', lambda python: True)
  return said


def fake_python(folder, name, says, has_venv=True):
  """An executable that answers as an interpreter of that version would."""
  path = folder / name
  status = 0 if has_venv else 1
  path.write_text(
    '#!/bin/sh\ncase "$2" in *ensurepip*) exit '
    f'{status};; *) echo {says};; esac\n'
  )
  path.chmod(0o755)
  return str(path)


def test_probe_reads_a_version_or_none(tmp_path):
  assert bootstrap.probe(sys.executable) == HERE
  assert bootstrap.probe(fake_python(tmp_path, 'a', '3 12')) == (3, 12)
  assert bootstrap.probe(fake_python(tmp_path, 'b', 'not found')) is None
  assert bootstrap.probe(tmp_path / 'missing') is None
  assert bootstrap.makes_venvs(sys.executable)


def test_the_first_fitting_interpreter_is_taken(tmp_path):
  old = fake_python(tmp_path, 'old', '3 9')
  bare = fake_python(tmp_path, 'bare', '3 11', has_venv=False)
  good = fake_python(tmp_path, 'good', '3 12')
  assert bootstrap.find_python([old, bare, good]) == (good, (3, 12))


def test_candidates_start_with_this_one_and_follow_path(tmp_path, monkeypatch):
  found = [fake_python(tmp_path, f'python3.{m}', f'3 {m}') for m in (13, 11)]
  monkeypatch.setenv('PATH', str(tmp_path))
  first, *rest = bootstrap.candidates()
  assert bootstrap.probe(first) == HERE
  assert rest == found


def test_no_interpreter_is_one_sentence(tmp_path):
  new = fake_python(tmp_path, 'new', '3 14')
  with pytest.raises(bootstrap.Stop, match='needs Python 3.11, 3.12 or 3.13'):
    bootstrap.find_python([new])


def test_no_ensurepip_names_the_debian_package(tmp_path):
  bare = fake_python(tmp_path, 'bare', '3 12', has_venv=False)
  with pytest.raises(bootstrap.Stop, match='apt install python3.12-venv'):
    bootstrap.find_python([bare])


def test_stamp_decides(tmp_path, monkeypatch):
  def need(version, extra):
    return bootstrap.judge(bootstrap.read_stamp(tmp_path), version, extra)

  bootstrap.write_stamp(tmp_path, (3, 11), 'plots')
  assert need((3, 11), 'plots') == 'ready'
  assert need((3, 11), 'test') == 'install'
  assert need((3, 12), 'plots') == 'rebuild'
  bootstrap.write_stamp(tmp_path, (3, 11), 'test')
  assert need((3, 11), 'plots') == 'ready'
  monkeypatch.setattr(bootstrap, 'setup_hash', lambda: 'another')
  assert need((3, 11), 'test') == 'install'
  monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
  assert need((3, 11), 'test') == 'rebuild'
  bootstrap.write_stamp(tmp_path, (3, 11), None)
  assert need((3, 11), 'plots') == 'rebuild'


def test_unreadable_stamps(tmp_path):
  assert bootstrap.read_stamp(tmp_path) is None
  for text in ('', '{"python": [3', '3'):
    (tmp_path / bootstrap.STAMP).write_text(text)
    assert bootstrap.read_stamp(tmp_path) == {}
  assert bootstrap.judge({}, (3, 11), 'plots') == 'rebuild'


def test_first_run_installs_and_the_second_starts_at_once(tmp_path, calls):
  venv = tmp_path / 'deep' / 'venv'
  inside = bootstrap.prepare(venv, 'plots')
  assert inside.is_relative_to(venv)
  assert [command[2] for command in calls] == ['venv', 'pip']
  assert calls[1][-1] == f'{bootstrap.ROOT}[plots]'
  assert bootstrap.prepare(venv, 'plots') == inside
  assert len(calls) == 2
  bootstrap.prepare(venv, 'test')
  assert [command[2] for command in calls] == ['venv', 'pip', 'pip']


def test_an_interrupted_install_starts_over(tmp_path, calls, monkeypatch):
  def broken(label, command, log):
    raise KeyboardInterrupt

  venv = tmp_path / 'venv'
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(bootstrap, 'run_logged', broken)
    bootstrap.prepare(venv, 'plots')
  (venv / 'half').write_text('')
  bootstrap.prepare(venv, 'plots')
  assert [command[2] for command in calls] == ['venv', 'pip']
  assert not (venv / 'half').exists()


def test_a_dead_interpreter_inside_rebuilds(tmp_path, calls, monkeypatch):
  bootstrap.prepare(tmp_path, 'plots')
  alive = lambda p: None if str(tmp_path) in str(p) else HERE
  monkeypatch.setattr(bootstrap, 'probe', alive)
  bootstrap.prepare(tmp_path, 'plots')
  assert [command[2] for command in calls] == ['venv', 'pip', 'venv', 'pip']


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, calls):
  (tmp_path / 'mine').write_text('precious')
  with pytest.raises(bootstrap.Stop, match='did not make it'):
    bootstrap.prepare(tmp_path, 'plots')
  assert calls == []
  assert os.listdir(tmp_path) == ['mine']


@pytest.mark.parametrize(
  'output, said',
  [
    ('OSError: [Errno 28] No space left on device', 'The disk is full'),
    ('ERROR: No matching distribution for jax', 'Check the network'),
    ('a ReadTimeoutError', 'did not answer in time'),
    ('error: something else', 'The whole log: '),
  ],
)
def test_a_failed_command_shows_its_log(tmp_path, output, said, capfd):
  log = tmp_path / 'log'
  command = [sys.executable, '-c', f'print({output!r}); raise SystemExit(3)']
  with pytest.raises(bootstrap.Stop, match=said) as stop:
    bootstrap.run_logged('packages', command, log)
  assert output in str(stop.value)
  assert capfd.readouterr().out == '- packages\n'


def test_a_long_command_shows_the_time_and_its_last_line(tmp_path, capfd):
  log = tmp_path / 'log'
  log.write_text('Collecting jax\nDownloading jax (3 MB)\n')
  bootstrap.show_time(12.3, log, live=False)
  bootstrap.show_time(12.3, log, live=True)
  line = '   12 s  Downloading jax (3 MB)'
  assert capfd.readouterr().out == f'{line}\n\r\033[K{line}'


def test_commands_pass_arguments_on():
  lint, tests = bootstrap.commands('test', 'py', ['-k', 'punt'])
  assert lint == ['py', '-m', 'ruff', 'check', '.']
  assert tests[:3] == ['py', '-m', 'pytest'] and tests[-2:] == ['-k', 'punt']
  (parity,) = bootstrap.commands('parity', 'py', ['-x'])
  assert parity[3:6] == ['-m', 'torch', '--slow'] and parity[-1] == '-x'
  (demo,) = bootstrap.commands('demo', 'py', ['--config.seed=1'])
  assert demo[2] == 'punt_jax.cli.demo' and demo[-1] == '--config.seed=1'


def test_the_first_failing_command_decides(tmp_path, monkeypatch):
  ran = []

  def call(command, cwd):
    ran.append(command)
    return 5 if 'pytest' in command else 0

  monkeypatch.setattr(bootstrap, 'prepare', lambda venv, extra: 'py')
  monkeypatch.setattr(bootstrap.subprocess, 'call', call)
  assert bootstrap.main(['test']) == 5
  assert [command[2] for command in ran] == ['ruff', 'pytest']


def test_errors_become_sentences(tmp_path, monkeypatch, capfd):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('PUNT_VENV', str(tmp_path / 'file' / 'venv'))
  assert bootstrap.main(['demo']) == 1
  error = capfd.readouterr().err
  assert error.startswith('bootstrap.py: ') and 'Traceback' not in error
  assert bootstrap.main(['dmeo']) == 2
  assert bootstrap.main([]) == 2
  assert 'bootstrap.py demo' in capfd.readouterr().err


def test_it_needs_the_standard_library_alone():
  code = (
    'import sys; before = set(sys.modules); import bootstrap; '
    'new = {name.split(".")[0] for name in set(sys.modules) - before}; '
    'print(new - set(sys.stdlib_module_names) - {"bootstrap"})'
  )
  out = subprocess.run(
    [sys.executable, '-S', '-c', code], cwd=bootstrap.ROOT,
    capture_output=True, text=True, check=True,
  )
  assert out.stdout.strip() == 'set()'
