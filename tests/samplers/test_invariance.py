"""1,000 rows of an exact world: alone, in batches, padded, on several devices.

Tokens, their steps and the cost are the same to the bit, log_q up to XLA's
roundings, which differ between shapes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax.oracles import as_denoiser, table
from tests.helpers.attention import attending
from tests.samplers.test_battery import (
  ATTENTION,
  EXAMPLES,
  JOINT,
  LENGTH,
  NAMES,
  VOCAB,
  Case,
  make,
)

ROWS, CONTENT, ALONE = 1000, 4, 100
# One of each kind of step; the others are rules about one row.
KINDS = [
  'uniform', 'punt', 'influence', 'maskgit', 'random_size', 'remdm', 'p2',
  'credit', 'lookahead', 'speculative', 'dapd', 'blocks', 'smc',
]
KEY = jax.random.key(7)


def canvases(left):
  """(tokens, valid) of ROWS rows, some tokens given, padded on both sides."""
  rng = np.random.default_rng(0)
  shape = ROWS, CONTENT
  content = np.where(
    rng.random(shape) < 0.2, rng.integers(VOCAB, size=shape), VOCAB
  )
  pad = (0, 0), (left, LENGTH - CONTENT - left)
  valid = np.pad(np.ones(shape, bool), pad)
  return np.pad(content, pad, constant_values=left), valid


class Rows:
  """A sampler's compiled runs, and what it did with the rows first of all."""

  def __init__(self, name):
    case = Case(name)
    self.hyperparams = case.traced

    def build(joint, hyperparams):
      model = attending(as_denoiser(table(jnp.log(joint))), ATTENTION)
      return model, make(name, **case.fixed, **hyperparams)

    self.build, self.error = build, 0.0
    self.run = punt_jax.compile(build)
    self.wanted = self.cut(*canvases(0))

  def cut(self, tokens, valid, rows=None, run=None):
    """{name: values of each row}, in the row's own coordinates."""
    run = run or self.run
    out = run(JOINT, self.hyperparams, KEY, tokens, valid=valid, rows=rows)
    out = jax.device_get(out)
    inside = lambda x: x[valid].reshape(-1, CONTENT)
    meter = dict(zip(('nfe', 'depth', 'positions'), out.meter, strict=False))
    return dict(
      tokens=inside(out.tokens), when=inside(out.when), steps=out.steps,
      done=out.done, log_q=out.log_q, **meter,
    )

  def check(self, got, rows=slice(None)):
    for name, values in got.items():
      wanted = self.wanted[name][rows]
      if name == 'log_q':
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5)
        self.error = max(self.error, abs(values - wanted).max())
      else:
        np.testing.assert_array_equal(values, wanted, name)


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_a_row_is_the_same_wherever_it_is(name):
  assert name in NAMES and name in EXAMPLES
  rows = Rows(name)
  assert len({tuple(x) for x in rows.wanted['tokens']}) > 50
  for left in (1, 2):
    rows.check(rows.cut(*canvases(left)))
  order = np.random.default_rng(1).permutation(ROWS)
  tokens, valid = canvases(1)
  rows.check(rows.cut(tokens[order], valid[order], order), order)
  for r in order[:ALONE]:
    one = [r]
    rows.check(rows.cut(tokens[one], valid[one], np.array(one)), one)
  for count in (3, 8):
    several = punt_jax.compile(rows.build, devices=jax.devices()[:count])
    rows.check(rows.cut(tokens, valid, run=several))
  print(f'{name}: log_q within {rows.error:.1e}')
