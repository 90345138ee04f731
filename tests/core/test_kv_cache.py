"""The KV cache: what it computes, what it charges, where it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.checkpoints import huggingface
from punt_jax.models import llama

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
  plan = llama.llada(CONFIG | {'n_layers': layers})
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


@pytest.mark.parametrize('shifted', [
  pytest.param(False, id='llada'),
  pytest.param(True, id='dream', marks=pytest.mark.slow),
])
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
