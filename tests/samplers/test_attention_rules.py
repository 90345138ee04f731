"""Rules that read attention, and the attention they read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import checkpoints, samplers
from punt_jax.models import transformer

L, V = 6, 10
CONFIDENCE = np.array([0.95, 0.5, 0.7, 0.6, 0.4, 0.55])


def run(sampler, attention, confidence=CONFIDENCE, tokens=None):
  """when (L,) of a model that always says the same, at temperature 0."""
  rest = (1 - confidence) / (V - 1)
  dist = np.where(np.arange(V) == 0, confidence[:, None], rest[:, None])
  attention = jnp.asarray(attention, jnp.float32)

  def features(tokens, valid):
    spread = lambda x: jnp.broadcast_to(x, (len(tokens), *x.shape))
    return spread(jnp.log(jnp.asarray(dist))), spread(attention)

  model = punt_jax.from_features(features, lambda x: x, V)
  build = lambda params, hyperparams: (punt_jax.temper(model, 0.0), sampler)
  tokens = np.full((1, L), V) if tokens is None else tokens
  out = punt_jax.compile(build)((), (), jax.random.key(0), tokens)
  return np.asarray(out.when)[0].tolist()


def ties(pairs, layers=1, seen=1):
  """(layers, L, L): the last `seen` layers hold the ties, one way only."""
  attention = np.zeros((layers, L, L))
  attention[: layers - seen] = 1.0  # noise in layers that nobody may read
  for i, j, weight in pairs:
    attention[layers - seen :, i, j] = weight
  return attention


def test_dapd_by_hand():
  """A path 1 - 2 - 3 and a pair 4 - 5; 0 is alone. Ties are halved."""
  pairs = [(1, 2, 0.4), (3, 2, 0.4), (4, 5, 0.6), (0, 1, 0.1)]
  # Hubs: 2 (.4 x .7), 3 (.2 x .6), 5 (.3 x .55), 4 (.3 x .4), 1 (.25 x .5), 0.
  # In the first step 2, 5 and 0 are written; 1, 3 and 4 are half the canvas,
  # which is not less than half: no ties are left among them.
  early = samplers.dapd(0.15)
  assert run(early, ties(pairs)) == [0, 1, 0, 1, 1, 0]
  # Below the conservative threshold all are joined: the hubs one by one,
  # until less than half is masked; then what is sure, which is nobody.
  chain = [(i, i + 1, 0.4) for i in range(L - 1)]
  assert run(samplers.dapd(0.5), ties(chain)) == [0] * L
  assert sorted(run(samplers.dapd(-1.0), ties(chain))) == list(range(L))


def test_dapd_late_phase():
  """late 1: from the second position on by confidence alone."""
  sampler = samplers.dapd(-1.0, late=1.0, sure=0.6)
  # All masked is not less than late: one hub (2), then >= .6, then the surest.
  hubs = ties([(2, 3, 1.0)])
  assert run(sampler, hubs) == [1, 3, 0, 1, 4, 2]


def test_dapd_reads_the_last_third_of_the_layers():
  pairs = [(1, 2, 0.4), (3, 2, 0.4), (4, 5, 0.6)]
  one = run(samplers.dapd(0.15), ties(pairs))
  assert run(samplers.dapd(0.15), ties(pairs, layers=6, seen=2)) == one
  assert run(samplers.dapd(0.15), ties(pairs, layers=6, seen=1)) != one


def test_dapd_ties_to_given_tokens_do_not_count():
  pairs = [(1, 2, 0.4), (3, 2, 0.4)]
  tokens = np.full((1, L), V)
  tokens[0, 2] = 0
  when = run(samplers.dapd(0.15), ties(pairs), tokens=tokens)
  assert when == [0, 0, -1, 0, 0, 0]


def order_of(attention, confidence, alpha, k):
  """ADAS, as the paper writes it, k positions a step."""
  masked, when = set(range(L)), np.zeros(L, int)
  for step in range(L):
    chosen = []
    while masked - set(chosen) and len(chosen) < k:
      worth = {
        i: confidence[i] - alpha * sum(
          attention[i, s] * (1 - confidence[s]) for s in chosen
        ) for i in sorted(masked - set(chosen))
      }
      chosen.append(max(worth, key=worth.get))
    when[chosen] = step
    masked -= set(chosen)
    if not masked:
      return when.tolist()


def test_adas_by_hand():
  """0 then 2; 3 attends to 2, whose doubt is .3: .6 - 40 x .01 x .3 = .48."""
  attention = ties([(3, 2, 0.01)])
  assert run(samplers.adas(3.0), attention) == [0, 1, 0, 1, 1, 0]
  assert run(samplers.adas(3.0, alpha=0.0), attention) == [0, 1, 0, 0, 1, 1]
  assert run(samplers.adas(3.0), ties([(2, 3, 0.01)])) == [0, 1, 0, 0, 1, 1]


def test_adas_is_the_greedy_of_the_paper():
  others = 0
  for seed in range(4):
    rng = np.random.default_rng(seed)
    attention = rng.random((2, L, L))  # the last layer is the one
    confidence = 0.2 + 0.7 * rng.random(L)
    found = run(samplers.adas(2.0, alpha=5.0), attention, confidence)
    assert found == order_of(attention[-1], confidence, 5.0, 2)
    others += found != order_of(attention[0], confidence, 5.0, 2)
    others += found != order_of(attention[-1].T, confidence, 5.0, 2)
    others += found != order_of(attention[-1], confidence, 0.0, 2)
  assert others >= 4


def test_the_discount_is_an_order_for_any_sampler():
  score = samplers.discounted(40.0)
  attention = ties([(3, 2, 0.01)])
  assert run(samplers.top_k(3, score), attention) == [0, 1, 0, 1, 1, 0]
  assert run(samplers.one_by_one(score), attention) == [0, 4, 1, 2, 5, 3]


def test_without_attention_there_is_a_sentence():
  for sampler in (samplers.dapd(0.1), samplers.adas(2.0)):
    model = punt_jax.from_logits(lambda t, v: jnp.zeros((*t.shape, V)), V)
    build = lambda p, k, pair=(model, sampler): pair
    decode = punt_jax.compile(build)
    with pytest.raises(ValueError, match='reads attention and the model gives'):
      decode((), (), jax.random.key(0), np.full((1, L), V))


def test_bad_hyperparams():
  with pytest.raises(ValueError, match='late = 2'):
    samplers.dapd(0.1, late=2)
  with pytest.raises(ValueError, match='alpha = -1'):
    samplers.adas(2.0, alpha=-1)


# The attention of the project's own transformer.


def test_attend_is_what_the_layer_uses():
  """With one head, attention times values is what the output layer gets."""
  module = transformer.Transformer(V, width=8, layers=2, heads=1, taps=3)
  tokens = jax.random.randint(jax.random.key(0), (2, L), 0, V + 1)
  valid = jnp.arange(L) < jnp.array([[L], [4]])
  params = module.init(jax.random.key(1), tokens)['params']
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  noisy = [
    x + 0.3 * jax.random.normal(k, x.shape)
    for x, k in zip(leaves, keys, strict=True)
  ]
  params = jax.tree.unflatten(tree, noisy)
  features, attention = transformer.attend(module, params, tokens, valid)
  plain, state = module.apply(
    {'params': params}, tokens, valid, method='features',
    mutable='intermediates',
    capture_intermediates=lambda part, _: part.name in ('value', 'out'),
  )
  np.testing.assert_allclose(features, plain, atol=1e-6)
  assert attention.shape == (2, 2, L, L)
  np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
  assert (np.asarray(attention)[1, :, :, 4:] == 0).all()
  for k in range(2):
    seen = state['intermediates'][f'blocks_{k}']
    mixed = jnp.einsum(
      'nij,njd->nid', attention[:, k], seen['value']['__call__'][0]
    )
    expected = mixed @ params[f'blocks_{k}']['out']['kernel']
    np.testing.assert_allclose(
      seen['out']['__call__'][0], expected, atol=1e-5
    )


@pytest.mark.slow
def test_the_shipped_model_offers_it():
  loaded = checkpoints.load('shakespeare')
  assert loaded.offers == {'attention'}
  model = loaded.denoiser(loaded.params, attention=True)
  tokens = jnp.full((2, 8), loaded.text.vocab)
  memo = model.init(tokens, tokens >= 0)
  _, answer = model.ask(memo, tokens[:, None], jnp.ones((2, 1), bool))
  assert answer.extra.shape == (2, 1, loaded.module.layers, 8, 8)
