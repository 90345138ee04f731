"""Cached blocks of every family against float64 NumPy, which has no cache.

A row is asked about one block after what is before it has been filled in; NumPy
computes each canvas whole, under a mask made from floor(i / B) >= floor(j / B).
Prompts of all lengths mod B, padding on the left, several probes of a row.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax.checkpoints import huggingface
from tests.helpers import families, numpy_decoder, parity

L, PROBES = 15, 2
BLOCKS = [x for x, y in families.SMALL.items() if families.block_length(y)]
QUICK = 'fast_dllm', 'nemotron'  # shifted; causal context, anchored
EXACT = 1e-5  # of the largest log-probability, float32


@functools.cache
def asker(name, cached, dtype='float32', times=1):
  """(Layout, arrays, ask); ask -> (log-probabilities of the block, Meter).

  ask(begun, canvas, valid, probes, start, fill): the canvas as the run began
  and now; each of `fill` (K, B) is a start, before which all is filled in.
  """
  plan = huggingface.layout(parity.wide(families.SMALL[name], times))
  plan = plan._replace(module=plan.module.clone(dtype=dtype))
  arrays = parity.arrays(plan)
  params = parity.parameters(plan, arrays)

  def ask(params, begun, canvas, valid, probes, start, fill):
    model = huggingface.denoiser(plan, params, cached=cached)
    rows = jnp.ones(len(canvas), bool)
    memo = model.init(begun, valid)
    step = lambda memo, begin: (
      model.windows.fill(memo, canvas, begin, rows), None
    )
    memo, _ = jax.lax.scan(step, memo, fill)
    flags = jnp.ones(probes.shape[:2], bool)
    memo, answer = model.windows.ask(memo, probes, start, flags)
    return model.read(answer.features), memo.meter

  return plan, arrays, functools.partial(jax.jit(ask), params)


def questions(plan, rows, length):
  """What `ask` takes, and where the positions of the block stand, L: nowhere.

  Row r has r % 5 on its left, and a prompt of 1 + r % 2B positions.
  """
  block, vocab = plan.module.block_length, plan.vocab
  draw = np.random.default_rng(rows)
  left = (np.arange(rows) + (rows == 1) * 2) % 5
  valid = np.arange(length) >= left[:, None]
  prompt = 1 + np.arange(rows) % (2 * block)
  tokens = draw.integers(0, plan.mask, (rows, length))
  first = prompt if plan.module.anchored else 0 * prompt
  # The block with the first MASK or one of the two behind it.
  number = (prompt - first) // block + np.arange(rows) % 3
  number = np.minimum(number, (length - left - 1 - first) // block)
  start = first + number * block
  index = left[:, None] + start[:, None] + np.arange(block)
  index = np.minimum(index, length)
  probes = draw.integers(0, plan.mask, (rows, PROBES, block))
  probes = np.where(draw.random(probes.shape) < 0.5, vocab, probes)
  probes[:, 0, -1] = vocab
  probes = np.where(index[:, None] < length, probes, vocab)
  prompted = numpy_decoder.places(valid) < prompt[:, None]
  begun = np.where(prompted | ~valid, tokens, vocab)
  fill = np.stack([np.maximum(start - block, first), start])
  return begun, tokens, valid, probes, start, fill, index


def numpy_answers(config, plan, arrays, tokens, valid, probes, start, index):
  """(rows, PROBES, B, V) logits of float64 NumPy."""
  net = numpy_decoder.Net(config, arrays)
  block, length = plan.module.block_length, tokens.shape[1]
  seen = numpy_decoder.sees(valid, block)
  if plan.module.causal:
    seen = numpy_decoder.sees_context(valid, start, block)
  pad = lambda x: np.concatenate([x, x[:, :1]], 1)  # where `index` is L
  found = []
  for probe in probes.swapaxes(0, 1):
    canvas = pad(tokens)
    np.put_along_axis(canvas, index, probe, 1)
    canvas = np.where(canvas == plan.vocab, plan.mask, canvas)[:, :length]
    logits = net(canvas, valid, seen)
    if plan.shifted:
      first = numpy_decoder.places(valid)[..., None] == 0
      logits = np.where(first, logits, np.roll(logits, 1, 1))
    found.append(np.take_along_axis(pad(logits), index[..., None], 1))
  return np.stack(found, 1)


def answers(name, rows, cached, **how):
  """(log-probabilities, NumPy's logits) (.., V - 1) of positions; the Meter."""
  plan, arrays, ask = asker(name, cached, **how)
  begun, *rest, index = questions(plan, rows, L)
  config = parity.wide(families.SMALL[name], how.get('times', 1))
  found, meter = ask(begun, *rest)
  tokens, valid, probes, start, _ = rest
  wanted = numpy_answers(
    config, plan, arrays, tokens, valid, probes, start, index
  )
  real = np.broadcast_to(index[:, None] < tokens.shape[1], probes.shape)
  return *(
    np.delete(np.asarray(x)[real], plan.mask, -1) for x in (found, wanted)
  ), meter


def close(found, logits):
  wanted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  assert np.ptp(wanted) > 1
  assert abs(found - wanted).max() / abs(wanted).max() < EXACT


@pytest.mark.parametrize('name', QUICK)
def test_cached_blocks(name):
  found, wanted, meter = answers(name, 8, True)
  close(found, wanted)
  block = asker(name, True)[0].module.block_length
  # Two probes, and no canvas: a block of each row at most is new, or a part.
  assert (meter.positions >= PROBES * block).all()
  assert len(set(meter.positions.tolist())) > 2


@pytest.mark.slow
@pytest.mark.parametrize('rows', [1, 8])
@pytest.mark.parametrize('name', BLOCKS)
def test_cached_is_uncached(name, rows):
  found, wanted, _ = answers(name, rows, True)
  close(found, wanted)
  whole, wanted, _ = answers(name, rows, False)
  close(whole, wanted)
  close(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize('name', BLOCKS)
def test_best_tokens_in_bfloat16(name):
  """Cached and not, against NumPy: ties of one bfloat16 step are either's."""
  for cached in (True, False):
    found, wanted, _ = answers(name, 64, cached, dtype='bfloat16', times=4)
    count = np.ones(len(found), bool)
    assert len(found) > 300
    assert len(np.unique(wanted.argmax(-1))) > 5  # not one favorite
    assert parity.agreement(found, wanted, count) >= 0.98
