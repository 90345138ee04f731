"""Who may import what: read from the source, nothing is executed."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = ('punt_jax', 'train', 'experiments', 'configs')
LAYOUT = (  # one line a floor; a folder stands for everything in it
  'files checks scores bits rows places corruption extras',
  'types jsonl',
  'text viz contract',
  'denoiser readout select decode canvas parallel',
  'block_cache sampler schedules api',
  'kv_cache narrow leap search models oracles',
  'samplers checkpoints metrics',
  '',  # punt_jax itself: __init__.py, the public face of the library
  'generation',
  'cli',
)
FLOORS = {
  f'punt_jax.{name}': floor
  for floor, names in enumerate(LAYOUT) for name in names.split()
}
FLOORS |= {'punt_jax': 7, 'train': 10, 'experiments': 11, 'configs': 12}


def modules(root, folders=CODE):
  """{dotted name: syntax tree} of every Python file in the folders."""
  trees = {}
  for folder in folders:
    for path in sorted((root / folder).rglob('*.py')):
      parts = path.relative_to(root).with_suffix('').parts
      name = '.'.join(parts).removesuffix('.__init__')
      trees[name] = ast.parse(path.read_text(encoding='utf-8'))
  return trees


def imports(tree):
  """(a, None) for each `import a`, (a, b) for each `from a import b`."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, None
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'relative import: {ast.unparse(node)}'
      for alias in node.names:
        yield node.module, alias.name


def edges(trees, known):
  """{module: the project's modules it imports}, the closest name of each."""
  graph = {}
  for name, tree in trees.items():
    graph[name] = set()
    for base, member in imports(tree):
      full = f'{base}.{member}'
      target = full if full in known else base
      if target.split('.')[0] in FLOORS:
        graph[name].add(target)
  return graph


def place(module):
  """(unit, floor) of a module: its unit is the longest name in FLOORS."""
  parts = module.split('.')
  names = ['.'.join(parts[:n]) for n in range(len(parts), 0, -1)]
  unit = next(name for name in names if name in FLOORS)
  if unit == 'punt_jax' and module != unit:
    raise AssertionError(f'{module} has no floor: give it one in LAYOUT')
  return unit, FLOORS[unit]


def breaches(trees):
  """Sentences about imports that go up, sideways or round in a circle."""
  graph = edges(trees, set(trees))
  said = []
  for name, targets in graph.items():
    unit, floor = place(name)
    for target in sorted(targets):
      if name == 'punt_jax' or target == name:
        continue
      its_unit, its_floor = place(target)
      if its_floor >= floor and its_unit != unit:
        said.append(
          f'{name} (floor {floor}) imports {target} (floor {its_floor})'
        )
      elif strangers(name, target):
        said.append(f'{name} imports {target}, which is another room')
  inside = {
    name: {t for t in targets if t != name and place(t) == place(name)}
    for name, targets in graph.items()
  }
  try:
    graphlib.TopologicalSorter(inside).prepare()
  except graphlib.CycleError as error:
    said.append('a circle of imports: ' + ' -> '.join(error.args[1]))
  return said


def strangers(module, target):
  """Whether one may not import the other, whatever their floors."""
  (top, room, *_), (other, its, *_) = (
    [*name.split('.'), ''] for name in (module, target)
  )
  if top == 'configs':
    return other != 'punt_jax'
  if top == other == 'experiments':
    return its not in {room, 'common', room != 'common' and 'punt_variants'}
  inside = 'punt_jax.samplers.'
  return module.startswith(inside) and target.startswith(inside)


def named(tree):
  """Every identifier in a module: names, attributes, imported names."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Name):
      yield node.id
    elif isinstance(node, ast.Attribute):
      yield node.attr
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
      for alias in node.names:
        yield from alias.name.split('.')
      yield from (getattr(node, 'module', None) or '').split('.')


def who_names(trees, words):
  """Modules in which one of the identifiers occurs."""
  return {name for name, tree in trees.items() if words & set(named(tree))}


def top_level(tree):
  """Names of the packages imported when the module is imported."""
  nodes = list(tree.body)
  while nodes:
    node = nodes.pop()
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      yield from (base.split('.')[0] for base, _ in imports(node))
    elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      nodes.extend(ast.iter_child_nodes(node))


def test_imports_go_down():
  trees = modules(ROOT)
  assert len(trees) > 20
  assert breaches(trees) == []


def test_pmap_and_shard_map_stay_in_three_files():
  names = who_names(modules(ROOT), {'pmap', 'shard_map'})
  experts = 'punt_jax.models.grouped'  # each on the device that has it
  assert names <= {'punt_jax.parallel', 'train.step', experts}


@pytest.mark.parametrize('package, rooms', [
  ('matplotlib', r'punt_jax\.(viz\..*|cli\.plots)|.*\.plot'),
  ('absl', r'punt_jax\.cli\..*|train\..*|experiments\..*'),
  ('ml_collections', r'punt_jax\.cli\..*|train\..*|configs\..*'),
  ('pickle', r'punt_jax\.checkpoints\.torch_files'),
  ('torch', r'experiments\.bench\..*'),
])
def test_packages_stay_in_their_rooms(package, rooms):
  for name, tree in modules(ROOT).items():
    if any(base.split('.')[0] == package for base, _ in imports(tree)):
      assert re.fullmatch(rooms, name), f'{name} imports {package}'


def test_nothing_imports_torch_at_top_level():
  for name, tree in modules(ROOT, (*CODE, 'tests')).items():
    assert 'torch' not in set(top_level(tree)), name


def test_rooms_of_experiments_are_small():
  for folder in filter(pathlib.Path.is_dir, (ROOT / 'experiments').iterdir()):
    assert len(list(folder.glob('*.py'))) <= 8, folder


@pytest.mark.parametrize(
  'files, said',
  [
    ({'punt_jax.select': 'from punt_jax import types'}, []),
    ({'experiments.a.b': 'from experiments.common import c'}, []),
    (
      {'experiments.a.b': 'from experiments.c import d'},
      ['experiments.a.b imports experiments.c, which is another room'],
    ),
    (
      {'configs.a': 'from train import step'},
      ['configs.a imports train, which is another room'],
    ),
    (
      {'punt_jax.bits': 'def f():\n  from punt_jax import decode'},
      ['punt_jax.bits (floor 0) imports punt_jax.decode (floor 3)'],
    ),
    (
      {'punt_jax.bits': 'import punt_jax.scores'},
      ['punt_jax.bits (floor 0) imports punt_jax.scores (floor 0)'],
    ),
    (
      {'punt_jax.decode': 'import punt_jax'},
      ['punt_jax.decode (floor 3) imports punt_jax (floor 7)'],
    ),
    (
      {'punt_jax.api': 'from train import step'},
      ['punt_jax.api (floor 4) imports train (floor 10)'],
    ),
  ],
)
def test_a_breach_is_found(files, said):
  known = {f'punt_jax.{name}': ast.parse('') for name in ('types', 'rows')}
  known |= {f'punt_jax.{name}': ast.parse('') for name in ('decode', 'bits')}
  trees = known | {name: ast.parse(text) for name, text in files.items()}
  assert breaches(trees) == said


def test_a_circle_is_found():
  files = {'train.a': 'from train import b', 'train.b': 'import train.a'}
  (said,) = breaches({name: ast.parse(text) for name, text in files.items()})
  assert said.startswith('a circle of imports: ')


def test_a_file_without_a_floor_is_found():
  with pytest.raises(AssertionError, match='punt_jax.new has no floor'):
    breaches({'punt_jax.new': ast.parse('import punt_jax.types')})


def test_reading_of_imports_and_names():
  text = 'import torch.nn\ndef f():\n  import pickle\n  jax.pmap(1)\n'
  tree = ast.parse(text + 'try:\n  from numpy import array\nexcept E:\n  pass')
  assert set(top_level(tree)) == {'torch', 'numpy'}
  assert who_names({'m': tree}, {'pmap'}) == {'m'}
  assert who_names({'m': tree}, {'shard_map'}) == set()
