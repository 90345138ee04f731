"""Commands: their flags and config, --help, and how they end.

Flags are absl's. A config is a file, --config=FILE or FILE:NAME, or comes with
the command; each of its values is a flag, --config.KEY=VALUE, and
--KEY=VALUE unless the command has a flag of that name. Bad input ends in one
sentence and the status 1, Ctrl-C in one line and the status 130, SIGTERM in one
and 143. These two wait for what is being written (files.whole), once: a second
one ends the process at once.
"""

import inspect
import os
import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from punt_jax.cli import arguments, ending, manual

OURS = 'punt_jax', 'train', 'experiments'  # whose flags are listed
AGAIN = 'interrupted; run the same command again to go on'


def compile_quickly() -> None:
  """For experiments with many small programs; call it before jax does anything.

  On a CPU, half the compilation time and the same speed (frontier, measured).
  """
  mine = '--xla_backend_optimization_level=1'
  os.environ['XLA_FLAGS'] = f'{mine} {os.environ.get("XLA_FLAGS", "")}'


def run(
  work: Callable[[list[str]], Any], needs: Sequence[str] = (), most: int = 0,
  patient: bool = False,
) -> None:
  """Runs a command whose flags are defined.

  Args:
    work: called with the arguments that are no flags; what it returns is not an
      exit status.
    needs: flags that must be given.
    most: how many arguments that are no flags there may be.
    patient: `work` sees to KeyboardInterrupt itself.
  """
  ending.watch(_program(sys.argv), 'interrupted', patient)
  _run(sys.argv, work, needs, most, doc=_doc(work))


def run_config(
  job: Callable[..., Any], needs: Sequence[str] = ('workdir',),
  default: Callable[[Callable[[str], str | None]], Any] | None = None,
  workdir: str = 'Folder of this run.', resumes: bool = True,
  patient: bool = False, **texts: str,
) -> None:
  """Runs job(config, workdir, **texts) with a flag for each.

  Args:
    job: called with the config, the value of --workdir, and one keyword
      argument per further flag; None for flags that were not given.
    needs: flags that must be given, beside --config.
    default: typed -> the config if there is no --config, where typed(name) is
      what was typed for a flag or value, or None. None: --config must be given.
    workdir: what is said of --workdir; '': there is none.
    resumes: whether a run in a workdir that is started again goes on.
    patient: see `run`.
    **texts: name=help of further flags that hold a string. One called preset
      chooses among configs of `default`; '' is that it did by itself.
  """
  argv, doc = list(sys.argv), _doc(job)
  again = resumes and arguments.typed(argv, 'workdir')
  said = AGAIN if again else 'interrupted'
  ending.watch(_program(argv), said, patient)
  from_file = arguments.typed(argv, 'config') is not None
  try:
    config, sources = _config(argv, default, doc)
  except BaseException as error:
    ending.after(_program(argv), error)
    raise
  if config is not None and 'sampler' in config:
    texts['sampler'] = "Who writes: --sampler='punt(epsilon=0.05, first=msb)'."
  texts |= {'workdir': workdir} if workdir else {}
  given = {name: flags.DEFINE_string(name, None, texts[name]) for name in texts}

  def work(_):
    if config is None:
      raise ValueError(f'give --config=FILE, such as {_shown(doc)}')
    values = {name: flag.value for name, flag in given.items()}
    if values.get('workdir') == '':
      raise ValueError('--workdir is empty: give the path of a folder')
    if from_file and values.get('preset'):
      raise ValueError('give --config or --preset, not both')
    if 'preset' in values and not from_file:
      values['preset'] = values['preset'] or ''
    sampler = values.pop('sampler', None)
    if sampler:
      from punt_jax.cli import configs

      configs.write_with(config, sampler, [
        name for name in config.sampler
        if arguments.typed(argv, rf'sampler\.{name}') is not None
      ])
    return job(config, values.pop('workdir', None), **values)

  needs = needs if config is not None else ()
  _run(argv, work, needs, 0, config, sources, doc)


def _shown(doc):
  """The config that a docstring names as an example, or ''."""
  found = re.search(r'--config=(\S+)', doc)
  return found[1] if found else ''


def _config(argv, default, doc):
  """(config or None, files with its words); takes --config out of argv."""
  name = None
  for i, argument in reversed([*enumerate(argv)]):
    match = re.fullmatch(r'--?config(?:=(.*))?', argument)
    if match:
      name = name or match[1] or (argv[i + 1 :] or [''])[0]
      del argv[i : i + 1 + (match[1] is None)]
  if name is None and default is not None:
    found = default(lambda name: arguments.typed(argv, name))
    return found, [inspect.getsourcefile(default)]
  if name is None and _asks_help(argv):
    name = _shown(doc) if pathlib.Path(_shown(doc)).is_file() else None
  if name is None:
    return None, []
  file, *variant = name.split(':', 1)
  if not pathlib.Path(file).is_file():
    raise ValueError(f'there is no config file {file}')
  module, config = _run_file(file, variant)
  more = [
    x.__file__ for x in module.values()
    if inspect.ismodule(x) and x.__name__.startswith('punt_jax.cli.')
  ]
  return config, [*more, file]


def _run_file(file, variant):
  """(names of a config file, what its get_config returns)."""
  try:
    module = runpy.run_path(file)
    get_config = module.get('get_config')
    if not callable(get_config):
      raise ValueError(f'{file} defines no function get_config')
    if variant and not inspect.signature(get_config).parameters:
      raise ValueError(f'{file} has one config alone: leave out :{variant[0]}')
    config = get_config(*variant)
  except (Exception, SystemExit) as error:
    if isinstance(error, ValueError) and file in str(error):
      raise
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    lines = [error.lineno] if isinstance(error, SyntaxError) else lines
    where = f'{file}, line {lines[-1]}' if lines and lines[-1] else file
    kind = '' if type(error) is ValueError else f'{type(error).__name__}: '
    raise ValueError(f'{where}: {kind}{error}') from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
      f'get_config of {file} returns {config!r:.40}, no ConfigDict'
    )
  return module, config


def _run(argv, work, needs=(), most=0, config=None, sources=(), doc=''):
  """The whole life of a command, from its arguments to its exit status."""
  program = _program(argv)
  try:
    own = {flag.name: flag for flag in _own_flags()}
    if _asks_help(argv):
      print(_page(program, doc, own, config, sources))
      return
    typed, argv = argv, arguments.as_values(argv, own, config)
    if config is not None:
      config_flags.DEFINE_config_dict('config', config, sys_argv=argv)
    try:
      rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
      raise ValueError(arguments.fault(error, typed)) from None
    for name in needs:
      if flags.FLAGS[name].value in (None, ''):
        raise ValueError(f'give --{name}=...: {flags.FLAGS[name].help}')
    if len(rest) > most:
      raise ValueError(
        f'{rest[most]!r} is no flag: values are given as --NAME=VALUE'
      )
    logging.set_verbosity(logging.WARNING)  # orbax tells a lot
    work(rest)
  except BaseException as error:
    ending.after(program, error)
    raise


def _own_flags():
  """The flags that this command has defined."""
  return [
    flag for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module == sys.argv[0] or module.split('.')[0] in OURS
    for flag in defined
  ]


def _page(program, doc, own, config, sources):
  rows = [(flag.name, flag.default, flag.help) for flag in own.values()]
  rows.append(('config', None, 'File with a config, FILE.py or FILE.py:NAME.'))
  words = {}
  if config is not None:
    from punt_jax.cli import configs

    for file in sources:
      words |= manual.explained(pathlib.Path(file).read_text('utf-8'))
    words |= configs.words() if configs.is_for_texts(config) else {}
  elif 'workdir' in own:
    doc += '\n\nWith --config=FILE, --help lists the values of its config.'
  else:
    rows.pop()
  return manual.page(program, doc, rows, config, words)


def _asks_help(argv):
  stop = argv.index('--') if '--' in argv else len(argv)
  return bool({'--help', '-help', '-h', '--helpfull'} & set(argv[1:stop]))


def _doc(work):
  """The docstring of the module that a command is in."""
  module = inspect.getmodule(work)
  return module.__doc__ if module and module.__doc__ else ''


def _program(argv):
  """What runs: 'punt-jax demo', 'train.main', 'experiments.frontier'."""
  file, root = pathlib.Path(argv[0]), pathlib.Path(__file__).parents[2]
  if file.is_file() and file.resolve().is_relative_to(root):
    parts = file.resolve().relative_to(root).with_suffix('').parts
    return '.'.join(parts).removesuffix('.__main__')
  return file.parent.name if file.stem == '__main__' else file.stem
