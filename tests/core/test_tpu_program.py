"""What a TPU's compiler makes of a decode in blocks; no TPU is needed."""

import math
import re

import jax
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import punt_jax
from punt_jax.cli import random_checkpoint
from tests.helpers.grids import V, build_for, plan_of, shapes_of

ROWS, L = 8, 544  # no other size of the network


@pytest.mark.slow
def test_one_copy_of_the_cache(monkeypatch):
  """Its keys and values are written in place, and never copied in a loop."""
  pytest.importorskip('libtpu', reason='needs libtpu, pip install jax[tpu]')
  for name in ('TPU_SKIP_MDS_QUERY', 'ALLOW_MULTIPLE_LIBTPU_LOAD'):
    monkeypatch.setenv(name, '1')
  device = topologies.get_topology_desc('v6e:2x2', platform='tpu').devices[0]
  place = SingleDeviceSharding(device)
  put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
  like = lambda shape, kind: put(jax.ShapeDtypeStruct(shape, kind))
  config = random_checkpoint.describe('sdar', 'tiny', V)
  wide = dict(head_dim=128, num_key_value_heads=4, block_length=32)
  plan = plan_of(config | wide, 'bfloat16')
  flags = like((ROWS, L), 'bool')
  program = punt_jax.compile(build_for(plan, 'threshold', None)).lower(
    jax.tree.map(put, shapes_of(plan)), dict(threshold=like((), 'float32')),
    like((), jax.random.key(0).dtype), like((ROWS,), 'int32'),
    like((ROWS, L), 'int32'), flags, flags,
  ).compile()
  net = plan.module
  numbers = net.layers * ROWS * L * net.groups * net.size
  made = {'entry': [], 'loop': []}  # operations that give a cache
  where = 'loop'
  for line in program.as_text().splitlines():
    if head := re.match(r'(ENTRY )?%\S+ \(.*\{$', line):
      where = 'entry' if head[1] else 'loop'
    found = re.match(r'\s+(ROOT )?%\S+ = bf16\[([\d,]+)\]\S* ([\w-]+)\(', line)
    dims = [int(x) for x in found[2].split(',')] if found else []
    if {L, ROWS * L} & set(dims) and math.prod(dims) == numbers:
      made[where].append(found[3])
  assert made['loop'].count('scatter') >= 2  # of keys and of values
  assert not {'copy', 'copy-start', 'transpose'} & set(made['loop']), made
