"""The KV cache: what it computes, what it charges, where it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import kv_cache, samplers
from punt_jax.checkpoints import huggingface
from punt_jax.models.families import llada
from punt_jax.types import FAR

L, WIDE = 12, 4
CONFIG = dict(
  model_type='llada', d_model=16, n_heads=4, n_kv_heads=2,
  mlp_hidden_size=24, vocab_size=9, mask_token_id=8, max_sequence_length=L,
  rope_theta=500000.0, rms_norm_eps=1e-5,
)


def network(layers, shifted=False):
  """(Layout, random parameters).

  The embedding is large, so that no two masked positions are alike: a tie
  between them would be broken by the last bit.
  """
  plan = llada.llada(CONFIG | {'n_layers': layers})
  plan = plan._replace(
    module=plan.module.clone(dtype='float32'), shifted=shifted
  )
  key = jax.random.key(3)
  tree = plan.module.init(key, jnp.zeros((1, L), jnp.int32))['params']
  tree['embed'] = jax.tree.map(lambda x: 4 * x, tree['embed'])
  return plan, tree


def canvases(gaps):
  """A plain row, one with given tokens inside, one that is padded left."""
  tokens = np.full((3, L), 9)
  tokens[0, :4] = 1
  tokens[1, [0, 3, 6] if gaps else [0, 1, 2]] = 2
  tokens[2, 4:6] = 3
  valid = np.ones((3, L), bool)
  valid[2, :4] = False
  return tokens, valid


def decode(
  plan, params, sampler, length=WIDE, window=WIDE, refresh=1.0, gaps=True
):
  def build(params, hyperparams):
    model = huggingface.denoiser(plan, params, window)
    if length is None:
      return model, sampler
    return model, samplers.blocks(sampler, length, hyperparams)

  tokens, valid = canvases(gaps)
  return punt_jax.compile(build)(
    params, refresh, jax.random.key(0), tokens, valid=valid
  )


def bag(layers, before=False):
  """A network of means over the canvas: the cache's contract, and quick.

  (whole model, the same with windows of WIDE).
  """
  keys = jax.random.split(jax.random.key(5), 3)
  table, place, head = (
    jax.random.normal(key, shape)
    for key, shape in zip(keys, [(10, 8), (32, 8), (8, 9)], strict=True)
  )

  def layer(x, others, seen):
    total = (others * seen[..., None]).sum(1, keepdims=True)
    return jnp.sin(x + 3 * total / seen.sum(1)[:, None, None])

  def prefill(tokens, valid):
    x, past = table[tokens] + place[jnp.cumsum(valid, -1) - 1], []
    for _ in range(layers):
      past.append(x)
      x = layer(x, x, valid)
    return x, jnp.stack(past)

  def window(past, past_position, past_reach, tokens, position):
    x = table[tokens] + place[position]
    probes = len(tokens) // len(past_position)
    before = jnp.repeat(past_position, probes, 0) <= past_reach[:, None]
    seen = jnp.concatenate([before, position < FAR], 1)
    for then in past:
      then = jnp.repeat(then, probes, 0)
      x = layer(x, jnp.concatenate([then, x], 1), seen)
    return x, ()

  args = lambda features: 2 * features @ head, 9
  whole = punt_jax.from_features(lambda *x: prefill(*x)[0], *args)
  fast = kv_cache.from_windows(prefill, window, *args, WIDE, before)
  shift = punt_jax.shift_right if before else lambda model: model
  return shift(whole), shift(fast)


# Blocks of four: the last one is shorter, and given tokens stand inside.
CONTENTS = np.array([
  [9, 9, 9, 9, 9, 9, 9, 9, 9, 9], [9, 1, 9, 9, 9, 3, 9, 2, 9, 9],
  [1, 2, 9, 9, 9, 9, 9, 9, 3, 9], [9, 1, 9, 2, 9, 3, 9, 4, 9, 9],
])


def padded(left, length):
  """CONTENTS four times on a canvas, and which positions are no padding."""
  pad = (0, 0), (left, length - left - CONTENTS.shape[1])
  valid = np.pad(np.ones(CONTENTS.shape, bool), pad)
  tile = lambda x: np.tile(x, (4, 1))
  return tile(np.pad(CONTENTS, pad, constant_values=left)), tile(valid)


def run_bag(layers, before, inner, cached=True):
  def build(_, refresh):
    return bag(layers, before)[cached], samplers.blocks(inner, WIDE, refresh)

  return punt_jax.compile(build)


@pytest.mark.parametrize('before', [False, True])
def test_a_row_depends_on_its_tokens_alone(before):
  """Not on padding, nor on the others, whatever the windows remember."""
  run = run_bag(3, before, samplers.punt(0.02))
  sides = [padded(left, 16) for left in (0, 2, 6)]
  tokens, valid = (np.concatenate(x) for x in zip(*sides, strict=True))
  rows, outs = np.tile(np.arange(16), 3), []
  for refresh in (1.0, 2.0, np.inf):
    out = run((), refresh, jax.random.key(1), tokens, valid=valid, rows=rows)
    cut = lambda x: x[valid].reshape(3, 16, -1)
    outs.append(cut(out.tokens))
    for name in ('tokens', 'when'):
      first, *others = cut(np.asarray(getattr(out, name)))
      for other in others:
        np.testing.assert_array_equal(other, first, name)
    for x in (out.meter.nfe, out.meter.positions, out.steps):
      assert (x.reshape(3, 16) == x[:16]).all()
    log_q = np.asarray(out.log_q).reshape(3, 16)
    np.testing.assert_allclose(log_q[1:], log_q[:1].repeat(2, 0), atol=1e-4)
  assert (outs[0] != outs[1]).any() and (outs[1] != outs[2]).any()


@pytest.mark.parametrize('before', [False, True])
def test_a_window_answers_as_the_whole_of_one_layer(before):
  # Of the first block. Of Dream's the left neighbor must be computed again:
  # row 2 has one. Row 3 has more than fit, of Dream's.
  whole, fast = bag(1, before)
  tokens, valid = (jnp.asarray(x)[:4] for x in padded(2, 16))
  open_ = valid & (tokens == 9)
  open_ &= jnp.cumsum(open_, -1) <= WIDE
  shown = jnp.where(open_ & (jnp.cumsum(open_, -1) == 2), 7, tokens)
  rows = jnp.ones(4, bool)
  told = whole.ask(whole.init(tokens, valid), shown, rows)[1].features
  memo = fast.commit(fast.init(tokens, valid), tokens, rows, open_)
  after, found = fast.ask(memo, shown, rows)
  np.testing.assert_allclose(found.features[open_], told[open_], atol=1e-5)
  each = WIDE + before
  last = 16 if before else each
  assert after.meter.positions.tolist() == [16 + each] * 3 + [16 + last]
  # What is remembered of a row is the same to the bit if others ask.
  some = jnp.where((jnp.arange(4) < 2)[:, None], shown, tokens)
  after, beside = fast.ask(memo, some, rows)
  assert after.meter.nfe.tolist() == [2, 2, 1, 1 + before]
  _, alone = fast.ask(memo, tokens, rows)
  assert (beside.features[2] == alone.features[2]).all()


@pytest.mark.slow
@pytest.mark.parametrize('shifted', [False, True], ids=['llada', 'dream'])
def test_one_layer_is_exact(shifted):
  # The keys and values of one layer do not depend on other positions.
  plan, params = network(1, shifted)
  sampler = samplers.punt(0.02, score='left_to_right')
  gaps = not shifted
  plain = decode(plan, params, sampler, window=None, gaps=gaps)
  fast = decode(plan, params, sampler, refresh=np.inf, gaps=gaps)
  assert (plain.tokens == fast.tokens).all()
  np.testing.assert_allclose(plain.log_q, fast.log_q, atol=1e-4)
  assert (fast.meter.positions < 0.75 * plain.meter.positions).all()


def test_first_question_of_a_step_is_exact():
  # One question per step, each about the canvas just committed: the plain
  # run, at the plain run's price.
  plan, params = network(3)
  plain = decode(plan, params, samplers.top_k(2), window=None)
  fast = decode(plan, params, samplers.top_k(2))
  assert (plain.tokens == fast.tokens).all()
  for name in ('nfe', 'depth', 'positions', 'forwards'):
    np.testing.assert_array_equal(
      getattr(plain.meter, name), getattr(fast.meter, name), name
    )


def test_a_stale_cache_is_not_exact():
  plan, params = network(3)
  sampler = samplers.one_by_one('left_to_right')
  plain = decode(plan, params, sampler, window=None)
  fast = decode(plan, params, sampler, refresh=np.inf)
  assert (abs(plain.log_q - fast.log_q) > 1e-3).any()


def test_cost_by_hand():
  # Row 0 has two blocks of four. One by one: a block is committed (12
  # positions, its first question free), then three questions of 4.
  plan, params = network(1)
  fast = decode(plan, params, samplers.one_by_one(), refresh=np.inf)
  assert fast.meter.positions[0] == 2 * (12 + 3 * 4)
  assert fast.meter.nfe[0] == fast.meter.depth[0] == 2 * (1 + 3)
  every_second = decode(plan, params, samplers.one_by_one(), refresh=2.0)
  assert every_second.meter.positions[0] == 2 * (12 + 4 + 12 + 4)


@pytest.mark.slow
def test_blocks_with_gaps_need_more_outputs_of_dream():
  # Row 1 asks for outputs 0 and 3 beside its four: they do not fit, and its
  # whole canvas is computed. The other rows stay in their windows.
  plan, params = network(2, shifted=True)
  tokens, valid = canvases(gaps=True)
  tokens = jnp.asarray(tokens, jnp.int32)
  masked = (tokens == 9) & valid
  open_ = masked & (jnp.cumsum(masked, -1) <= WIDE)
  rows = jnp.ones(3, bool)
  plain = huggingface.denoiser(plan, params)
  fast = huggingface.denoiser(plan, params, WIDE)
  memo = fast.commit(fast.init(tokens, valid), tokens, rows, open_)
  shown = tokens.at[:, 5].set(4)
  _, whole = plain.ask(plain.init(tokens, valid), shown, rows)
  after, found = fast.ask(memo, shown, rows)
  near = np.isclose(found.features, whole.features, atol=1e-5).all((1, 2))
  assert near.tolist() == [False, True, False]
  alone = fast.commit(
    fast.init(tokens[:1], valid[:1]), tokens[:1], rows[:1], open_[:1]
  )
  alone, own = fast.ask(alone, shown[:1], rows[:1])
  np.testing.assert_allclose(found.features[:1], own.features, atol=1e-5)
  assert after.meter.positions.tolist() == [L + WIDE + 1, 2 * L, L + WIDE + 1]


@pytest.mark.slow
def test_without_a_commit_the_whole_canvas_is_computed():
  plan, params = network(3)
  sampler = samplers.top_k(2)
  plain = decode(plan, params, sampler, length=None, window=None)
  fast = decode(plan, params, sampler, length=None)
  assert (plain.tokens == fast.tokens).all()
  assert (plain.meter.positions == fast.meter.positions).all()
  # Likewise for blocks that do not fit; commits are charged all the same.
  plain = decode(plan, params, sampler, length=6, window=None)
  long = decode(plan, params, sampler, length=6)
  assert (plain.tokens == long.tokens).all()
  assert (long.meter.positions > plain.meter.positions).all()


@pytest.mark.slow
def test_several_probes_at_once():
  plan, params = network(1)
  sampler = samplers.lookahead(2, paths=3)
  plain = decode(plan, params, sampler, window=None)
  fast = decode(plan, params, sampler, refresh=np.inf)
  assert (plain.tokens == fast.tokens).all()
  assert (fast.meter.positions < plain.meter.positions).all()


def test_models_without_a_cache_say_so():
  plan, params = network(1)
  plan = plan._replace(module=object())
  with pytest.raises(ValueError, match='object has no KV cache'):
    huggingface.denoiser(plan, params, window=4)
