"""What a loader must know of an architecture: its tensors and its ids."""

from typing import Any, NamedTuple

STACKED = 'blocks/'  # parameters under this path are stacked over layers


class Source(NamedTuple):
  """Where a parameter stands in a checkpoint."""

  names: tuple[str, ...]  # of tensors: one, or one per layer if it is stacked
  transpose: bool = False  # (out, in) there, (in, out) here


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
        f' {value!r} is'
      )
