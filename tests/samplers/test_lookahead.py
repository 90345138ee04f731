"""lookahead and info_gain: what they look at, what they take, what it costs."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import denoiser, samplers
from punt_jax.decode import film
from punt_jax.oracles import as_denoiser, table
from tests.helpers import reference

LENGTH, VOCAB, ROWS, MANY = 5, 2, 16, 32
M = VOCAB
NAMES = ['lookahead', 'info_gain']


@functools.cache
def runner(name, blocks=None, **fixed):
  """One compiled film per sampler; numbers that are no shapes are traced."""

  def build(joint, hyperparams):
    own = {k: v for k, v in hyperparams.items() if k != 'temperature'}
    world = as_denoiser(table(jnp.log(joint)))
    model = denoiser.temper(world, hyperparams['temperature'])
    sampler = getattr(samplers, name)(**fixed, **own)
    return model, samplers.blocks(sampler, blocks) if blocks else sampler

  return punt_jax.compile(build, driver=film)


def run(name, joint, seed=0, tokens=None, temperature=1.0, **args):
  """(Decoded, Moves) of ROWS rows; MANY paths unless told otherwise."""
  fixed = {'paths': MANY} if name in NAMES else {}
  fixed |= {k: v for k, v in args.items() if k in ('paths', 'blocks')}
  hyperparams = {k: float(v) for k, v in args.items() if k not in fixed}
  tokens = np.full((ROWS, LENGTH), M) if tokens is None else tokens
  play = runner(name, **fixed)
  joint = jnp.asarray(joint, jnp.float32)
  hyperparams |= dict(temperature=temperature)
  return jax.device_get(play(joint, hyperparams, jax.random.key(seed), tokens))


def independent(*largest):
  """The joint of independent bits that are 0 with these probabilities."""
  dists = [np.array([c, 1 - c]) for c in largest]
  return functools.reduce(np.multiply.outer, dists)


def keyed():
  """x0 a coin (.55), x1 and x2 copies of it but for .02, x3 and x4 .9 sure."""
  copy = np.array([[0.98, 0.02], [0.02, 0.98]])
  return np.einsum(
    'a,ab,ac,d,e->abcde', [0.55, 0.45], copy, copy, [0.9, 0.1], [0.9, 0.1]
  )


def gaps(joint, out):
  """(B,) log_q - log p of finished runs."""
  return out.log_q - np.log(joint[tuple(out.tokens.T)])


DEFAULTS = {
  'lookahead': dict(k=inspect.Parameter.empty, paths=3, heat=0.2),
  'info_gain': dict(k=inspect.Parameter.empty, paths=8, heat=0.2, skip=0.8),
}


@pytest.mark.parametrize('name', NAMES)
def test_defaults(name):
  found = inspect.signature(getattr(samplers, name)).parameters
  assert {k: p.default for k, p in found.items()} == DEFAULTS[name]


@pytest.mark.parametrize(
  'name, wrong',
  [
    ('lookahead', dict(k=0)),
    ('lookahead', dict(paths=0)),
    ('lookahead', dict(heat=-0.1)),
    ('info_gain', dict(k=np.nan)),
    ('info_gain', dict(paths=0)),
    ('info_gain', dict(heat=-0.1)),
    ('info_gain', dict(skip=-0.1)),
  ],
)
def test_a_number_out_of_range_is_named(name, wrong):
  (hyperparam,) = wrong
  with pytest.raises(ValueError, match=f'^{hyperparam} = '):
    getattr(samplers, name)(**(dict(k=1) | wrong))


def test_the_surest_set_is_visibly_worse():
  """Two at a time, 3 and 4 are the surest and say nothing about the others.

  After {3 4} a copy and the coin are written together, at a gap of almost
  log 2. After {0 3} the rest are .98, .98 and .9 sure: their mean entropy,
  (.098 + .098 + .325) / 3, is the least of all ten sets, and {0 4} ties.
  """
  joint = keyed()
  ahead, _ = run('lookahead', joint, k=2, heat=1)
  greedy, _ = run('top_k', joint, k=2)
  first, greedy_first = ahead.when == 0, greedy.when == 0
  assert (greedy_first == [0, 0, 0, 1, 1]).all()
  assert (first.sum(1) == 2).all() and first[:, 0].all()
  assert (first[:, 3] ^ first[:, 4]).all()
  np.testing.assert_allclose(gaps(joint, ahead), 0, atol=1e-4)
  assert np.abs(gaps(joint, greedy)).min() > 0.3
  assert (ahead.steps == greedy.steps).all()


@pytest.mark.parametrize(
  'name, expected',
  [
    # Entropies .325 (.9) .423 (.85) .673 (.6) .5 (.8) .611 (.7), and nothing
    # to learn. The least doubt is left by the least sure, .6, .7 and so on;
    # counting what they cost, by the surest. The last two of info_gain tie.
    ('lookahead', [4, 3, 0, 2, 1]),
    ('info_gain', [0, 1, 9, 2, 9]),
  ],
)
def test_the_cost_of_what_is_written(name, expected):
  args = dict(skip=2) if name == 'info_gain' else {}
  joint = independent(0.9, 0.85, 0.6, 0.8, 0.7)
  out, _ = run(name, joint, k=1, heat=1, **args)
  tell = np.array(expected) < LENGTH
  assert (out.when[:, tell] == np.array(expected)[tell]).all()
  assert (out.steps == LENGTH).all()


@pytest.mark.parametrize('name', NAMES)
def test_sets_and_their_values(name):
  """Against NumPy, on greedy drafts."""
  joint = reference.random_joint(1, LENGTH, VOCAB, sharpness=1.2)
  tokens = np.full((ROWS, LENGTH), M)
  tokens[: ROWS // 2, 1] = np.arange(ROWS // 2) % 2  # rows of two lengths
  args = dict(skip=0.62) if name == 'info_gain' else {}
  out, moves = run(
    name, joint, tokens=tokens, temperature=0.0, k=2, heat=0.1, **args
  )
  distribution_of = reference.distribution_of(joint)
  looked, skipped, turned = 0, 0, 0
  for row in range(ROWS):
    before = tokens[row]
    for step in range(out.steps[row]):
      dist, masked = distribution_of(before), before == M
      drafts, sure = dist.argmax(-1), dist.max(-1)
      sets = moves.info.sets[step, row]
      value = moves.info.value[step, row]
      skip = name == 'info_gain' and (sure[masked] >= 0.62).all()
      count = masked.sum() if skip else min(2, masked.sum())
      assert (sets.sum(1) == count).all() and not sets[:, ~masked].any()
      order = np.argsort(np.where(masked, -sure, 1.0), kind='stable')
      assert sets[0, order[:count]].all()  # the first is the surest
      chosen = 0
      if count == masked.sum():
        assert np.isnan(value).all()
        skipped += masked.sum() > 2
      else:
        kinds, which = np.unique(sets, axis=0, return_inverse=True)
        expected = []
        for shown in kinds:
          after = distribution_of(np.where(shown, drafts, before))
          good = reference.score('entropy', after, drafts)[masked & ~shown]
          cost = reference.score('entropy', dist, drafts)[shown].sum()
          expected.append(good.mean() + (cost if name == 'info_gain' else 0))
        expected = np.array(expected)[which.ravel()]
        np.testing.assert_allclose(value, expected, atol=1e-4)
        chosen = value.argmax()
        looked += 1
        turned += (sets[chosen] != sets[0]).any()
      after = np.where(sets[chosen], drafts, before)
      np.testing.assert_array_equal(moves.tokens[step, row], after)
      before = after
  assert looked > 10 and turned > 3
  assert skipped > 0 or name == 'lookahead'


def test_sets_are_drawn_at_the_position_temperature():
  """The first position is drawn in proportion to exp(confidence / heat)."""
  confidence = np.array([0.9, 0.7, 0.8, 0.52, 0.6])
  firsts = np.zeros(LENGTH)
  for seed in range(4):
    joint = independent(*confidence)
    _, moves = run('lookahead', joint, seed=seed, k=1, heat=0.25)
    sets = moves.info.sets[0]
    assert (sets[:, 0] == [1, 0, 0, 0, 0]).all()
    firsts += sets[:, 1:].sum((0, 1))
  assert firsts.sum() == 4 * ROWS * (MANY - 1)
  assert reference.fits(firsts, np.exp(confidence / 0.25))


@pytest.mark.parametrize('paths, heat', [(1, 0.7), (MANY, 0.0)])
def test_one_path_or_no_heat_is_top_k(paths, heat):
  """The same tokens; with one path also the same passes."""
  joint = reference.random_joint(2, LENGTH, VOCAB, sharpness=1.2)
  plain, _ = run('top_k', joint, k=2)
  out, _ = run('lookahead', joint, k=2, paths=paths, heat=heat)
  np.testing.assert_array_equal(out.tokens, plain.tokens)
  np.testing.assert_array_equal(out.when, plain.when)
  np.testing.assert_allclose(out.log_q, plain.log_q, atol=1e-5)
  # 1 + n, n and, where nothing is left to look at, 0.
  assert (plain.meter.nfe == 3).all()
  assert (out.meter.nfe == 1 + 2 * paths).all()
  assert (out.meter.depth == 3).all()


def test_passes():
  joint = reference.random_joint(2, LENGTH, VOCAB, sharpness=1.2)
  tokens = np.full((ROWS, LENGTH), M)
  for row in range(1, LENGTH + 1):
    tokens[row, :row] = 0
  out, _ = run('lookahead', joint, tokens=tokens, k=2, heat=0.5)
  # 5, 4, 3, 2, 1 and 0 masks.
  assert out.steps[:6].tolist() == [3, 2, 2, 1, 1, 0]
  assert out.meter.nfe[:6].tolist() == [65, 33, 33, 1, 1, 0]
  assert out.meter.depth[:6].tolist() == [3, 2, 2, 1, 1, 0]
  assert out.meter.forwards.tolist() == [65]
  out, _ = run('lookahead', joint, k=1, paths=2, heat=0.5, blocks=2)
  # Blocks of 2, 2 and 1: 1 + 2 passes, 1 + 2 passes, 1 pass.
  assert (out.meter.nfe == 7).all() and (out.meter.depth == 5).all()


def test_info_gain_skips_what_is_sure():
  # The coin costs .688 and leaves (.098 + .098 + .325 + .325) / 4 = .211; one
  # of the sure ones .325 and (3 * .69 + .325) / 4 = .597, which is more. Then
  # all are .9 at least, and written unseen.
  out, _ = run('info_gain', keyed(), k=1, heat=1, skip=0.8)
  assert (out.when == [0, 1, 1, 1, 1]).all()
  assert (out.meter.nfe == 1 + MANY).all() and (out.meter.depth == 2).all()
  out, _ = run('info_gain', keyed(), k=1, heat=1, skip=0.95)
  assert (out.steps == LENGTH).all()  # the two of .9 are not sure enough
  certain = independent(*[1.0] * LENGTH)
  out, _ = run('info_gain', certain, k=1, heat=1, skip=0.8)
  assert (out.steps == 1).all() and (out.meter.nfe == 1).all()
  out, _ = run('info_gain', certain, k=1, heat=1, skip=2)
  assert (out.steps == LENGTH).all()


def test_memory_is_small():
  """The carry has features, and nothing of the size of the vocabulary."""
  features = lambda tokens, valid: jnp.zeros((*tokens.shape, 3))
  head = lambda x: x @ jnp.ones((3, 50))
  model = denoiser.from_features(features, head, 50)
  tokens, flags = jnp.zeros((2, 7), jnp.int32), jnp.ones((2, 7), bool)
  canvas = punt_jax.Canvas(tokens, flags, flags, flags, flags.sum(-1))
  carry = samplers.info_gain(1).init(jax.random.key(0), canvas, model)
  assert [x.shape for x in jax.tree.leaves(carry)] == [(2, 7, 3)]
