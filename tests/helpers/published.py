"""The decoding loops that block models were published with, in NumPy.

Written from what is known of them; one row at a time, at temperature 0, on a
numpy_decoder.Net that computes whole canvases. MASK itself is never written: it
is left out of the softmax, which the published code does not do.

  LLaDA2   inclusionAI/LLaDA2.X `generate`
  SDAR     JetAstra/SDAR generate.py, low_confidence_dynamic: the same rule
  Fast-dLLM v2   NVlabs v2: the first token of a block is the argmax of the
    output before it; the rest in sub-blocks, left to right
  Nemotron   blocks from the end of the prompt on; what is before is causal
"""

import numpy as np

from tests.helpers import numpy_decoder


def llada2(net, mask, prompt, total, tau, quota=1):
  """Blocks at multiples of net.block; all that are surer than `tau`.

  If those are fewer than `quota`, the `quota` surest.
  """
  x = _begun(prompt, total, mask)
  for start in range(len(prompt) // net.block * net.block, total, net.block):
    block = slice(start, start + net.block)
    while (x[block] == mask).any():
      logits = _forward(net, x[: block.stop])[block]
      _write(x[block], logits, mask, tau, quota)
  return x


def fast_dllm(net, mask, prompt, total, tau, inside, seeded=True):
  """Sub-blocks of `inside` in blocks; output i - 1 predicts token i."""
  x = _begun(prompt, total, mask)
  for start in range(len(prompt) // net.block * net.block, total, net.block):
    block = slice(start, start + net.block)
    if seeded and start and x[start] == mask:
      logits = _forward(net, x[:start])[-1]
      logits[mask] = -np.inf
      x[start] = logits.argmax()
    for at in range(start, block.stop, inside):
      small = slice(at, at + inside)
      while (x[small] == mask).any():
        logits = _forward(net, x[: block.stop])
        if not seeded and start:  # before it, the block holds no MASK
          logits[start - 1] = _forward(net, x[:start])[-1]
        logits = np.concatenate([logits[:1], logits[:-1]])
        _write(x[small], logits[small], mask, tau, 1)
  return x


def nemotron(net, mask, prompt, total, tau):
  """Blocks from len(prompt) on, each whole on a causal past."""
  x = _begun(prompt, total, mask)
  for start in range(len(prompt), total, net.block):
    block = slice(start, start + net.block)
    while (x[block] == mask).any():
      valid = np.ones((1, block.stop), bool)
      seen = numpy_decoder.sees_context(valid, np.array([start]), net.block)
      logits = net(x[None, : block.stop], valid, seen)[0, block]
      _write(x[block], logits, mask, tau, 1)
  return x


def _begun(prompt, total, mask):
  assert mask not in prompt
  return np.concatenate([prompt, np.full(total - len(prompt), mask)])


def _forward(net, x):
  return net(x[None], np.ones((1, len(x)), bool))[0]


def _write(x, logits, mask, tau, quota):
  """Writes into x (W,) by logits (W, V)."""
  logits = logits.copy()
  logits[:, mask] = -np.inf
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  confidence = np.where(x == mask, p.max(-1), -np.inf)
  chosen = confidence > tau
  if chosen.sum() < quota:
    count = min(quota, (x == mask).sum())
    chosen[np.argsort(-confidence, kind='stable')[:count]] = True
  x[chosen] = p.argmax(-1)[chosen]
