"""What the header of a file says of its network, checked against the file.

A card is JSON from whoever wrote the file. Its numbers are bounded before
anything is built of them, and the network that they describe must have the
parameters that the file holds.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util

from punt_jax import jsonl
from punt_jax.checkpoints import saving
from punt_jax.models import block_masks
from punt_jax.models.layout import number
from punt_jax.text import vocabulary
from punt_jax.types import Tree

MOST = 2**20  # of a width, a length, ..: beyond any network in one file
LAYERS = 4096
LOW = {  # of a setting; else 1
  'places': 0, 'block_length': 0, 'reach': 0, 'temperature': 1e-6
}
FIRST = 'blocks_0.'


def module(
  kind: type[nn.Module], given: Any, where: Any, **more: Any
) -> nn.Module:
  """A network with the settings of a card.

  Args:
    kind: its class, whose attributes are numbers and strings.
    given: what the card says, JSON.
    where: what to call the card in a sentence.
    **more: settings that the card does not make.

  Raises:
    ValueError: one sentence: a setting is unknown, of another type, or out of
      range.
  """
  if not isinstance(given, dict):
    raise ValueError(f'{where}: its network is {given!r:.40}, no object')
  kinds = {x.name: x.type for x in dataclasses.fields(kind)}
  for key, value in given.items():
    if key not in kinds or key in ('parent', 'name', *more):
      raise ValueError(f'{where}: its network has no setting {key!r:.40}')
    if kinds[key] is int:
      high = LAYERS if key == 'layers' else MOST
      number(given, key, LOW.get(key, 1), high=high, where=where)
    elif kinds[key] is float:
      low = LOW.get(key, -MOST)
      number(given, key, low, kind=float, high=MOST, where=where)
    elif not isinstance(value, str):
      raise ValueError(f'{where}: {key} is {value!r:.40}, it must be a string')
  made: Any = kind(**given, **more)
  if 'heads' in kinds and made.width % (2 * made.heads):
    raise ValueError(
      f'{where}: width = {made.width} is not an even multiple of heads ='
      f' {made.heads}'
    )
  if 'taps' in kinds and made.taps % 2 == 0:
    raise ValueError(f'{where}: taps = {made.taps} must be odd')
  if 'block_length' in kinds:
    try:
      block_masks.check(made.attention, made.block_length, made.places)
    except ValueError as error:
      raise ValueError(f'{where}: {error!s:.200}') from None
  return made


def check(params: Tree, made: Any, where: Any, *seen: Any) -> None:
  """Compares parameters with those of a network: their names and shapes.

  One block is traced, however many layers there are.

  Args:
    params: nested dict.
    made: a network; its blocks are called blocks_0, blocks_1, ...
    where: what to call the file in a sentence.
    *seen: what the network is applied to, jax.ShapeDtypeStruct.

  Raises:
    ValueError: one sentence.
  """
  layers = getattr(made, 'layers', 0)
  one = made.clone(layers=1) if layers else made
  flat = dict(_shapes(one, *seen))
  block = {k: x for k, x in flat.items() if k.startswith(FIRST)}
  for layer in range(1, layers):
    for name, x in block.items():
      flat[f'blocks_{layer}.{name.removeprefix(FIRST)}'] = x
  like = traverse_util.unflatten_dict(flat, sep='.')
  saving.check_shapes(params, like, where)


@functools.lru_cache(maxsize=32)
def _shapes(made, *seen):
  """{parameter: ShapeDtypeStruct} of a network applied to these."""
  tree: Any = jax.eval_shape(made.init, jax.random.key(0), *seen)
  flat: dict[str, Any] = traverse_util.flatten_dict(tree['params'], sep='.')
  return flat


def text(spec: Any, where: Any) -> vocabulary.Text:
  """The vocabulary of a card.

  Raises:
    ValueError: one sentence.
  """
  try:
    spec = jsonl.decode(spec.encode()) if isinstance(spec, str) else spec
    return vocabulary.from_spec(spec)
  except ValueError as error:
    raise ValueError(
      f'{where}: the vocabulary in its header cannot be used: {error!s:.200}'
    ) from None

