"""Mutation testing: a seeded sample of cosmic-ray's mutants of the core.

  pip install cosmic-ray
  python tests/mutation/sample.py --out mutants.jsonl
  python tests/mutation/sample.py --out mutants.jsonl --survivors

Each file of FILES gives `--share` of its places, 3 to 14, and each place one
of its mutants, both drawn with the seed. Annotations, docstrings and what a
`raise` says are left out. A copy of the checkout is changed, and the tests
that concern the file (TESTS) run with -x; a run that takes too much CPU time
counts as killed. A second call goes on where the first was stopped. --survivors
runs the survivors once more, with the tests of today, slow ones included.
"""

import argparse
import ast
import importlib
import json
import os
import pathlib
import random
import re
import resource
import runpy
import shutil
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CORE = ('bits', 'decode', 'kv_cache', 'readout', 'select')
FILES = (
  *(f'punt_jax/{name}.py' for name in CORE),
  *(
    str(path.relative_to(ROOT)) for folder in ('samplers', 'schedules')
    for path in sorted((ROOT / 'punt_jax' / folder).glob('*.py'))
    if path.stem != '__init__'
  ),
)
# The tests that concern a file, in tests/. Of the battery, which has every
# sampler, only those of BATTERY: the sampler itself, or a few that use it.
BATTERY = {
  'bits': 'punt', 'decode': 'punt or p2', 'select': 'punt or top_k or learned',
  'readout': 'punt', 'kv_cache': 'nothing', 'counts': 'uniform',
  'sizes': 'nothing', 'information': 'nothing',
}
EVERY = 'samplers/test_defaults.py', 'samplers/test_battery.py'
RULES = 'samplers/test_rules.py'
LEAP = 'samplers/test_leap.py'
MEMORY = 'samplers/test_memory_rules.py'
AHEAD = 'samplers/test_lookahead.py'
REMASK = 'samplers/test_remasking.py'
SIZES = 'samplers/test_random_size.py'
ATTEND = 'samplers/test_attention_rules.py'
CONTRACT = 'samplers/test_contract.py'
SCHEDULES = 'schedules/test_schedules.py'
TESTS = {
  'bits': ('samplers/test_punt.py', 'core/test_readout.py'),
  'decode': ('core/test_decode.py', 'core/test_sample.py', CONTRACT),
  'kv_cache': ('core/test_kv_cache.py',),
  'readout': ('core/test_readout.py', 'core/test_denoiser.py'),
  'select': (RULES, 'core/test_decode.py', ATTEND, CONTRACT),
  'counts': (SCHEDULES, RULES), 'sizes': (SCHEDULES,),
  'information': (SCHEDULES,),
  'adaptive_parallel': (CONTRACT, 'core/test_denoiser.py'),
  'adas': (ATTEND, CONTRACT), 'dapd': (ATTEND, CONTRACT),
  'ancestral': (LEAP,), 'euler': (LEAP,), 'first_hitting': (LEAP,),
  'remdm': (LEAP, CONTRACT), 'blocks': ('samplers/test_wrappers.py',
  'core/test_kv_cache.py', 'core/test_decode.py', CONTRACT),
  'credit': (MEMORY,), 'frechet': (MEMORY,), 'klass': (MEMORY,),
  'slowfast': (MEMORY, CONTRACT), 'lookahead': (AHEAD,), 'info_gain': (AHEAD,),
  'hierarchical': (REMASK, CONTRACT), 'p2': (REMASK, CONTRACT),
  'influence': ('samplers/test_influence.py', CONTRACT),
  'learned': (CONTRACT, 'train/test_orders.py'),
  'punt': ('samplers/test_punt.py', CONTRACT),
  'random_order': (SIZES,), 'random_size': (SIZES,),
  'smc': ('samplers/test_smc.py',), 'speculative': (CONTRACT,),
  'stop': ('samplers/test_wrappers.py', LEAP),
}  # others: test_rules.py


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--share', type=float, default=0.13)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--limit', type=int, default=300, help="CPU's seconds")
  parser.add_argument('--jobs', type=int, default=1, help='processes at a time')
  parser.add_argument('--survivors', action='store_true')
  args = parser.parse_args()
  if not args.out.exists():
    lines = (json.dumps(row) + '\n' for row in mutants(args))
    args.out.write_text(''.join(lines))
  wanted = 'survived' if args.survivors else None
  todo = [row for row in last_of(args.out) if row.get('fate') == wanted]
  sys.dont_write_bytecode = True  # it could be taken for another mutant's
  runpy.run_path(str(ROOT / 'tests/conftest.py'))  # before jax is imported
  importlib.import_module('flax.linen')
  workers = []
  for part in range(args.jobs):
    workers.append(os.fork())
    if not workers[-1]:
      work(todo[part :: args.jobs], args)
      os._exit(0)
  for worker in workers:
    os.waitpid(worker, 0)
  report(last_of(args.out))


def work(todo, args):
  """Runs mutant after mutant in a copy of the checkout."""
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder, 'checkout')
    kept = '.git', '__pycache__', '.*_cache', 'shared'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*kept))
    for i, row in enumerate(todo):
      path = copy / row['file']
      original = path.read_text()
      path.write_text(applied(row, original))
      row = row | run(copy, path.stem, args) | dict(slow=args.survivors)
      path.write_text(original)
      with args.out.open('a') as out:
        out.write(json.dumps(row) + '\n')
      where = f'{i + 1}/{len(todo)} {row["cpu"]} s'
      print(where, row['fate'], row['by'], shown(row), flush=True)


def run(copy, stem, args):
  """Its fate, the first test that failed, and seconds."""
  names = *EVERY, *TESTS.get(stem, (RULES,))
  only = BATTERY.get(stem, stem)
  command = [
    '-x', '-q', '-p', 'no:cacheprovider', '-k',
    f'not test_battery or {only}', *(f'tests/{name}' for name in names),
  ] + ['--slow'] * args.survivors
  with tempfile.TemporaryFile('w+') as said:
    child = os.fork()  # jax is imported by now: a third faster
    if not child:
      limit = args.limit * (1 + 2 * args.survivors)
      resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
      os.chdir(copy)
      sys.path[0] = str(copy)
      os.dup2(said.fileno(), 1)
      os.dup2(1, 2)
      os._exit(pytest.main(command))
    _, status, used = os.wait4(child, 0)
    said.seek(0)
    failed = re.findall(r'^(?:FAILED|ERROR) (\S+)', said.read(), re.MULTILINE)
  code = os.waitstatus_to_exitcode(status)
  fate = 'survived' if code == 0 else 'killed' if code > 0 else 'timeout'
  first = failed[0] if failed else str(code)
  return dict(fate=fate, by=first, cpu=round(used.ru_utime + used.ru_stime, 1))


def mutants(args):
  """The sample, in a random order: dicts of file, line, old and new."""
  from cosmic_ray.commands.init import init
  from cosmic_ray.mutating import mutate_code
  from cosmic_ray.plugins import get_operator
  from cosmic_ray.work_db import use_db

  found = []
  for file in FILES:
    rng = random.Random(f'{args.seed} {file}')
    source = (ROOT / file).read_text()
    silent = list(ranges(ast.parse(source)))
    places = {}
    with use_db(':memory:') as db:
      init([ROOT / file], db, {})
      for item in db.work_items:
        (spec,) = item.mutations
        if not any(a <= spec.start_pos < b for a, b in silent):
          places.setdefault(spec.start_pos, []).append(spec)
    order = sorted(places)
    rng.shuffle(order)
    want = min(14, max(3, round(args.share * len(order))))
    for place in order:
      spec = rng.choice(
        sorted(places[place], key=lambda x: (x.operator_name, x.occurrence))
      )
      operator = get_operator(spec.operator_name)()
      code = mutate_code(source, operator, spec.occurrence)
      if different(source, code):
        found.append(dict(file=file) | changed(source, code))
        want -= 1
      if not want:
        break
  random.Random(args.seed).shuffle(found)
  return found


def different(old, new):
  """Whether it is a program, and another one, with the same lines."""
  if new.count('\n') != old.count('\n'):  # a decorator that is gone
    return False
  try:
    return ast.dump(ast.parse(new)) != ast.dump(ast.parse(old))
  except (SyntaxError, TypeError):
    return False


def ranges(tree):
  """((line, column), (line, column)) of annotations and of raises."""
  for node in ast.walk(tree):
    own = [getattr(node, 'annotation', None), getattr(node, 'returns', None)]
    own += [node] if isinstance(node, ast.Raise) else []
    for part in filter(None, own):
      yield (
        (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
      )


def changed(source, code):
  """The first line that differs."""
  pairs = zip(source.splitlines(), code.splitlines(), strict=False)
  for line, (old, new) in enumerate(pairs):
    if old != new:
      return dict(line=line, old=old, new=new)
  raise ValueError('the programs are the same')


def applied(row, source):
  """The source of today with the mutant's line, wherever that stands now."""
  lines = source.splitlines()
  places = [i for i, line in enumerate(lines) if line == row['old']]
  if not places:
    raise ValueError(f'{row["file"]} has no line {row["old"]!r} any more')
  lines[min(places, key=lambda i: abs(i - row['line']))] = row['new']
  return '\n'.join(lines) + '\n'


def key(row):
  return row['file'], row['old'], row['new']


def shown(row):
  return f'{row["file"]} {row["old"].strip()} -> {row["new"].strip()}'


def last_of(out):
  """The mutants of a file, each as its last line tells of it."""
  rows = (json.loads(line) for line in out.read_text().splitlines())
  return list({key(row): row for row in rows}.values())


def report(rows):
  """Prints what was killed, with Wilson's interval of 95 %."""
  ran = [row for row in rows if row.get('fate')]
  alive = [row for row in ran if row['fate'] == 'survived']
  n, z = len(ran), 1.96
  rate = 1 - len(alive) / n
  middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
  spread = rate * (1 - rate) / n + z * z / (4 * n * n)
  half = z / (1 + z * z / n) * spread**0.5
  for row in sorted(alive, key=key):
    print('alive:', shown(row))
  print(
    f'{n} of {len(rows)} mutants have run, {n - len(alive)} are killed:'
    f' {100 * rate:.1f} % (95 %: {100 * (middle - half):.1f} to'
    f' {100 * (middle + half):.1f})'
  )


if __name__ == '__main__':
  main()
