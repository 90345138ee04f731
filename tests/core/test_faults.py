"""What is not finite is told with its row and step, whatever met it first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import denoiser, readout, samplers, scores
from punt_jax.sampler import no_carry
from punt_jax.types import Move, Sampler
from tests.helpers.attention import attending

L, V = 4, 2
MASKS = np.full((2, L), V)
MASKS[1, 0] = 1  # what the models below know row 1 by


def model(bad=np.nan, left=(), flat=True):
  """Uniform; `bad` in row 1 where so many positions are masked."""

  def logits(tokens, valid):
    masks = (tokens == V).sum(-1)
    broken = (tokens[:, 0] == 1) & jnp.isin(masks, jnp.array([-1, *left]))
    slope = 0.0 if flat else jnp.arange(V) * masks[:, None, None]
    found = jnp.zeros((*tokens.shape, V)) + slope
    return jnp.where(broken[:, None, None], bad, found)

  return punt_jax.from_logits(logits, V)


def decode(made, sampler):
  return jax.jit(lambda: punt_jax.sample(0, made, sampler, jnp.array(MASKS)))()


def build(made, sampler):
  return lambda params, hyperparams: (made, sampler)


ONE = samplers.one_by_one()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_logits_that_break_at_a_later_step(bad):
  with pytest.raises(ValueError, match=(
    r'NaN log-probabilities in row 1 \(1 of 2 rows\), from step 1 on: check'
  )) as caught:
    punt_jax.compile(build(model(bad, [2]), ONE))((), (), 0, MASKS)
  assert '\n' not in str(caught.value)


def test_watch_shows_the_step_and_then_says_so():
  frames = punt_jax.watch(build(model(left=[2]), ONE))((), (), 0, MASKS)
  (_, first), (state, _) = next(frames), next(frames)
  assert np.isfinite(first.logp).all() and state.fault.tolist() == [-1, 1]
  with pytest.raises(ValueError, match='row 1 .*from step 1 on'):
    next(frames)


def order(view):
  return jnp.where((view.step == 1) & (view.tokens[0] == 1), jnp.nan, 0.0) + (
    view.confidence
  )


def idle(key, view):
  """Chooses nothing in step 1 of row 1."""
  return view.masked & ((view.step != 1) | (view.tokens[0] != 1)) & (
    jnp.cumsum(view.masked) == 1
  )


def table(view):
  return jnp.full((L, L), 1.0) + order(view)[0] * 0


def attention(nan):
  return attending(model(), np.full((2, L, L), nan and np.nan, np.float32))


def heavy(canvas, move):
  return jnp.where(
    (canvas.tokens[:, 0] == 1) & (canvas.masked.sum(-1) == 2), jnp.nan, 0.0
  )


def judge():
  return model(left=[1])  # it is asked about one draft, beside two masks


CASES = {  # (model, sampler, the step, what log_q of row 1 is)
  'a probe of PUNT alone': (model(left=[1, 2]), samplers.punt(1.0), 0, np.nan),
  'a look ahead': (
    model(left=[1]), samplers.lookahead(k=2.0, paths=2), 0, np.nan
  ),
  'tokens that are judged again': (
    model(), samplers.p2(4, planner=model(left=[0])), 1, np.nan
  ),
  'a judge': (
    model(), samplers.adaptive_parallel(window=2.0, judge=judge()), 0, np.nan
  ),
  'a score': (model(), samplers.top_k(1, order), 1, np.inf),
  'a score of PUNT': (model(), samplers.punt(-1.0, order), 1, np.inf),
  'a rule': (model(), punt_jax.from_rule(idle), 1, np.inf),
  'a table of influence': (model(), samplers.influence(table, 0.5), 1, np.inf),
  'a policy': (
    model(), samplers.learned(lambda view, left: order(view) - 9.0), 1, np.nan
  ),
  'a potential': (model(), samplers.smc(ONE, 2, heavy), 1, np.nan),
}


@pytest.mark.parametrize('case', CASES)
def test_what_a_choice_was_made_by(case):
  made, sampler, step, log_q = CASES[case]
  out = decode(made, sampler)
  assert out.fault.tolist() == [-1, step]
  assert np.isfinite(out.log_q[0])
  np.testing.assert_array_equal(out.log_q[1], log_q)


@pytest.mark.parametrize('sampler', [
  samplers.dapd(0.1, late=0.0), samplers.adas(1)
], ids=['dapd', 'adas'])
def test_attention_that_is_no_number(sampler):
  out = decode(attention(nan=True), sampler)
  assert out.fault.tolist() == [0, 0] and np.isposinf(out.log_q).all()
  assert (decode(attention(nan=False), sampler).fault == -1).all()


def writes(logp):
  """A sampler that fills the canvas with 0 at this log-probability."""

  def step(keys, t, canvas, carry, memo, model):
    tokens = jnp.where(canvas.masked, 0, canvas.tokens)
    said = jnp.where(canvas.masked, logp, 0.0)
    return Move(tokens, said, canvas.masked.any(-1)), carry, memo

  return Sampler(no_carry, step)


@pytest.mark.parametrize('sampler, said', [
  (writes(-jnp.inf), r'probability 0 was written in row 0 \(2 of 2 rows\)'),
  (punt_jax.from_rule(idle), 'nothing was chosen .* in row 1 .* step 1 on'),
  (samplers.punt(lambda left: left * np.nan), 'a schedule must not be NaN'),
], ids=['-inf', '+inf', 'schedule'])
def test_each_has_its_sentence(sampler, said):
  with pytest.raises(ValueError, match=said):
    punt_jax.compile(build(model(), sampler))((), (), 0, MASKS)


def test_numbers_that_are_none_do_not_count_as_zero():
  logp = jnp.log(jnp.array([0.5, 0.5]))
  broken = jnp.full(2, jnp.nan)
  for found in (
    scores.entropy(broken), scores.kl(broken, logp), scores.kl(logp, broken),
    scores.jsd(broken, logp), scores.tv(logp, broken),
  ):
    assert np.isnan(found)


# Temperatures and other settings of the drafts.

HEATS = [0.0, 1e-45, 1e-38, 1e-10, 2e-9, 1.0, 1e30, np.inf, np.nan, -1.0]
COLD, HOT, NONE = slice(0, 5), slice(6, 8), slice(8, 10)


@pytest.mark.parametrize('vocab, chunk', [(1, None), (7, 2), (1030, None)])
def test_extremes_of_temperature(vocab, chunk, monkeypatch):
  """As constants, which a compiler may fold, and traced."""
  if chunk:
    monkeypatch.setattr(readout, 'chunk_size', lambda vocab, total: chunk)
  logits = 3 * np.random.default_rng(vocab).normal(size=(1, 5, vocab))
  logits[..., 1::3] = -np.inf
  possible = np.isfinite(logits[0, 0]).sum()
  made = punt_jax.from_logits(lambda tokens, valid: tokens, vocab)
  uniforms = jnp.linspace(0.0, 0.999, 5)[None]
  asked = jnp.ones((1, 5), bool)

  def drafts(heat):
    cold = denoiser._drafting(made, temperature=heat)  # no check: it may be bad
    read = readout.summarize(cold, features, asked, uniforms)
    return read.drafts[0], read.draft_logp[0]

  features = jnp.asarray(logits, jnp.float32)
  run = jax.jit(lambda heats: (
    [jnp.stack(x) for x in zip(*map(drafts, HEATS), strict=True)],
    jax.lax.map(drafts, heats),
  ))
  for tokens, logp in run(jnp.array(HEATS)):
    best = np.broadcast_to(logits[0].argmax(-1), (5, 5))
    np.testing.assert_array_equal(tokens[COLD], best)
    np.testing.assert_allclose(logp[COLD], 0, atol=1e-6)
    np.testing.assert_allclose(logp[HOT], -np.log(possible), rtol=1e-5)
    assert np.isfinite(logits[0, np.arange(5), np.asarray(tokens[:8])]).all()
    assert np.isnan(logp[NONE]).all()


def test_a_share_that_is_traced_keeps_a_token():
  made = punt_jax.from_logits(lambda tokens, valid: tokens, 3)
  logp = jnp.log(jnp.array([[0.2, 0.5, 0.299999]]))  # sums to less than 1
  dist = jax.jit(lambda p: readout._draft_logp(
    denoiser._drafting(made, top_p=p).drafts, logp
  ))
  for p in (0.0, 1e-45, 1e-38, 0.4):
    np.testing.assert_allclose(np.exp(dist(p)), [[0, 1, 0]], atol=1e-6)
  assert np.isnan(dist(np.nan)).all()


def test_equal_distributions_keep_every_draft():
  """max(p - q, 0) is then nothing, and no token can be drawn from it."""
  logp = jnp.log(jnp.array([[[0.0, 1.0]]]))
  made = punt_jax.from_logits(lambda tokens, valid: tokens, 2)
  one = jnp.ones((1, 1))
  said = jax.jit(lambda: readout.verify(
    made, logp, logp, jnp.ones((1, 1), int), one > 0, one, 0 * one
  ))()
  assert said.kept.all() and said.tokens.item() == 1


OWN = punt_jax.from_logits(lambda tokens, valid: tokens, 3, mask=1)


@pytest.mark.parametrize('make, said', [
  (lambda: punt_jax.top_p(OWN, 0), 'top_p = 0 .* above 0 and at most 1'),
  (lambda: punt_jax.top_p(OWN, 0.0), 'top_p = 0.0'),
  (lambda: punt_jax.top_p(OWN, 1.5), 'top_p = 1.5'),
  (lambda: punt_jax.ban(OWN, [0, 2]), r'every id in \[0, 3\) is banned'),
  (
    lambda: punt_jax.ban(punt_jax.ban(OWN, [0]), [2]),
    r'every id in \[0, 3\) is banned',
  ),
  (lambda: punt_jax.ban(model(), [0, 1]), r'every id in \[0, 2\) is banned'),
  (lambda: punt_jax.ban(OWN, [0.5]), 'must lie in'),
  (lambda: punt_jax.from_logits(len, 2**40), 'vocab .* at most 2147483646'),
  (lambda: punt_jax.from_logits(len, 2, 2**40), 'mask .* at most 2147483647'),
  (lambda: denoiser.bias(OWN, [0], np.nan), 'bias = nan'),
  (lambda: denoiser.bias(OWN, [0], np.inf), 'bias = inf'),
  (lambda: denoiser.bias(OWN, [0], [1.0, 2.0]), 'bias = .* must be a number'),
  (lambda: punt_jax.temper(OWN, np.nan), 'temperature = nan'),
  (lambda: punt_jax.temper(ONE, 1.0), 'where a Denoiser belongs'),
  (lambda: denoiser.shift_right(None), 'None stands where a Denoiser'),
  (lambda: samplers.smc(samplers.punt), 'punt, which is not called, stands'),
])
def test_a_setting_is_blamed_for_itself(make, said):
  with pytest.raises(ValueError, match=said) as caught:
    make()
  assert '\n' not in str(caught.value)


def test_wrappers_keep_what_a_model_is():
  """Its own id of MASK, and whether it can predict in order."""
  made = OWN._replace(in_order=len)
  for wrap in (
    lambda x: punt_jax.temper(x, 0.5), lambda x: punt_jax.top_p(x, 0.5),
    lambda x: punt_jax.ban(x, [0]), lambda x: denoiser.bias(x, [2], 1.0),
    denoiser.judge_drafts, denoiser.shift_right, denoiser.left_to_right,
  ):
    assert wrap(made)[6:8] == made[6:8] == (1, len)


def test_a_bias_is_added_once_and_sums_up():
  twice = denoiser.bias(denoiser.bias(OWN, [0, 0], 1.0), [0, 2], 2.0)
  np.testing.assert_array_equal(twice.drafts.bias, [3.0, 0.0, 2.0])
  traced = jax.jit(lambda x: denoiser.bias(OWN, [2], x).drafts.bias)(-1.0)
  np.testing.assert_array_equal(traced, [0.0, 0.0, -1.0])
