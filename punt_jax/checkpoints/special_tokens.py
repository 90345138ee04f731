"""Which tokens of a checkpoint directory are special, from its JSON files."""

import pathlib
from typing import Any

from punt_jax import jsonl
from punt_jax.models.layout import Layout, number
from punt_jax.text import token_files
from punt_jax.types import FilePath

TURNS = '<|eot_id|>', '<|im_end|>', '<|role_end|>'  # ends, by their text
MASKS = (
  '<|MASK|>', '|<MASK>|', '<|mask|>', '<|mdm_mask|>', '[MASK]', '<mask>'
)


def mask(folder: FilePath, guess: bool = True) -> int | None:
  """The id of MASK by the tokenizer's files, or None.

  Args:
    folder: of the checkpoint.
    guess: whether a token that is not named there may be one, by its text.

  Raises:
    ValueError: one sentence, if they are damaged.
  """
  card, tokens = token_files.card(folder), token_files.added_tokens(folder)
  named = token_files.named_token(card, 'mask_token')
  for token in (named, *(MASKS if guess else ())):
    if token in tokens:
      return tokens[token]
  return None


def ids(
  folder: FilePath, plan: Layout, config: dict[str, Any]
) -> dict[str, int]:
  """{'mask', 'eos', 'pad', 'bos', 'eot': id}, those that are known.

  From config.json, else by their names in tokenizer_config.json; the end of a
  turn by its text. If several tokens end a text, also those that only
  generation_config.json names, the further ones are 'eos_2', 'eos_3', ...

  Args:
    folder: of the checkpoint.
    plan: Layout.
    config: config.json as a dict.

  Raises:
    ValueError: one sentence, if a file is damaged or an id is no such number.
  """
  folder = pathlib.Path(folder)
  card = token_files.card(folder)
  more = jsonl.read_object(folder / 'generation_config.json')
  tokens = token_files.added_tokens(folder)
  found = {'mask': plan.mask}
  for name in ('eos', 'pad', 'bos'):
    several = _listed(config, name)
    token = token_files.named_token(card, f'{name}_token')
    # BERT's rows end with [SEP], but it stands between sentences as well.
    if not several and token in tokens and (name, token) != ('eos', '[SEP]'):
      several = [tokens[token]]
    several += _listed(more, name) if name == 'eos' else []
    several = [i for i in dict.fromkeys(several) if i < plan.vocab]
    for n, i in enumerate(several if name == 'eos' else several[:1], 1):
      found[name if n == 1 else f'{name}_{n}'] = i
  for token in TURNS:
    if token in tokens:
      found['eot'] = tokens[token]
  return found


def _listed(config, name):
  """The ids under a key that holds one, a list, or nothing."""
  value = config.get(f'{name}_token_id')
  values = value if isinstance(value, list) else [value]
  return [number({name: x}, name, 0) for x in values if x is not None]
