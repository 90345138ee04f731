"""The bound of a model that is causal over blocks, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from punt_jax import rows
from punt_jax.generation import generator, likelihood, options
from tests.generation.test_block_models import EASY, toy
from tests.helpers import block_net

B, V, PAD = 4, block_net.V, 2
LINE = np.array([3, 1, 4, 1, 5, 9, 2])
KNOWN = 2  # of these
DRAWS = 600
HOW = [{}, dict(shifted=True), dict(causal=True, anchored=True)]


def laid():
  """(tokens, valid, answer), a row padded on the left."""
  tokens = np.append(np.zeros(PAD, int), LINE)[None]
  place = np.arange(tokens.size)[None]
  return tokens, place >= PAD, place >= PAD + KNOWN


def exact(how):
  """Nats: the sum over blocks of the mean over masks, by whole canvases."""
  cut = KNOWN if how.get('anchored') else 0
  blocks = {}
  for i in range(KNOWN, len(LINE)):
    blocks.setdefault((i - cut) // B, []).append(i)
  canvases, weights, owners = [], [], []
  for own in blocks.values():
    for k in range(1, len(own) + 1):
      subsets = list(itertools.combinations(own, k))
      for hidden in subsets:
        canvas = LINE.copy()
        # What is behind the block is not seen; masks make no other block count
        # as the one that is being written.
        canvas[list(hidden)] = V
        canvases.append(canvas)
        owners.append(hidden)
        # n times the mean over k, over the subsets, over the masks.
        weights.append(1 / len(subsets) / k)
  model = block_net.model(block_net.params(), B, cached=False, **how)
  tokens = jnp.asarray(np.array(canvases))
  whole = jnp.ones(tokens.shape, bool)
  start = LINE.copy()
  start[KNOWN:] = V
  memo = model.init(jnp.asarray(np.tile(start, (len(canvases), 1))), whole)
  _, said = model.ask(memo, tokens, whole[:, 0])
  logp = np.asarray(model.read(said.features))
  return -sum(
    weight * logp[n, i, LINE[i]]
    for n, (weight, hidden) in enumerate(zip(weights, owners, strict=True))
    for i in hidden
  )


def drawn(how, cached):
  """(DRAWS,) nats."""
  model = block_net.model(block_net.params(), B, cached=cached, **how)
  tokens, valid, answer = (
    jnp.asarray(np.tile(x, (DRAWS, 1))) for x in laid()
  )
  keys = rows.fold_rows(jax.random.key(0), jnp.arange(DRAWS))
  share = (jnp.arange(DRAWS) + 0.5) / DRAWS
  return np.asarray(jax.jit(likelihood.draw, static_argnums=0)(
    model, keys, share, tokens, valid, answer
  ))


@pytest.mark.parametrize('how', HOW, ids=str)
def test_the_bound_is_the_enumerated_one(how):
  found = drawn(how, True)
  error = found.std() / DRAWS**0.5
  assert abs(found.mean() - exact(how)) < 4 * error
  assert error < 0.05 * exact(how)


def test_with_and_without_a_cache():
  np.testing.assert_allclose(drawn({}, True), drawn({}, False), rtol=1e-4)


def test_no_answer_has_no_nats():
  model = block_net.model(block_net.params(), B)
  tokens, valid, answer = map(jnp.asarray, laid())
  keys = rows.fold_rows(jax.random.key(0), jnp.arange(1))
  none = answer & False
  nats = likelihood.draw(model, keys, jnp.zeros(1), tokens, valid, none)
  assert nats.tolist() == [0]


def test_what_greedy_decoding_writes():
  loaded, settings = toy(), generator.Settings(**EASY, kv_cache=True)
  cold = settings._replace(temperature=0.0)
  choice = options.choose('top_k(k=1, score=draft)')
  made = generator.prepare(loaded, choice, cold)
  prompt = made.encode('bcd')
  (row,), = made.write([prompt], [0])
  line = np.append(prompt, row.tokens)
  other = np.append(line[:-1], (line[-1] + 1) % V)
  judged = likelihood.judge(settings, loaded)([line, other], [3, 3], [5, 6])
  found = dict(x for batch in judged for x in batch)
  assert found[5].same and not found[6].same
  score = likelihood.scorer(settings, loaded, 3)
  bounds = dict(x for b in score([line, other], [3, 3], [5, 6]) for x in b)
  assert 0 < bounds[5].nats < bounds[6].nats
