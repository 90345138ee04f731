"""Our samplers write what the published loops of block models write.

Of Fast-dLLM v2 one thing differs: there the first token of a block is written
before the block is asked about, however unsure it is; here it waits its turn
like any other (`seeded=False`).
"""

import functools

import jax
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.checkpoints import huggingface
from tests.helpers import families, numpy_decoder, parity, published

ROWS, L = 8, 20
TAUS = 0.1, 0.25, 0.4, 2.0  # from most at once to one by one
INSIDE = 2  # positions of a sub-block


def in_parts(tau):
  return samplers.blocks(samplers.threshold(tau), INSIDE, aligned=True)


def canvases(plan):
  """Prompts of 1 to ROWS tokens, whole blocks behind them; some padding."""
  block, draw = plan.module.block_length, np.random.default_rng(1)
  tokens = np.full((ROWS, L), plan.vocab, np.int32)
  valid = np.ones((ROWS, L), bool)
  for row in range(ROWS):
    count = row + 1
    left = (L - count * plan.module.anchored) % block + block * (row % 2)
    valid[row, :left] = False
    tokens[row, left : left + count] = draw.integers(0, plan.mask, count)
  return tokens, valid


@pytest.mark.slow
@pytest.mark.parametrize('name, loop, inner', [
  ('sdar', published.llada2, samplers.threshold),
  ('llada2', published.llada2, samplers.threshold),
  ('nemotron', published.nemotron, samplers.threshold),
  (
    'fast_dllm',
    functools.partial(published.fast_dllm, inside=INSIDE, seeded=False),
    in_parts,
  ),
])
def test_same_tokens(name, loop, inner):
  plan = huggingface.layout(families.SMALL[name])
  plan = plan._replace(module=plan.module.clone(dtype='float32'))
  arrays = parity.arrays(plan)
  net = numpy_decoder.Net(families.SMALL[name], arrays)

  def build(params, hyperparams):
    sampler = samplers.blocks(
      inner(hyperparams['tau']), plan.module.block_length, aligned=True
    )
    model = huggingface.denoiser(plan, params)
    return punt_jax.temper(model, 0.0), sampler

  run = punt_jax.compile(build)
  tokens, valid = canvases(plan)
  params, key = parity.parameters(plan, arrays), jax.random.key(0)
  steps = []
  for tau in TAUS:
    hyperparams = dict(tau=np.float32(tau))
    out = run(params, hyperparams, key, tokens, valid=valid)
    found = np.asarray(out.tokens)
    for row, keep in enumerate(valid):
      prompt = tokens[row, keep & (tokens[row] < plan.vocab)]
      wanted = loop(net, plan.mask, prompt, keep.sum(), tau)
      np.testing.assert_array_equal(found[row, keep], wanted)
    steps.append(int(out.steps.sum()))
  assert steps[0] < steps[-1]
