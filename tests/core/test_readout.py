"""The readout against NumPy, chunked against whole, and its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import export

import punt_jax
from punt_jax import denoiser, readout, samplers, scores

B, L, V = 3, 5, 11


@pytest.fixture(scope='module')
def model():
  return punt_jax.from_logits(lambda tokens, valid: tokens, V)


@pytest.fixture(scope='module')
def features():
  return 2 * jax.random.normal(jax.random.key(0), (B, L, V))


def softmax(x):
  p = np.exp(np.asarray(x, np.float64))
  return p / p.sum(-1, keepdims=True)


def test_summary_equals_numpy(model, features):
  asked = jnp.arange(B * L).reshape(B, L) % 3 != 0
  uniforms = jax.random.uniform(jax.random.key(1), (B, L))
  read = readout.summarize(model, features, asked, uniforms)
  p = softmax(features)
  ordered = np.sort(p, -1)
  drafts = (np.cumsum(p, -1) <= np.asarray(uniforms)[..., None]).sum(-1)
  drawn = np.log(np.take_along_axis(p, drafts[..., None], -1)[..., 0])
  expected = dict(
    drafts=drafts,
    draft_logp=drawn,
    draft_score=drawn,
    confidence=ordered[..., -1],
    margin=ordered[..., -1] - ordered[..., -2],
    entropy=-(p * np.log(p)).sum(-1),
  )
  for name, value in expected.items():
    found = np.asarray(getattr(read, name))
    assert (found[~np.asarray(asked)] == 0).all(), name
    np.testing.assert_allclose(found[asked], value[asked], atol=1e-5)


@pytest.mark.parametrize('kind', ['kl', 'jsd', 'tv'])
def test_divergence_equals_numpy(model, features, kind):
  after = features + jax.random.normal(jax.random.key(2), features.shape)
  found = readout.divergence(
    model, features, after, jnp.ones((B, L), bool), kind
  )
  p, q = softmax(features), softmax(after)
  middle = (p + q) / 2
  kl = lambda p, q: (p * np.log(p / q)).sum(-1)
  expected = dict(
    kl=kl(p, q),
    jsd=(kl(p, middle) + kl(q, middle)) / 2,
    tv=np.abs(p - q).sum(-1) / 2,
  )[kind]
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zero_probabilities_give_no_nan():
  cut = jnp.log(jnp.array([0.5, 0.5, 0.0]))
  full = jnp.log(jnp.array([0.25, 0.25, 0.5]))
  assert scores.entropy(cut) == pytest.approx(np.log(2))
  assert scores.kl(cut, full) == pytest.approx(np.log(2))
  assert scores.kl(full, cut) == np.inf
  assert scores.jsd(full, cut) <= np.log(2)
  assert scores.margin(cut) == 0


def test_chunks_change_nothing(model, features, monkeypatch):
  asked = jnp.arange(B * L).reshape(B, L) % 4 != 1
  uniforms = jax.random.uniform(jax.random.key(1), (B, L))
  whole = readout.summarize(model, features, asked, uniforms)
  moved = readout.divergence(model, features, -features, asked)
  monkeypatch.setattr(readout, 'chunk_size', lambda vocab, total: 4)
  parts = readout.summarize(model, features, asked, uniforms)
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  np.testing.assert_array_equal(
    moved, readout.divergence(model, features, -features, asked)
  )


@pytest.mark.parametrize('vocab', [7, 3000])  # one level, two levels
def test_draws_follow_the_distribution(vocab):
  n = 20_000
  logp = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (vocab,)))
  logp = logp.at[0].set(-jnp.inf)
  logp = jax.nn.log_softmax(logp)
  uniforms = jax.random.uniform(jax.random.key(1), (n,))
  draw = jax.jit(lambda u: readout._draw(jnp.tile(logp, (len(u), 1)), u))
  drafts = np.concatenate([draw(u) for u in uniforms.reshape(10, -1)])
  assert (drafts > 0).all()
  # Bins of about equal mass, so that each expects enough draws.
  p = np.asarray(jnp.exp(logp), np.float64)
  bins = np.minimum((np.cumsum(p) * min(vocab, 50)).astype(int), 49)
  expected = np.bincount(bins, p) * n
  found = np.bincount(bins[drafts], minlength=len(expected))
  keep = expected > 0
  ratio = found[keep].sum() / expected[keep].sum()
  test = scipy.stats.chisquare(found[keep], expected[keep] * ratio)
  assert test.pvalue > 1e-3


@pytest.mark.parametrize('uniform', [0.0, 1 - 2**-24])
def test_extreme_uniforms_draw_possible_tokens(uniform):
  p = jnp.array([[0.0, 0.3, 0.7 - 1e-7, 1e-7, 0.0]])
  token = readout._draw(jnp.log(p), jnp.array([uniform]))
  assert p[0, token[0]] > 0


def test_nucleus_equals_sorting(features):
  p = softmax(features)
  for top_p in (0.05, 0.5, 0.9, 1.0):
    model = denoiser.top_p(
      punt_jax.from_logits(lambda tokens, valid: tokens, V), top_p
    )
    dist = readout._draft_logp(model.drafts, jnp.log(p).astype(jnp.float32))
    ordered = -np.sort(-p, -1)
    needed = (np.cumsum(ordered, -1) < top_p - 1e-6).sum(-1) + 1
    np.testing.assert_array_equal(
      (np.asarray(dist) > -np.inf).sum(-1), np.minimum(needed, V)
    )
    np.testing.assert_allclose(np.exp(dist).sum(-1), 1, atol=1e-5)


def test_temperature_bias_and_ban(model, features):
  logp = jax.nn.log_softmax(features)
  greedy = readout._draft_logp(denoiser.temper(model, 0.0).drafts, logp)
  np.testing.assert_array_equal(
    np.exp(greedy), np.eye(V)[np.asarray(features).argmax(-1)]
  )
  cold = readout._draft_logp(denoiser.temper(model, 0.5).drafts, logp)
  np.testing.assert_allclose(np.exp(cold), softmax(2 * features), atol=1e-5)
  banned = denoiser.ban(denoiser.bias(model, [4], -4.0), [0, 2])
  dist = readout._draft_logp(banned.drafts, logp)
  change = np.zeros(V)
  change[[0, 2]], change[4] = -np.inf, -4
  np.testing.assert_allclose(
    np.exp(dist), softmax(np.asarray(features) + change), atol=1e-5
  )
  with pytest.raises(ValueError, match=r'\[11\] must lie in \[0, 11\)'):
    denoiser.ban(model, [11])


def test_judged_distribution_is_an_argument(model, features):
  asked, u = jnp.ones((B, L), bool), jnp.full((B, L), 0.5)
  cold = denoiser.temper(model, 0.5)
  raw = readout.summarize(cold, features, asked, u)
  judged = readout.summarize(denoiser.judge_drafts(cold), features, asked, u)
  np.testing.assert_allclose(
    raw.confidence, softmax(features).max(-1), atol=1e-5
  )
  np.testing.assert_allclose(
    judged.confidence, softmax(2 * features).max(-1), atol=1e-5
  )
  np.testing.assert_array_equal(raw.draft_logp, judged.draft_logp)


def big_decode(rows, length, vocab, width=4):
  """A lowered PUNT decode at a real vocabulary, with a tiny body."""
  head = jnp.ones((width, vocab), jnp.float32)

  def build(params, hyperparams):
    features = lambda tokens, valid: jax.nn.one_hot(tokens % width, width)
    model = punt_jax.from_features(features, lambda f: f @ params, vocab)
    return punt_jax.temper(model, 0.7), samplers.punt(hyperparams)

  tokens = np.full((rows, length), vocab, np.int32)
  batch = (np.arange(rows), tokens, tokens < 0, tokens > 0)
  run = punt_jax.compile(build)
  return run, (head, 0.1, jax.random.key(0), *batch)


def test_no_whole_canvas_of_logits():
  rows, length, vocab = 8, 256, 126_464
  run, args = big_decode(rows, length, vocab)
  memory = run.lower(*args).compile().memory_analysis()
  assert memory.temp_size_in_bytes < rows * length * vocab * 4 / 8


@pytest.mark.parametrize('platform', ['tpu', 'cuda'])
def test_decode_lowers_for_accelerators(platform):
  def decode(head, key, tokens):
    def build(params, hyperparams):
      features = lambda tokens, valid: jax.nn.one_hot(tokens % 4, 4)
      model = punt_jax.from_features(features, lambda f: f @ params, 50)
      return model, samplers.punt(hyperparams)

    model, sampler = build(head, 0.1)
    keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(2))
    run = punt_jax.decode.start(
      keys, tokens, tokens < 0, tokens >= 0, model, sampler
    )
    return punt_jax.decode.decode(run, model, sampler, 8).tokens

  lowered = export.export(jax.jit(decode), platforms=[platform])(
    jnp.ones((4, 50)), jax.random.key(0), jnp.full((2, 8), 50)
  )
  assert lowered.platforms == (platform,)
  assert 'while' in lowered.mlir_module()
