"""The rules of the one-call-per-step samplers, worked by hand.

In a product world nothing that is written changes what is left, so the
distribution of each position stays as listed and the whole run can be worked on
paper. `when` below is the step that writes each position, -1 where the token
was given.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import denoiser, samplers
from punt_jax.oracles import as_denoiser, product
from tests.helpers import reference
from tests.helpers.reference import confident

LENGTH, VOCAB, ROWS = 8, 4, 128
FIELDS = ('tokens', 'when')


@functools.cache
def runner(name, greedy=False, **fixed):
  """One compiled run per sampler; numbers among its arguments are traced."""

  def build(dist, hyperparams):
    model = as_denoiser(product(jnp.log(dist)))
    if greedy:
      model = denoiser.temper(model, 0.0)
    return model, getattr(samplers, name)(**fixed, **hyperparams)

  return punt_jax.compile(build)


def run(name, dist, seed=0, given=(), valid=None, greedy=False, **args):
  """Decodes ROWS equal rows of the product world of distribution (L, V)."""
  fixed = {k: v for k, v in args.items() if isinstance(v, str)}
  hyperparams = {k: v for k, v in args.items() if k not in fixed}
  tokens = np.full((ROWS, LENGTH), VOCAB)
  tokens[:, list(given)] = 0
  if valid is not None:
    valid = np.broadcast_to(valid, tokens.shape)
  decode = runner(name, greedy, **fixed)
  dist = jnp.asarray(dist, jnp.float32)
  out = decode(dist, hyperparams, jax.random.key(seed), tokens, valid=valid)
  assert np.asarray(out.done).all()
  return jax.device_get(out)


def when(name, dist, **args):
  """The list of steps that all rows share, whatever they drafted."""
  steps = run(name, dist, **args).when
  assert (steps == steps[0]).all()
  return steps[0].tolist()


def many(name, dist, runs, **args):
  """tokens, when of `runs` times ROWS rows."""
  outs = [run(name, dist, seed=seed, **args) for seed in range(runs)]
  return (np.concatenate([getattr(o, f) for o in outs]) for f in FIELDS)


def even_over(*counts):
  """(L, V): position i is uniform over counts[i] tokens, entropy ln of it."""
  return np.stack([(np.arange(VOCAB) < n) / n for n in counts])


# Best first: 7 (.99), 1 (.95), 3 (.9), 0 (.8), 4 (.6), 5 (.5), 6 (.45), 2 (.4)
LADDER = confident(0.8, 0.95, 0.4, 0.9, 0.6, 0.5, 0.45, 0.99)

# Four positions on which the scores disagree; 4 to 7 are given.
#        confidence  margin  entropy
# 0 (A)     .50        0      .693
# 1 (B)     .46       .28    1.283
# 2 (C)     .60       .20     .673
# 3 (D)     .64       .52    1.049
DISPUTED = np.array(
  [
    [0.5, 0.5, 0, 0],
    [0.18, 0.46, 0.18, 0.18],
    [0.4, 0, 0.6, 0],
    [0.12, 0.12, 0.12, 0.64],
  ]
  + [[1, 0, 0, 0]] * 4
)
GIVEN = range(4, 8)


@pytest.mark.parametrize(
  'score, order',
  [('confidence', 'DCAB'), ('margin', 'DBCA'), ('entropy', 'CADB')],
)
def test_one_by_one_follows_its_score(score, order):
  expected = [order.index(letter) for letter in 'ABCD'] + [-1] * 4
  assert when('one_by_one', DISPUTED, given=GIVEN, score=score) == expected


def test_ties_go_to_the_leftmost():
  dist = even_over(2, 2, 2, 2, 2, 2, 2, 2)
  got = when('one_by_one', dist, given=(1, 4), score='confidence')
  assert got == [0, -1, 1, 2, -1, 3, 4, 5]


def test_scores_that_differ_by_little_are_no_tie():
  # Equal in bfloat16; in float32 the later position is the surer one.
  dist = confident(0.9990, 0.9991, 0.9992, *[0.5] * 5)
  got = when('one_by_one', dist, given=range(3, 8), score='confidence')
  assert got == [2, 1, 0] + [-1] * 5


@pytest.mark.parametrize(
  'k, expected',
  [
    (1, [3, 1, 7, 2, 4, 5, 6, 0]),
    (3, [1, 0, 2, 0, 1, 1, 2, 0]),  # {7 1 3} {0 4 5} {6 2}
    (9, [0] * 8),
  ],
)
def test_top_k(k, expected):
  assert when('top_k', LADDER, k=k, score='margin') == expected


def test_top_k_by_margin():
  # {D B} {C A}; confidence would give {D C} {A B}
  got = when('top_k', DISPUTED, given=GIVEN, k=2, score='margin')
  assert got == [1, 0, 1, 0] + [-1] * 4


@pytest.mark.parametrize(
  'gamma, expected',
  [
    # Sorted: 1 (0), 0 (ln 2), 4 (ln 2), 3 (ln 3), 2 (ln 4), 5 (ln 4). Sum less
    # largest of the first n: 0, 0, .693, 1.386, 2.485, 3.871. Then from
    # {3 2 5}: 0, 1.099, 2.485. Then from {2 5}: 0, 1.386.
    (1.0, [0, 0, 2, 1, 0, 3, -1, -1]),
    (1.2, [0, 0, 1, 1, 0, 2, -1, -1]),
    (1.5, [0, 0, 1, 0, 0, 1, -1, -1]),
    (9.0, [0, 0, 0, 0, 0, 0, -1, -1]),
  ],
)
def test_entropy_bound(gamma, expected):
  dist = even_over(2, 1, 4, 3, 2, 4, 1, 1)
  got = when('entropy_bound', dist, given=(6, 7), gamma=gamma, score='entropy')
  assert got == expected


def test_entropy_bound_subtracts_the_largest_not_the_last():
  # By confidence: D (1.049), C (.673), A (.693), B (1.283). Sum less largest:
  # 0, .673, 1.366, 2.415, so {D C}; then A, B: 0, .693, so {A B}.
  got = when(
    'entropy_bound', DISPUTED, given=GIVEN, gamma=0.8, score='confidence'
  )
  assert got == [1, 1, 0, 0] + [-1] * 4


@pytest.mark.parametrize(
  'tau, expected',
  [
    (0.7, [0, 0, 4, 0, 1, 2, 3, 0]),  # {7 1 3 0}, then the best one each time
    (0.42, [0, 0, 1, 0, 0, 0, 0, 0]),
    (0.97, [3, 1, 7, 2, 4, 5, 6, 0]),
  ],
)
def test_threshold(tau, expected):
  assert when('threshold', LADDER, tau=tau) == expected


@pytest.mark.parametrize(
  'f, expected',
  [
    # (n + 1)(1 - c_n) for the sorted ladder: .02 .15 .4 1.0 2.4 ...; from .8:
    # .4 1.2; from .6: .8 1.5; from .5: 1.0 1.65; from .45: 1.1 1.8; from .4:
    # 1.2. At least one is always written.
    (0.75, [1, 0, 5, 0, 2, 3, 4, 0]),  # {7 1 3} {0} {4} {5} {6} {2}
    (1.05, [0, 0, 4, 0, 1, 2, 3, 0]),  # {7 1 3 0} {4} {5} {6} {2}
    (1.6, [0, 0, 3, 0, 1, 1, 2, 0]),  # {7 1 3 0} {4 5} {6} {2}
    (0.01, [3, 1, 7, 2, 4, 5, 6, 0]),
  ],
)
def test_factor(f, expected):
  assert when('factor', LADDER, f=f) == expected


@pytest.mark.parametrize(
  'base, expected',
  [
    (2, [0, 2, 1, 2, 0, 2, 1, 2]),  # strides 4, 2, 1: {1 5} {3 7} {2 4 6 8}
    (3, [0, 1, 0, 1, 0, 1, 0, 1]),  # strides 2 and (8 // 9, at least) 1
    (8, [0] * 8),  # stride 1 at once
  ],
)
def test_dilated(base, expected):
  assert when('dilated', LADDER, base=base) == expected


def alone_when(sampler, length, steps):
  """The steps of one row of `length` even bits."""

  def build(dist, hyperparams):
    return as_denoiser(product(jnp.log(dist))), sampler

  decode = punt_jax.compile(build, max_steps=steps)
  dist, tokens = np.full((length, 2), 0.5), np.full((1, length), 2)
  return decode(dist, None, jax.random.key(0), tokens).when[0].tolist()


def test_dilated_strides_are_whole_numbers():
  """On 81 positions, base 3: strides 27, 9, 3, 1, whatever pow rounds to."""
  index = np.arange(81)
  expected = np.select([index % s == 0 for s in (27, 9, 3)], [0, 1, 2], 3)
  assert alone_when(samplers.dilated(3), 81, 4) == expected.tolist()


def test_dilated_starts_again_in_every_block():
  # Two blocks of four, strides 2 and 1: {1 3} {2 4} {5 7} {6 8}.
  sampler = samplers.blocks(samplers.dilated(2), 4)
  assert alone_when(sampler, 8, 8) == [0, 1, 0, 1, 2, 3, 2, 3]


def test_dilated_counts_from_the_first_valid_position():
  # Six positions, base 2: strides 3 and 1, so {1 4} {2 3 5 6}.
  valid = np.arange(LENGTH) >= 2
  got = when('dilated', LADDER, base=2, valid=valid)
  assert got == [-1, -1, 0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
  'steps, expected',
  [
    # Van der Corput: 0 4 2 6 1 5 3 7. Written after step t: the larger of t
    # and floor(8 (1 - 2/pi arccos(t / steps))).
    (4, [0, 3, 2, 3, 1, 3, 2, 3]),  # 1.29 2.67 4.32 8: {0} {4} {2 6} {rest}
    (3, [0, 2, 1, 2, 1, 2, 2, 2]),  # 1.73 3.72 8: {0} {4 2} {6 1 5 3 7}
    (1, [0] * 8),
  ],
)
def test_halton(steps, expected):
  assert when('halton', LADDER, steps=steps) == expected


def test_halton_visits_cells_when_the_length_is_no_power_of_two():
  # 0 1/2 1/4 3/4 1/8 5/8 3/8 7/8 fall into the cells 0 3 1 4 0 3 2 5 of 6.
  valid = np.arange(LENGTH) < 6
  got = when('halton', LADDER, steps=6, valid=valid)
  assert got == [0, 2, 4, 1, 3, 5, -1, -1]
  # Of 16 points, 0 8 4 12 2 10 6 14 1 9 5 ..., the cell floor(11 p / 16):
  # 0 5 2 8 1 6 4 9 (0 6) 3 (8 4 0 ...) 7 10.
  got = alone_when(samplers.halton(11), 11, 11)
  assert got == [0, 4, 2, 8, 6, 1, 5, 9, 3, 7, 10]


@pytest.mark.parametrize(
  'given, expected',
  [
    # Masked after step t of 4: floor(N cos(pi/2 t/4)) = 7 5 3 0 for N = 8, so
    # {7} {1 3} {0 4} {5 6 2}.
    ((), [2, 1, 3, 1, 2, 3, 3, 0]),
    # N = 5: 4 3 1 0, so {0} {4} {5 6} {2}.
    ((1, 3, 7), [0, -1, 3, -1, 1, 2, 2, -1]),
    # N = 2: 1.85 1.41 .77 0; at least one goes each step, so {0} {2}.
    ((1, 3, 4, 5, 6, 7), [0, -1, 1, -1, -1, -1, -1, -1]),
  ],
)
def test_maskgit(given, expected):
  got = when(
    'maskgit', LADDER, given=given, greedy=True, steps=4, noise=0.0
  )
  assert got == expected


def test_maskgit_noise_is_gumbel_times_what_is_left_of_the_steps():
  # The first of 4 steps writes one position and scales the noise by
  # (1 - 1/4) / 3 = 1/4, so each is first in proportion to the 4th power of its
  # draft's probability: .8 .95 .4 .9 .6 .5 .45 .99.
  _, steps = many(
    'maskgit', LADDER, runs=16, greedy=True, steps=4, noise=1 / 3
  )
  first = (steps == 0).sum(0)
  assert first.sum() == len(steps)
  assert reference.fits(first, LADDER.max(1) ** 4)


def test_uniform_writes_k_random_positions():
  # Every triple of 8 positions is as likely: 56 of them.
  _, steps = many('uniform', LADDER, runs=8, k=3)
  assert (np.sort(steps, axis=1) == [0, 0, 0, 1, 1, 1, 2, 2]).all()
  triples = ((steps == 0) * 2 ** np.arange(8)).sum(1)
  counts = np.unique(triples, return_counts=True)[1]
  assert len(counts) == 56 and reference.fits(counts, np.ones(56))


def test_a_score_of_the_draft_looks_at_the_draft():
  # A draft of A has probability .5 whatever it is. C goes before it only when
  # its own draft is token 2 (.6) and not token 0 (.4), and A before C only
  # when C drafted token 0.
  dist = DISPUTED[[0, 2] + [4] * 6]
  tokens, steps = many(
    'one_by_one', dist, runs=4, given=range(2, 8), score='draft'
  )
  c_first = steps[:, 1] == 0
  assert (tokens[c_first, 1] == 2).all()
  assert abs(c_first.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / len(steps))
