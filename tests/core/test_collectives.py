"""Weights split over devices: who talks to whom in the compiled programs."""

import re

import jax
import numpy as np
import pytest

import punt_jax
from punt_jax import parallel
from punt_jax.cli import random_checkpoint
from punt_jax.models import sharding
from tests.helpers.grids import HYPERPARAMS, V, build_for, plan_of, shapes_of


def lowered(plan, build, mesh, rows=8, length=16):
  """A compiled decode; nothing is allocated."""
  canvas = jax.ShapeDtypeStruct((rows, length), 'int32')
  flags = jax.ShapeDtypeStruct((rows, length), 'bool')
  numbers = jax.ShapeDtypeStruct((rows,), 'int32')
  params = sharding.like(plan.module, shapes_of(plan), mesh)
  run = punt_jax.compile(build, mesh=mesh)
  batch = numbers, canvas, flags, flags
  return run.lower(params, HYPERPARAMS, jax.random.key(0), *batch).compile()


def talks(text):
  """[(operation, devices that take part)] of a compiled program's text."""
  found = []
  names = 'all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter'
  for line in text.splitlines():
    operation = re.search(rf' ({names})(-start)?\(', line)
    if operation is None:
      continue
    sets = re.search(r'(groups|pairs)=\{\{(.*?)\}\}', line)
    short = re.search(
      r'groups=\[([\d,]+)\]<=\[([\d,]+)\](T\(([\d,]+)\))?', line
    )
    mesh = re.search(r'groups=mesh\[([^]]+)\] \{(.*?)\}', line)
    assert sets or short or mesh, line
    if sets:
      groups = [g.split(',') for g in sets[2].split('},{')]
    elif mesh:  # sizes of axes, and those along which a group lies
      sizes = dict(axis.split('=') for axis in mesh[1].split(','))
      shape = [int(size) for size in sizes.values()]
      inner = [list(sizes).index(axis) for axis in mesh[2].split(',')]
      ids = np.arange(np.prod(shape)).reshape(shape)
      ids = np.moveaxis(ids, inner, range(-len(inner), 0))
      groups = ids.reshape(-1, np.prod(ids.shape[-len(inner):]))
    else:
      numbers = lambda part: [int(x) for x in part.split(',')]
      ids = np.arange(np.prod(numbers(short[2]))).reshape(numbers(short[2]))
      ids = ids.transpose(numbers(short[4])) if short[4] else ids
      groups = ids.reshape(numbers(short[1]))
    found += [(operation[1], sorted(map(int, group))) for group in groups]
  return found


def no_talk_between_groups(text, grid):
  """Collectives stay in a group, and wait for nobody outside of it."""
  found = talks(text)
  for name, devices in found:
    assert len({device // grid[1] for device in devices}) == 1, (name, devices)
    # A CPU's permute waits for every device of the program: a deadlock.
    assert name != 'collective-permute'
  assert any(len(devices) == grid[1] for _, devices in found)


def test_reading_of_groups():
  line = '%a = f32[2] {}(%b), channel_id=1, {}, x=1'
  for groups, want in (
    ('replica_groups={{0,2},{1,3}}', [[0, 2], [1, 3]]),
    ('replica_groups=[2,2]<=[4]', [[0, 1], [2, 3]]),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ('source_target_pairs={{0,1},{3,2}}', [[0, 1], [2, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'b','c'}", [[0, 1], [2, 3]]),
  ):
    text = line.format('all-reduce', groups)
    assert talks(text) == [('all-reduce', want[0]), ('all-reduce', want[1])]
  text = line.format('all-reduce', 'replica_groups={{0,2},{1,3}}')
  with pytest.raises(AssertionError):
    no_talk_between_groups(text, (2, 2))


@pytest.mark.slow
def test_groups_do_not_wait_for_each_other():
  plan = plan_of(random_checkpoint.describe('llada', 'tiny', V))
  build = build_for(plan, 'threshold', None)
  text = lowered(plan, build, parallel.mesh(4, 2)).as_text()
  assert 'while' in text
  layers = [line for line in text.splitlines() if '/blocks/' in line]
  assert {name for name, _ in talks('\n'.join(layers))} == {'all-reduce'}
  no_talk_between_groups(text, (4, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, vocab, window, grid',
  [
    ('llada', 126464, 8, (4, 2)),
    ('dream', 152064, None, (2, 4)),
    ('mdlm', 50258, None, (4, 2)),
    ('bert', 30522, None, (2, 4)),
  ],
)
def test_real_vocabularies_stay_in_a_group(name, vocab, window, grid):
  plan = plan_of(random_checkpoint.describe(name, 'tiny', vocab))
  inner = build_for(plan, 'punt', window)

  def build(params, hyperparams):
    model, sampler = inner(params, hyperparams)
    return punt_jax.top_p(punt_jax.temper(model, 0.5), 0.9), sampler

  text = lowered(plan, build, parallel.mesh(*grid), length=64).as_text()
  no_talk_between_groups(text, grid)
  if name in ('llada', 'dream'):  # no device sees all of the vocabulary
    assert f',{vocab}]' not in text and f'[{vocab},' not in text
    assert f',{vocab // grid[1]}]' in text
  if window and grid == (4, 2):  # the cache of one of two key heads
    assert 'f32[2,2,64,1,16]' in text and 'f32[2,2,64,2,16]' not in text


@pytest.mark.slow
def test_memory_per_device_falls():
  config = random_checkpoint.describe('llada', 'tiny', 8192)
  config |= dict(n_heads=8, n_kv_heads=8, mlp_hidden_size=4096)
  plan = plan_of(config)
  build = build_for(plan, 'punt', None)
  peak = []
  for model in (1, 2, 4, 8):
    mesh = parallel.mesh(1, model, jax.devices()[:model])
    memory = lowered(plan, build, mesh, rows=2).memory_analysis()
    peak.append(memory.argument_size_in_bytes + memory.temp_size_in_bytes)
  print('bytes per device', peak)
  assert peak[1] < 0.6 * peak[0] and peak[3] < 0.2 * peak[0]
