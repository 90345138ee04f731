"""What --help prints: flags and config values, a line each.

The words for a config value stand where its default stands, as a comment: at
the end of its line, or above it. Behind one at the end, lines of comment that
begin with a small letter go on with it.
"""

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

WIDTH = 80
COLUMN = 26  # where explanations begin


def explained(source: str) -> dict[str, str]:
  """{dotted name: words} of the assignments in a Python source.

  `config.a.b = 1` is 'a.b', and the field `a: int = 1` of a class 'a'.
  """
  comments, alone = {}, set()
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      line = token.start[0]
      comments[line] = token.string.lstrip('# ')
      if not token.line[: token.start[1]].strip():
        alone.add(line)
  found = {}
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
      continue
    for target in getattr(node, 'targets', [getattr(node, 'target', None)]):
      if isinstance(target, (ast.Name, ast.Attribute)):
        name = ast.unparse(target)
        if isinstance(target, ast.Attribute):
          name = name.partition('.')[2]
        words = _beside(node, comments, alone) or _above(node, comments, alone)
        if words:
          found.setdefault(name, words)
  return found


def _beside(node, comments, alone):
  """The comment at the end of an assignment, and the lines that go on."""
  line = next((
    n for n in (node.lineno, node.end_lineno) if n in comments
  ), None)
  if line is None:
    return ''
  said = [comments[line]]
  while line + 1 in alone and not comments[line + 1][:1].isupper():
    line += 1
    said.append(comments[line])
  return ' '.join(said)


def _above(node, comments, alone):
  """The lines of comment right above an assignment."""
  said, line = [], node.lineno - 1
  while line in alone:
    said.insert(0, comments[line])
    line -= 1
  while said and line in comments and not said[0][:1].isupper():
    said.pop(0)  # these belong to the assignment before
  return ' '.join(said)


def page(
  program: str, doc: str, flags: Iterable[tuple[str, Any, str | None]],
  config: Any = None, words: Mapping[str, str] | tuple[()] = (),
) -> str:
  """The whole text.

  Args:
    program: what was typed.
    doc: what it does, the docstring of its module.
    flags: (name, default, words) of each flag.
    config: ConfigDict, or None.
    words: {name: words} of its values.
  """
  said = [f'{program} [--NAME=VALUE ...]', '', (doc or '').strip(), '']
  said += ['flags:', *(x for flag in flags for x in lines(*flag))]
  if config is not None:
    said += ['', 'values, as --NAME=VALUE or --config.NAME=VALUE:']
    said += values(config, dict(words))
  return '\n'.join(said)


def lines(name: str, default: Any, words: str | None) -> list[str]:
  """'  --name=default   words' as lines of at most WIDTH columns."""
  shown = '' if default is None else f'={_short(default)}'
  head = f'  --{name}{shown}'
  body = textwrap.wrap(words or '', WIDTH - COLUMN - 2)
  pad = ' ' * (COLUMN + 2)
  if not body:
    return [head]
  if len(head) > COLUMN:
    return [head, *(pad + line for line in body)]
  return [head.ljust(COLUMN + 2) + body[0], *(pad + line for line in body[1:])]


def _short(value):
  """A default as it is typed."""
  text = value if isinstance(value, str) else repr(value)
  text = text.replace('\n', '\\n')
  text = text if len(text) < 50 else text[:46] + '...'
  return f'"{text}"' if not text or set(text) & set(' (),\\') else text


def values(
  config: Any, words: Mapping[str, str], above: str = ''
) -> list[str]:
  """The lines for a ConfigDict's values; what is None in a group is not said.

  Groups come last, each behind what it is.

  Args:
    config: ConfigDict.
    words: see `explained`.
    above: 'a.b' if `config` is the value of config.a.b.
  """
  is_group = lambda key: isinstance(config[key], ml_collections.ConfigDict)
  said = []
  for key in sorted(config, key=is_group):
    name = f'{above}.{key}'.lstrip('.')
    if is_group(key):
      if not above or name in words:
        said += ['', *textwrap.wrap(
          f'{name}: {words.get(name, "")}', WIDTH, initial_indent='  ',
          subsequent_indent='    ',
        )]
      said += values(config[key], words, name)
    elif config[key] is not None or not above:
      default = 'None' if config[key] is None else config[key]
      said += lines(name, default, words.get(name))
  return said
