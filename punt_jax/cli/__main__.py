"""punt-jax NAME [flags], or python -m punt_jax.cli NAME [flags].

A command is imported when it is chosen: its `main` reads sys.argv.
"""

import difflib
import importlib
import os
import sys

from punt_jax.cli import ending

COMMANDS = {  # name: (module, what it does)
  'demo': ('demo', 'a small model writes, with PUNT and ten other samplers'),
  'generate': ('generate', 'texts for a prompt or a file of prompts'),
  'chat': ('chat', 'talk to a model and watch it write'),
  'describe': ('describe', 'what a model is and needs; --check its mask'),
  'evaluate': ('evaluate', 'accuracy against passes: GSM8K, IFEval, programs'),
  'lm-eval': ('lm_eval', "lm-eval's command, for any of its tasks"),
  'convert': ('convert', 'files of torch.save to safetensors, without torch'),
  'random-checkpoint': (
    'random_checkpoint', 'a directory with random weights, to try things out'
  ),
}
USAGE = """\
punt-jax: sampling from masked diffusion models

  punt-jax demo
  punt-jax generate --model=shakespeare --prompt='ROMEO:'
  punt-jax generate --model=DIR --prompt='Why is the sky blue?'

commands, each with --help:
"""


def listing() -> str:
  """All commands, a line each."""
  width = max(map(len, COMMANDS))
  lines = [f'  {name:{width}}  {COMMANDS[name][1]}' for name in COMMANDS]
  return USAGE + '\n'.join(lines)


def main() -> None:
  """Runs the command that sys.argv names; returns or raises SystemExit."""
  try:
    _main()
    sys.stdout.flush()
  except BrokenPipeError:  # whoever read the output has left
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _main():
  name, *rest = sys.argv[1:] or ['--help']
  if name in ('--help', '-help', '-h', 'help'):
    print(listing())
  elif name in ('--version', '-V'):
    from punt_jax import __version__

    print(f'punt-jax {__version__}')
  elif name not in COMMANDS:
    close = difflib.get_close_matches(name, COMMANDS)
    others = [x for x in COMMANDS if x not in close]
    sys.exit(
      f'punt-jax: unknown command {name!r}: use one of'
      f' {", ".join(close + others)}'
    )
  else:
    sys.argv = [f'punt-jax {name}', *rest]
    try:
      with ending.by_sigterm():
        module = importlib.import_module(f'punt_jax.cli.{COMMANDS[name][0]}')
    except KeyboardInterrupt:
      print('interrupted', file=sys.stderr)
      sys.exit(130)
    module.main()


if __name__ == '__main__':
  main()
