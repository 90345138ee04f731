"""What is public says what it is: docstrings and types, from the source."""

import ast
import pathlib
import re

import punt_jax
from punt_jax import samplers, schedules

ROOT = pathlib.Path(punt_jax.__file__).parent
LISTED = re.compile(r'^  ((?:\*{0,2}\w+(?:, )?)+):', re.MULTILINE)


def parameters(function):
  """{name, with its stars: annotation or None}, without self."""
  own = function.args
  found = {x.arg: x.annotation for x in [*own.posonlyargs, *own.args]}
  found |= {f'*{own.vararg.arg}': own.vararg.annotation} if own.vararg else {}
  found |= {x.arg: x.annotation for x in own.kwonlyargs}
  found |= {f'**{own.kwarg.arg}': own.kwarg.annotation} if own.kwarg else {}
  for own_name in ('self', 'cls'):
    found.pop(own_name, None)
  return found


def described(function):
  """The names under Args of its docstring; None without Args."""
  _, args, rest = (ast.get_docstring(function) or '').partition('Args:\n')
  lines = rest.split('\n\n')[0]
  return ', '.join(LISTED.findall(lines)).split(', ') if args else None


def faults(node, where):
  """What is missing in a module or class, a sentence each."""
  for part in node.body:
    name = f'{where}.{getattr(part, "name", "")}'
    private = name.split('.')[-1].startswith('_')
    if isinstance(part, ast.ClassDef) and not private:
      if not ast.get_docstring(part):
        yield f'{name} has no docstring'
      yield from faults(part, name)
    called = name.endswith(('__call__', '__init__'))
    if not isinstance(part, ast.FunctionDef) or (private and not called):
      continue
    if not (called or ast.get_docstring(part) or name.endswith('.setup')):
      yield f'{name} has no docstring'
    untyped = [x for x, kind in parameters(part).items() if kind is None]
    if untyped:
      yield f'{name}: no annotation of {", ".join(untyped)}'
    if part.returns is None and part.name not in ('__init__', 'setup'):
      yield f'{name}: no annotation of what it returns'
    told = described(part)
    if told is not None and told != list(parameters(part)):
      yield f'{name}: Args has {told}, the signature {[*parameters(part)]}'


def trees():
  """{path in punt_jax: syntax tree}."""
  return {
    file.relative_to(ROOT).as_posix(): ast.parse(file.read_text('utf-8'))
    for file in sorted(ROOT.rglob('*.py'))
  }


def test_public_names_are_documented_and_typed():
  found = [
    fault for path, tree in trees().items() for fault in faults(tree, path)
  ]
  assert found == []


def test_every_hyperparameter_of_a_sampler_is_described():
  lists = {}
  for path, tree in trees().items():
    if path.startswith('samplers/'):
      lists |= {
        x.name: x for x in tree.body if isinstance(x, ast.FunctionDef)
      }
  for name in samplers.NAMES:
    text = ast.get_docstring(lists[name])
    named = set(described(lists[name]) or re.findall(r'`(\w+)`', text))
    assert named >= set(parameters(lists[name])), name


def test_what_all_lists_is_there_and_says_what_it_is():
  from punt_jax import checkpoints, models, oracles
  for module in (punt_jax, checkpoints, models, oracles, samplers, schedules):
    names = module.__all__
    assert len(names) == len(set(names))
    for name in names:
      thing = getattr(module, name)
      if callable(thing):
        assert thing.__doc__, f'{module.__name__}.{name}'


def test_a_fault_is_found():
  source = '''
def f(a: int, b, *rest: int, **more: int) -> int:
  """Sums.

  Args:
    a: one.
    *rest, **more: others.
  """

class C:
  """A class."""

  def __call__(self, x): ...

  def g(self, y: int): ...

  def _h(z): ...
'''
  assert list(faults(ast.parse(source), 'm')) == [
    'm.f: no annotation of b',
    "m.f: Args has ['a', '*rest', '**more'], the signature"
    " ['a', 'b', '*rest', '**more']",
    'm.C.__call__: no annotation of x',
    'm.C.__call__: no annotation of what it returns',
    'm.C.g has no docstring',
    'm.C.g: no annotation of what it returns',
  ]


def test_checkers_are_told_of_the_types():
  assert (ROOT / 'py.typed').is_file()
  assert "'py.typed'" in (ROOT.parent / 'setup.py').read_text('utf-8')
