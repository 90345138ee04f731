"""Models that ship with the package: safetensors files in punt_jax/assets."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from punt_jax import checkpoint, select
from punt_jax import text as text_lib
from punt_jax.models import transformer

ASSETS = pathlib.Path(__file__).parents[1] / 'assets'


class Pretrained(NamedTuple):
  """A trained model, ready for `compile`."""

  module: transformer.Transformer
  params: Any
  denoiser: Callable  # (params, attention=False) -> Denoiser; call it inside
  # `build`
  text: text_lib.Text  # its vocabulary
  length: int  # the canvas length it was trained on
  card: dict  # how it was trained and what it scores, from the file's header


def names():
  """Names of the models that ship."""
  return sorted(file.stem for file in ASSETS.glob('*.safetensors'))


def pretrained(name):
  """The model called `name`; ValueError lists the known names."""
  select.known('pretrained model', name, names())
  return load(ASSETS / f'{name}.safetensors')


def load(path):
  """A model written by train/export.py.

  Raises:
    ValueError: one sentence, if the file is missing, damaged, or does not
      hold the parameters of the model that its header describes.
  """
  params, card = checkpoint.import_params(path)
  missing = {'model', 'text', 'length'} - set(card)
  if missing:
    raise ValueError(
      f'{path} has no {sorted(missing)[0]!r} in its header: write it with'
      ' train.export'
    )
  text = text_lib.from_spec(card['text'])
  module = transformer.Transformer(vocab=text.vocab, **card['model'])
  key = jax.random.key(0)
  tokens = jax.ShapeDtypeStruct((1, card['length']), 'int32')
  like = jax.eval_shape(module.init, key, tokens)['params']
  checkpoint.check_shapes(params, like, path)
  denoiser = functools.partial(transformer.denoiser, module)
  return Pretrained(module, params, denoiser, text, card['length'], card)
