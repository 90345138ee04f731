"""Trained models: those that ship with the package, and checkpoints."""

import contextlib
import difflib
import functools
import itertools
import math
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from punt_jax import files
from punt_jax.checkpoints import (
  cards,
  digests,
  huggingface,
  saving,
  special_tokens,
)
from punt_jax.models import transformer
from punt_jax.models.layout import number
from punt_jax.text import chat, token_files
from punt_jax.text import vocabulary as text_lib
from punt_jax.types import Denoiser, FilePath, Messages, Tree

ASSETS = pathlib.Path(__file__).parents[1] / 'assets'


class Pretrained(NamedTuple):
  """A trained model, ready for `compile`."""

  module: Any  # flax
  params: Tree
  denoiser: Callable[..., Denoiser]  # of params, ...; call it inside `build`:
  # transformer.denoiser or huggingface.denoiser says what else it takes
  text: text_lib.Text | None  # its vocabulary; None without a tokenizer
  length: int  # of the canvases it was trained on, or the longest there are
  card: dict[str, Any]  # how it was trained and what it scores, or config.json
  chat: Callable[[Messages], str] | None = None  # its prompt, as a template
  ids: dict[str, int] | None = None  # ids of 'eos', 'pad', 'bos', 'eot' and
  # 'mask', as far as they are known; further ends of a text are 'eos_2', ...
  offers: frozenset[str] = frozenset()  # beyond log-probabilities:
  # 'attention' and 'window' (a KV cache) if `denoiser` is asked for it by that
  # name, 'in_order' (Denoiser.in_order) always
  room: float = math.inf  # the longest canvas it can compute
  block_length: int = 0  # of a model that writes in blocks and remembers what
  # is before them exactly; 0: all positions see each other

  def __repr__(self):
    count = sum(x.size for x in jax.tree.leaves(self.params))
    return (
      f'Pretrained({type(self.module).__name__}, {count} parameters, length'
      f' {self.length}, offers {sorted(self.offers)})'
    )


def names() -> list[str]:
  """Names of the models that ship."""
  return sorted(file.stem for file in ASSETS.glob('*.safetensors'))


def load(source: FilePath, **how: Any) -> Pretrained:
  """A model that ships, or one from a file or a checkpoint directory.

  Directories hold config.json and safetensors as on the Hugging Face hub:
  LLaDA, Dream, MDLM, BERT, RoBERTa, and the families of models/families, which
  write in blocks or have experts; their texts need `tokenizers`.

  Args:
    source: a name out of `names`, a file of train.export, or a folder. What
      ships goes first: write ./NAME for a folder that is called like it.
    **how: for a folder, see huggingface.load: dtype, mesh, ignore,
      block_length, mask_id.

  Raises:
    ValueError: one sentence, if there is nothing of that name, or if a file is
      missing, damaged, or does not hold the parameters of the model that its
      header or config describes.
  """
  if not isinstance(source, (str, os.PathLike)) or not str(source):
    raise ValueError(
      f'{source!r:.60} is no model: give the name of one that ships'
      f' ({", ".join(names())}), a file or a folder'
    )
  path = pathlib.Path(source)
  if str(source) in names():
    path = ASSETS / f'{source}.safetensors'
  elif os.path.isdir(path):
    return _from_folder(path, **how)
  elif files.size(path) is None:
    raise ValueError(_missing(str(source)))
  if how:
    raise ValueError(f'{sorted(how)[0]} is for folders, and {source} is none')
  return _from_file(path)


def _from_file(path):
  """A file of train.export; nothing of its card is believed."""
  if path.suffix in ('.json', '.jinja', '.txt'):
    raise ValueError(
      f'{path} holds no weights: if it is part of a checkpoint directory, give'
      f' the folder {path.parent}'
    )
  if path.suffix in ('.bin', '.pt', '.ckpt', '.pth'):
    raise ValueError(
      f'{path} is a file of torch: make safetensors of it with punt-jax convert'
      f' --source={path} --out=NEW, and load NEW with its config.json'
    )
  params, card = saving.import_params(path, ('length', 'model', 'text'))
  text = cards.text(card['text'], path)
  module: Any = cards.module(
    transformer.Transformer, card['model'], path, vocab=text.vocab
  )
  length = number(card, 'length', high=module.places or cards.MOST, where=path)
  if 'heldout_bits' in card:
    number(card, 'heldout_bits', 0, kind=float, where=path)
  cards.check(params, module, path, jax.ShapeDtypeStruct((1, 1), 'int32'))
  denoiser = functools.partial(transformer.denoiser, module)
  return Pretrained(
    module, params, denoiser, text, length, card,
    offers=frozenset({'attention'}), room=module.places or math.inf,
    block_length=module.block_length,
  )


def digest(loaded: Pretrained) -> str:
  """SHA-256 of what a model is, in hexadecimal, whatever it is called.

  Its parameters (names, dtypes, shapes, bytes), its card, ids and lengths, its
  tokenizer and its chat template. It does not change with the path, or with how
  the parameters are placed on devices. They are read to the host, one at a
  time: seconds for each GB.
  """
  chat = getattr(loaded, 'chat', None)
  about = {
    'text': loaded.text and loaded.text.spec,
    'chat': getattr(chat, 'args', ())[1:],  # the template, without its folder
  }
  for name in ('card', 'ids', 'length', 'room'):
    about[name] = getattr(loaded, name, None)
  leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
  return digests.of(about, ((jax.tree_util.keystr(k), x) for k, x in leaves))


def _missing(source):
  """What to say of a model that is not there."""
  path = pathlib.Path(source)
  there = set(names())
  with contextlib.suppress(OSError), os.scandir(path.parent) as beside:
    there |= {str(path.parent / x.name) for x in itertools.islice(beside, 1000)}
  close = difflib.get_close_matches(source, there, 1)
  said = (
    f'there is no file or folder {source}, and no model of that name ships'
    f' (only {", ".join(names())})'
  )
  if close:
    return f'{said}: did you mean {close[0]}?'
  if re.fullmatch(r'[\w.-]+/[\w.-]+', source):
    return (
      f'{said}: if it is an id of the Hugging Face hub, fetch it first with `hf'
      f' download {source} --local-dir DIR` (pip install huggingface_hub), then'
      ' load DIR'
    )
  return (
    f'{said}: give a folder with config.json and safetensors files, as `hf'
    ' download ORG/NAME --local-dir DIR` writes it, or a file of train.export'
  )


def _from_folder(path, **how):
  plan, params, config = huggingface.load(path, **how)
  text = None
  if token_files.present(path):
    text = text_lib.from_folder(path, plan.vocab, plan.mask)
  return Pretrained(
    plan.module, params, functools.partial(huggingface.denoiser, plan), text,
    plan.length, config, chat.chat_template(path),
    special_tokens.ids(path, plan, config),
    huggingface.offers(plan), plan.length, huggingface.block_length(plan),
  )
