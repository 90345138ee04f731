"""Files of torch.save -> safetensors, without torch and executing nothing.

  punt-jax convert --source=pytorch_model.bin --out=DIR \\
      --rename='^model\\.=,^last_optimizer_state.*='

SOURCE is a file, a pattern of files ('pytorch_model-*.bin') or an index
(pytorch_model.bin.index.json). Each OLD=NEW of --rename, in order, replaces
the regular expression OLD in the names; a tensor whose name becomes empty is
left out. DIR must be new; copy config.json and the tokenizer there afterwards.
"""

import glob
import os
import pathlib
import re
from collections.abc import Sequence

from absl import flags

from punt_jax import files
from punt_jax.checkpoints import tensors, torch_files
from punt_jax.cli import command
from punt_jax.types import FilePath


def sources(source: str) -> list[str]:
  """The files that --source means, sorted."""
  file = pathlib.Path(source)
  if source.endswith('.index.json') and os.path.isfile(file):
    names = set(tensors.listed(file).values())
    return sorted(str(file.parent / name) for name in names)
  found = [source] if os.path.lexists(file) else sorted(glob.glob(source))
  if not found:
    raise ValueError(f'there is no file {source}')
  return found


def renamed(name: str, rules: Sequence[str]) -> str:
  """A tensor's new name; '' leaves it out."""
  for rule in rules:
    old, equals, new = rule.partition('=')
    if not equals:
      raise ValueError(f'--rename: {rule!r} is not OLD=NEW')
    try:
      name = re.sub(old, new, name)
    except (re.error, IndexError) as error:
      raise ValueError(f'--rename: {rule!r} cannot be used: {error}') from error
  return name


def convert(
  source: str, out: FilePath, rename: Sequence[str] = ()
) -> tuple[int, int]:
  """Writes the folder `out`; returns (tensors, bytes).

  It gets its name when all is written.

  Raises:
    ValueError: one sentence, see torch_files.read_torch and
      tensors.write_tensors; two tensors with one name; `out` is there and not
      empty.
  """
  count = 0

  def each():
    nonlocal count
    for file in sources(source):
      for name, array in torch_files.read_torch(file).items():
        name = renamed(name, rename)
        count += bool(name)
        if name:
          yield name, array

  tensors.vacant(out)
  with files.new_folder(out) as part:
    size = tensors.write_tensors(part, each())
  return count, size


def work(_: list[str]) -> None:
  """Reads the flags, converts, and says what was written."""
  given = flags.FLAGS
  count, size = convert(given.source, given.out, given.rename)
  print(f'{given.out}: {count} tensors, {size} bytes')


def main() -> None:
  """The command."""
  flags.DEFINE_string('source', None, 'File, pattern or index to read.')
  flags.DEFINE_string('out', None, 'Folder to write.')
  flags.DEFINE_list('rename', [], 'OLD=NEW,... for the names of the tensors.')
  command.run(work, needs=('source', 'out'))


if __name__ == '__main__':
  main()
