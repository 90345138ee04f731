"""Pickles read as plain data: nothing is imported, called or executed.

A pickle is a program for a small stack machine. Its instructions, listed in
Python's pickletools, are followed here by hand: they can make numbers,
strings, tuples, lists and dicts, and what `call` makes of listed names.
"""

import pickletools
from typing import NamedTuple

STEPS = 5_000_000  # instructions of a pickle
WITH_MARK = (  # instructions that take what is above the last mark
  'TUPLE', 'LIST', 'DICT', 'FROZENSET', 'APPENDS', 'SETITEMS', 'ADDITEMS',
  'POP_MARK',
)
SKIPPED = ('PROTO', 'FRAME')
LITERALS = (
  'INT', 'LONG', 'LONG1', 'LONG4', 'BININT', 'BININT1', 'BININT2', 'FLOAT',
  'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE',
  'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES',
  'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8',
)


class Name(NamedTuple):
  """A listed name; never what it stands for."""

  full: str


class Other(NamedTuple):
  """Any value that is left out."""


def load(stream, names=(), call=None, persistent=None):
  """The value of the pickle at which a stream stands.

  Time and memory are proportional to the bytes that are read.

  Args:
    stream: with read, readline, tell; it is left behind the pickle.
    names: of what may occur, 'module.attribute'; a container.
    call: (name, arguments) -> what a call of a listed name makes.
    persistent: what a persistent id stands for, or None if there are none.

  Raises:
    ValueError: one sentence.
  """
  try:
    return _run(stream, names, call, persistent)
  except (LookupError, TypeError) as error:
    raise ValueError(
      f'its pickle makes no sense ({type(error).__name__}: {error})'
    ) from error


def _instructions(stream):
  """(name, argument) of each instruction."""
  try:
    for code, arg, _ in pickletools.genops(stream):
      yield code.name, arg
  except (ValueError, AssertionError) as error:
    raise ValueError(f'its pickle is damaged ({error})') from error


def _run(stream, names, call, persistent):
  stack, marks, memo = [], [], {}
  for step, (name, arg) in enumerate(_instructions(stream)):
    items = None
    if step >= STEPS:
      raise ValueError(f'its pickle has more than {STEPS} instructions')
    if name in WITH_MARK:
      start = marks.pop()
      items = stack[start:]
      del stack[start:]
    if name == 'STOP':
      return stack.pop()
    elif name == 'MARK':
      marks.append(len(stack))
    elif name in LITERALS:
      stack.append(arg)
    elif name == 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    elif name.endswith('PUT'):
      memo[arg] = stack[-1]
    elif name.endswith('GET'):
      stack.append(memo[arg])
    elif name == 'GLOBAL':
      stack.append(_name(names, *arg.split(' ', 1)))
    elif name == 'STACK_GLOBAL':
      attribute, module = stack.pop(), stack.pop()
      stack.append(_name(names, module, attribute))
    elif name in ('REDUCE', 'NEWOBJ'):
      arguments, function = stack.pop(), stack.pop()
      if type(function) is not Name or type(arguments) is not tuple:
        raise ValueError('its pickle calls something that has no name')
      stack.append(call(function.full, arguments))
    elif name == 'BINPERSID' and persistent:
      stack.append(persistent(stack.pop()))
    elif name not in SKIPPED:
      _instruct(name, stack, items)


def _instruct(name, stack, items):
  """Follows one instruction that makes, fills or drops a value.

  Args:
    name: of the instruction.
    stack: changed in place.
    items: values above the last mark, for those of WITH_MARK.
  """
  pop, push = stack.pop, stack.append
  match name:
    case 'NONE' | 'NEWTRUE' | 'NEWFALSE':
      push({'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}[name])
    case 'EMPTY_TUPLE':
      push(())
    case 'EMPTY_LIST' | 'LIST':
      push(items or [])
    case 'EMPTY_DICT' | 'DICT':
      push(_fill({}, items or []))
    case 'EMPTY_SET' | 'FROZENSET':
      push(Other())
    case 'TUPLE':
      push(tuple(items))
    case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
      push(tuple(reversed([pop() for _ in range(int(name[-1]))])))
    case 'APPEND' | 'APPENDS':
      items = [pop()] if items is None else items
      if isinstance(stack[-1], list):
        stack[-1].extend(items)
    case 'SETITEM' | 'SETITEMS':
      items = [pop(), pop()][::-1] if items is None else items
      _fill(stack[-1], items)
    case 'BUILD' | 'POP':  # an object's state: of no use here
      pop()
    case 'DUP':
      push(stack[-1])
    case 'ADDITEMS' | 'POP_MARK':
      pass
    case _:
      raise ValueError(f'its pickle has the instruction {name}, refused here')


def _fill(target, items):
  """Puts key, value, key, value, ... into a dict; others stay as they are."""
  if isinstance(target, dict):
    if len(items) % 2:
      raise ValueError('its pickle has a key without a value')
    pairs = zip(items[::2], items[1::2], strict=True)
    # Only keys that can be part of a name: a nested tuple's hash takes ages.
    target.update((k, v) for k, v in pairs if isinstance(k, (str, int)))
  return target


def _name(names, module, attribute):
  """A listed name, or a ValueError."""
  if type(module) is not str or type(attribute) is not str:
    raise ValueError('its pickle asks for a name that is no string')
  full = f'{module}.{attribute}'
  if full not in names:
    raise ValueError(
      f'its pickle asks for {full[:80]!r}, which is no part of a tensor, and'
      ' was not executed; if you trust the file, load it with torch and save'
      ' its state_dict alone'
    )
  return Name(full)
