"""Optional packages: which extra of setup.py brings them, and how to ask."""

import importlib
from types import ModuleType

EXTRAS = {  # module: extra
  'immutabledict': 'eval',
  'jinja2': 'hf',
  'langdetect': 'eval',
  'lm_eval': 'eval',
  'matplotlib': 'plots',
  'nltk': 'eval',
  'punkt': 'eval',
  'tensorboardX': 'train',
  'tokenizers': 'hf',
  'torch': 'torch',
  'transformers': 'torch',
}


def missing(what: str, module: str) -> str:
  """The sentence for who lacks a module that `what` needs."""
  extra = EXTRAS[module.split('.')[0]]
  return f"{what} needs {module}: pip install 'punt-jax[{extra}]'"


def load(module: str, what: str) -> ModuleType:
  """An optional module.

  Args:
    module: its name, the first part a key of EXTRAS.
    what: the user wants, the beginning of a sentence.

  Raises:
    ValueError: the sentence of `missing`, or that it is there and broken.
  """
  try:
    return importlib.import_module(module)
  except Exception as error:
    own = isinstance(error, ModuleNotFoundError) and (
      (error.name or '').split('.')[0] == module.split('.')[0]
    )
    if own:
      raise ValueError(missing(what, module)) from None
    said = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise ValueError(
      f'{what} needs {module}, which is installed and cannot be imported'
      f' ({said:.200}): install it again'
    ) from error
