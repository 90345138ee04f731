"""One of two processes that decode together; core/test_mesh.py starts them.

  python -m tests.helpers.hosts PORT INDEX FOLDER
"""

import pathlib
import sys

import jax
import numpy as np

import punt_jax
from punt_jax import checkpoints, parallel, samplers
from punt_jax.checkpoints import huggingface, saving
from punt_jax.models import sharding

KEY, ROWS, L = 5, 5, 12


def job(vocab):
  """(tokens, valid): left-padded prompts of several lengths, (ROWS, L)."""
  tokens = np.random.default_rng(0).integers(0, 250, (ROWS, L))
  at = np.arange(L)
  padding = np.array([0, 3, 0, 5, 1])[:, None]
  prompt = padding + np.array([4, 2, 9, 3, 5])[:, None]
  tokens = np.where(at < prompt, tokens, vocab)
  return tokens, np.broadcast_to(at, tokens.shape) >= padding


def building(denoiser):
  """A build function with two numbers, for a loaded model's denoiser."""

  def build(params, hyperparams):
    model = punt_jax.temper(denoiser(params), hyperparams['temperature'])
    return model, samplers.threshold(hyperparams['tau'])

  return build


HYPERPARAMS = dict(tau=0.12, temperature=0.7)


def main(port, index, where):
  """Decodes the job in three ways, and reads a checkpoint; writes arrays."""
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(index))
  where = pathlib.Path(where)
  key, found = jax.random.key(KEY), {}
  alone = checkpoints.load(where / 'model')
  tokens, valid = job(alone.text.vocab)
  build = building(alone.denoiser)
  mine = parallel.my_rows(ROWS)
  run = punt_jax.compile(build, devices=jax.local_devices())
  out = run(
    alone.params, HYPERPARAMS, key, tokens[mine], valid=valid[mine], rows=mine
  )
  found['split'] = out.tokens
  for name, shape in (('inside', (2, 2)), ('across', (1, 4))):
    mesh = parallel.mesh(*shape)
    loaded = checkpoints.load(where / 'model', mesh=mesh)
    run = punt_jax.compile(build, mesh=mesh)
    out = run(loaded.params, HYPERPARAMS, key, tokens, valid=valid)
    found[name] = out.tokens
  plan = huggingface.layout(loaded.card)
  like = sharding.like(plan.module, alone.params, mesh)
  manager = saving.open_checkpoints(where / 'saved')
  params, _ = saving.restore(manager, like)
  jax.tree.map(_equal_here, alone.params, params)
  found['parts'] = np.array(
    params['blocks']['gate']['kernel'].addressable_shards[0].data.shape
  )
  np.savez(where / f'{index}.npz', **found)


def _equal_here(whole, split):
  for shard in split.addressable_shards:
    np.testing.assert_array_equal(np.asarray(whole)[shard.index], shard.data)


if __name__ == '__main__':
  main(*sys.argv[1:])
