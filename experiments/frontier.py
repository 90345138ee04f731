"""The frontier: what each sampler pays in forward passes for how much error.

  python -m experiments.frontier --config=configs/frontier_chain.py \\
    --workdir=runs/frontier

Sweeps the knobs of each sampler on a Markov chain and on the same chain with
its positions shuffled. The chain is an exact model, so all error is the
sampler's. Each sampler is compiled once for all knobs and both worlds. Writes
results.jsonl (a row per world, sampler and setting; a run that was stopped goes
on) and frontier.png.
"""

import itertools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from experiments import curves, door, results
from punt_jax import metrics, oracles, samplers
from punt_jax.select import in_range, known
from train import command

# World -> (key, L) -> which position of the chain each position shows.
ORDERS = {
  'chain': lambda key, length: jnp.arange(length),
  'permuted': jax.random.permutation,
}


def sweep(settings):
  """{sampler: {knob: a value or several}} -> door.Choice of each combination.

  They come in the order of samplers.__all__; those that share a compilation
  (a sampler and its words) stand together.

  Raises:
    ValueError: one sentence about an unknown sampler or a bad knob.
  """
  choices = []
  for name, knobs in settings.items():
    values = [
      value if isinstance(value, (tuple, list)) else (value,)
      for value in knobs.values()
    ]
    for setting in itertools.product(*values):
      choices.append(door.choose(name, dict(zip(knobs, setting, strict=True))))
  listed = samplers.__all__.index
  programs = list(dict.fromkeys(program(choice) for choice in choices))
  return sorted(
    choices, key=lambda c: (listed(c.name), programs.index(program(c)))
  )


def program(choice):
  """What is fixed when a choice is compiled."""
  return choice.name, tuple(choice.words.items())


def world_of(config, params):
  """The world that params, (key of the chain, order), stand for."""
  key, order = params
  chain = oracles.random_chain(key, config.length, config.vocab, config.beta)
  return oracles.permuted(chain, order)


def worlds(config):
  """{name: params} of the worlds of this run."""
  key, order_key = jax.random.split(jax.random.key(config.seed))
  return {
    name: (key, ORDERS[known('world', name, ORDERS)](order_key, config.length))
    for name in config.worlds
  }


def compile_one(config, choice):
  """run(params, knobs, key, tokens) for every knob and world."""

  def build(params, knobs):
    model = oracles.as_denoiser(world_of(config, params))
    return model, choice.make(knobs)

  return punt_jax.compile(build)


def measure(world, decoded, given):
  """The numbers of a row of results.jsonl; standard errors end in _error.

  The gap is in nats per canvas, the excess NLL in nats per token, both over
  the rows that are possible.
  """
  gap = metrics.factorization_gap(world, decoded.log_q, decoded.tokens, given)
  excess = metrics.excess_nll(world, decoded.tokens)
  possible = np.isfinite(gap)
  unigram = metrics.unigram_tv(world, decoded.tokens)
  nfe = metrics.spread(decoded.meter.nfe)
  row = {
    'nfe': nfe.mean,
    'nfe_error': nfe.stderr,
    'nfe_low': nfe.low,
    'nfe_median': nfe.median,
    'nfe_high': nfe.high,
    'depth': float(decoded.meter.depth.mean()),
    'steps': float(decoded.steps.mean()),
    'forwards': decoded.meter.forwards.tolist(),
    'impossible': metrics.impossible_share(world, decoded.tokens).mean,
    'unigram_tv': unigram.mean,
    'unigram_tv_error': unigram.stderr,
    'unigram_tv_floor': unigram.floor,
  }
  for name, values in (('gap', gap), ('excess_nll', excess)):
    found = metrics.estimate(values[possible])
    row |= {name: found.mean, f'{name}_error': found.stderr}
  return row


def run(config, workdir):
  """The whole sweep. Returns the rows of results.jsonl."""
  for name in ('rows', 'length', 'vocab'):
    in_range(name, config[name], 2)
  choices = sweep(config.samplers.to_dict())
  params = worlds(config)
  workdir = pathlib.Path(workdir)
  rows = results.resume(workdir, config)
  done = {(row['world'], row['sampler'], row['label']) for row in rows}
  todo = [
    (choice, name) for choice, name in itertools.product(choices, params)
    if (name, choice.name, str(choice)) not in done
  ]
  exact = {name: world_of(config, params[name]) for name in params}
  for _, group in itertools.groupby(todo, lambda pair: program(pair[0])):
    group = list(group)
    decode = compile_one(config, group[0][0])
    for choice, name in group:
      rows.append(fill(config, choice, name, exact[name], decode, params[name]))
      results.add(workdir, rows[-1])
      print(progress(rows[-1], len(rows), len(choices) * len(params)))
  curves.write(
    workdir / 'frontier.png', rows,
    f'Error against cost on an exact model, {config.length} tokens of'
    f' {config.vocab} kinds, {config.rows} samples: lower left is better',
  )
  print(f'in {workdir}: frontier.png, results.jsonl')
  return rows


def fill(config, choice, name, world, decode, params):
  """The row of results.jsonl about one choice in one world."""
  tokens = np.full((config.rows, config.length), config.vocab, np.int32)
  knobs = {knob: float(value) for knob, value in choice.knobs.items()}
  key = jax.random.fold_in(jax.random.key(config.seed), 2)
  start = time.perf_counter()
  decoded = jax.tree.map(np.asarray, decode(params, knobs, key, tokens))
  seconds = time.perf_counter() - start
  return {
    'world': name,
    'sampler': choice.name,
    'label': str(choice),
    'settings': {**choice.knobs, **choice.words},
    **measure(world, decoded, tokens),
    'seconds': seconds,  # the first row of a program with its compilation
    **{key: config[key] for key in ('rows', 'length', 'vocab', 'beta')},
    **results.origin(config.seed),
  }


def progress(row, done, total):
  """A line about a row that is finished."""
  return (
    f'{done:3d}/{total} {row["world"]:9}{row["sampler"]:14}{row["label"]:37}'
    f'{row["nfe"]:6.1f} passes, gap {row["gap"]:7.3f} +- '
    f'{row["gap_error"]:.3f}, unigram TV {row["unigram_tv"]:.3f}'
  )


if __name__ == '__main__':
  command.run_config(run)
