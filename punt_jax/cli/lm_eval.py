"""lm-eval's own command, which then knows the models of this library.

  punt-jax lm-eval --model punt_jax --tasks gsm8k --batch_size 8 \\
    --model_args 'pretrained=DIR,sampler=punt(epsilon=0.05,first=msb)'

The same as `lm_eval` with these arguments, but for errors, which are one
sentence. It needs neither an entry point nor a .pth file, so it works from a
clone, too. `punt-jax lm-eval run --help` lists lm-eval's flags. What a task
asks of a text (max_gen_toks, temperature, top_p, do_sample) holds where
--model_args say nothing.
"""

import inspect
import sys

from punt_jax import extras
from punt_jax.cli import ending, manual
from punt_jax.generation import model_args, settings


def page(program: str) -> str:
  """What --help prints: the values of --model_args."""
  words = {}
  for module in settings, model_args:
    words |= manual.explained(inspect.getsource(module))
  said = [f'{program} [--NAME=VALUE ...]', '', (__doc__ or '').strip(), '']
  said += ['values of --model_args, as NAME=VALUE, a comma between them:']
  for name in model_args.NAMES:
    default = model_args.DEFAULTS[name]
    lines = manual.lines(name, default, words.get(name, ''))
    said += [lines[0].replace('--', '', 1), *lines[1:]]
  return '\n'.join(said)


def main() -> None:
  """The command: lm-eval reads sys.argv."""
  if sys.argv[1:] in ([], ['--help'], ['-h']):
    print(page(sys.argv[0]))
    return
  try:
    with ending.by_sigterm():
      extras.load('lm_eval', 'punt-jax lm-eval')
      from lm_eval.__main__ import (  # pyright: ignore[reportMissingImports]
        cli_evaluate,
      )

      from punt_jax.generation import lm_eval  # noqa: F401, registers itself

      cli_evaluate()
  except KeyboardInterrupt:
    print('lm-eval: interrupted', file=sys.stderr)
    sys.exit(130)
  except Exception as error:
    said = ending.sentence(error)
    if said is None:
      raise
    sys.exit(f'lm-eval: {said}')


if __name__ == '__main__':
  main()
