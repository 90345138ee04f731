"""What a loader must know of an architecture: its tensors and its ids.

A parameter is made of pieces, each a tensor of the checkpoint or some rows of
one. They stand there otherwise than here in three ways:

* layers are stacked here, and so are the experts of a layer: a tensor is one
  index of a parameter's leading axes;
* matrices are (out, in) there and (in, out) here, but for those of experts;
* one tensor may hold several parameters, as query, key and value in LLaDA2:
  those that name it share its rows, in the order of `Layout.sources`.
"""

import itertools
from typing import Any, NamedTuple

STACKED = 'blocks/', 'first/'  # parameters below are stacked over layers


class Source(NamedTuple):
  """Where a parameter stands in a checkpoint."""

  names: tuple[str, ...]  # of tensors: one for every index of the leading axes
  transpose: bool = False  # (.., out, in) there, (.., in, out) here
  axes: int = 0  # how many of the parameter's axes are leading ones


class Piece(NamedTuple):
  """The place in a parameter of a tensor, or of some rows of one."""

  path: str  # of the parameter
  index: tuple[int, ...]  # in its leading axes
  shape: tuple[int, ...]  # as in the file
  transpose: bool

  @property
  def matrix(self) -> bool:
    """Whether it is (out, in) in the file; those of experts are so here too."""
    one = '/experts/' in self.path and len(self.shape) == 2
    return self.transpose or one


class Layout(NamedTuple):
  """A flax module and the checkpoint that holds its parameters."""

  module: Any  # methods features(tokens, valid) and head(features)
  sources: dict[str, Source]  # '/'-joined path of each parameter -> Source
  vocab: int  # V: ids 0 .. V - 1
  mask: int  # the checkpoint's own id of MASK, below V or V itself
  length: int  # longest canvas
  shifted: bool = False  # output i - 1 predicts token i
  ignored: tuple[str, ...] = ()  # regular expressions of tensors not read
  copies: dict[str, str] = {}  # tensor that may be there -> the one it repeats


def pieces(plan: Layout, shapes: dict[str, Any]) -> dict[str, list[Piece]]:
  """{tensor: its Pieces, in the order of its rows}.

  Args:
    plan: Layout.
    shapes: {path of a parameter: array or what has its shape}.
  """
  found: dict[str, list[Piece]] = {}
  for path, source in plan.sources.items():
    shape = tuple(shapes[path].shape)
    front, shape = shape[: source.axes], shape[source.axes :]
    if source.transpose:
      shape = (*shape[:-2], shape[-1], shape[-2])
    every = itertools.product(*map(range, front))
    for name, index in zip(source.names, every, strict=True):
      piece = Piece(path, index, shape, source.transpose)
      found.setdefault(name, []).append(piece)
  return found


def whole(parts: list[Piece]) -> tuple[int, ...]:
  """The shape of the tensor that these Pieces share."""
  rows = sum(part.shape[0] for part in parts)
  return rows, *parts[0].shape[1:]


def number(
  config: dict[str, Any], key: str, low: float = 1, default: Any = None,
  kind: type = int, high: float = 2**31 - 1, where: Any = 'config.json',
) -> Any:
  """config[key], a number from `low` to `high`; `where` it stands.

  null counts as absent.

  Raises:
    ValueError: one sentence, if it is missing or something else.
  """
  value = config.get(key)
  value = default if value is None else value
  kinds = (int, float) if kind is float else (int,)
  fits = isinstance(value, kinds) and not isinstance(value, bool)
  if not fits or not low <= value <= high:
    raise ValueError(
      f'{where}: {key} is {value!r:.40}, it must be a'
      f' {"whole " * (kind is int)}number from {low} to {high}'
    )
  return kind(value)


def flag(config: dict[str, Any], key: str, default: bool) -> bool:
  """config[key], true or false; the default if it is absent or null.

  Raises:
    ValueError: one sentence, if it is something else.
  """
  value = config.get(key)
  if value is not None and not isinstance(value, bool):
    raise ValueError(
      f'config.json: {key} is {value!r:.40}, it must be true or false'
    )
  return default if value is None else value


def layers(config: dict[str, Any], key: str) -> int:
  """config[key], a number of layers: each has a dozen tensors to look up."""
  return number(config, key, high=4096)


def fixed(config: dict[str, Any], **wanted: Any) -> None:
  """Refuses settings that the module does not implement.

  Raises:
    ValueError: one sentence naming the first key with another value than
      wanted; an absent key or null is fine.
  """
  for key, value in wanted.items():
    if config.get(key) not in (None, value):
      raise ValueError(
        f'config.json: {key} = {config[key]!r:.80} is not implemented, only'
        f' {value!r:.80} is'
      )
