"""Clocks of the benchmarks: a decode beside its forward passes; their tables.

Other programs disturb a clock, so what is compared runs alternately and medians
of ratios are kept.
"""

import os
import pathlib
import platform
import time

import jax
import numpy as np

import punt_jax
from experiments.common import columns
from punt_jax.checks import in_range
from punt_jax.generation import options
from punt_jax.viz import table as table_lib


def choices(samplers, repeats):
  """{name: options.Choice} of config.samplers.

  Raises:
    ValueError: one sentence about them, or about how often is measured.
  """
  in_range('repeats', repeats, 1)
  listed = samplers.to_dict().items()
  return {name: options.choose(name, settings) for name, settings in listed}


def seconds(run):
  """Wall time of one call."""
  start = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - start


def decode_of(choice, denoiser, params, tokens, temperature, steps, seed):
  """(decode, lowered) of a sampler.

  Args:
    choice: options.Choice.
    denoiser: params -> Denoiser.
    params: tree of arrays.
    tokens: (B, L) canvas with ids in [0, V].
    temperature: of the drafts.
    steps: after which it is cut.
    seed: of the drafts.
  """
  vocab = denoiser(params).vocab

  def build(params, hyperparams):
    model = punt_jax.temper(denoiser(params), hyperparams['temperature'])
    return model, choice.make(hyperparams['sampler'])

  hyperparams = dict(sampler=choice.traced, temperature=temperature)
  args = params, hyperparams, jax.random.key(seed)
  run = punt_jax.compile(build, steps)
  rows = np.arange(len(tokens), dtype=np.int32)
  lowered = run.lower(
    *args, rows, tokens, tokens != vocab, np.ones(tokens.shape, bool)
  )
  return lambda: run(*args, tokens), lowered


def overhead(forward, decode, decoded, repeats):
  """Times decode and forward alternately; overhead = wall / forwards.

  Args:
    forward: runs one forward pass.
    decode: runs a decode.
    decoded: what it gave, once.
    repeats: timed rounds, after one that warms up.

  Returns:
    dict: what the decode cost, medians, and the range of the overhead.
  """
  alone, walls, ratios = [], [], []
  for _ in range(repeats + 1):
    before, wall, after = map(seconds, (forward, decode, forward))
    alone.append((before + after) / 2)
    walls.append(wall)
    ratios.append(wall / (int(decoded.meter.forwards[0]) * alone[-1]))
  alone, walls, ratios = alone[1:], walls[1:], ratios[1:]
  return dict(
    **columns.cost(decoded),
    overhead=float(np.median(ratios)),
    overhead_lowest=min(ratios),
    overhead_highest=max(ratios),
    forward_seconds=float(np.median(alone)),
    seconds=float(np.median(walls)),
    **machine(),
  )


def matmul_peak(dtype, repeats=5):
  """FLOP/s of the fastest of some large square matrix products."""
  on_cpu = jax.default_backend() == 'cpu'
  product = jax.jit(lambda a, b: a @ b)
  best = 0.0
  for n in (1024, 2048) if on_cpu else (4096, 8192, 16384):
    a = jax.random.normal(jax.random.key(n), (n, n), dtype)
    product(a, a).block_until_ready()
    time_ = min(seconds(lambda a=a: product(a, a)) for _ in range(repeats))
    best = max(best, 2 * n**3 / time_)
  return best


def program_bytes(compiled):
  """What a compiled program holds at once: arguments, results and scratch."""
  said = compiled.memory_analysis()
  return (
    said.argument_size_in_bytes + said.output_size_in_bytes
    - said.alias_size_in_bytes + said.temp_size_in_bytes
  )


def device_peak():
  """Most bytes that this process ever held on its device, or None."""
  return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')


def machine():
  """The device and the processor in words, and how busy it is."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.split(':')[1].strip() for x in lines if x.startswith('model name')]
  cpu = f'{(names or [platform.machine()])[0]}, {os.cpu_count()} threads'
  kind = jax.local_devices()[0].device_kind
  words = cpu if kind == 'cpu' else f'{kind}; {cpu}'
  return {'machine': words, 'load': os.getloadavg()[0]}


def table(forms, rows):
  """Rows as a table; forms: {head: what a cell says, a format of a row}."""
  cells = [[form.format(**row) for form in forms.values()] for row in rows]
  return table_lib.table(forms, cells)
