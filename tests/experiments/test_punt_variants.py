"""Every variant of PUNT against a NumPy account of its step, row by row.

The runs are taken apart as in tests/samplers/test_punt.py: which canvases the
model was shown, what was written, what it cost. Nothing in the references below
imports the package.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from experiments.punt_variants import rivals, variants
from punt_jax.oracles import as_denoiser, table
from punt_jax.sampler import from_rule
from tests.helpers import reference

LENGTH, VOCAB = 6, 3
M = VOCAB
TOKENS = np.array(
  [
    [M, M, M, M, M, M],
    [M, M, M, M, M, M],
    [1, M, M, M, M, 2],
    [0, 1, 2, 0, 1, 2],  # nothing open
    [M, M, M, M, 0, M],  # the first two are padding
    [M, M, M, M, 0, 1],
    [0, 1, 2, M, 1, 0],
    [M, 2, M, M, M, M],
  ]
)
VALID = np.ones(TOKENS.shape, bool)
VALID[4, :2] = False
OPEN = VALID & (TOKENS == M)

# Name -> (constructor, what is fixed when compiled, hyperparameters).
VARIANTS = {
  'budgeted': (variants.budgeted, {}, dict(kappa=0.2, epsilon=0.15)),
  'run_budgeted': (
    variants.run_budgeted, dict(first='lsb'), dict(kappa=0.7, epsilon=0.15)
  ),
  'reranked': (variants.reranked, {}, dict(epsilon=0.03)),
  'verified': (variants.verified, {}, dict(epsilon=0.1)),
  'spaced': (rivals.spaced, {}, dict(epsilon=0.1, gap=2.0)),
  'pairs': (rivals.batched, dict(width=2, first='lsb'), dict(epsilon=0.1)),
  'one stage': (rivals.batched, dict(width=3), dict(epsilon=0.1, gap=2.0)),
  'sure': (rivals.sure, {}, dict(epsilon=0.05, gamma=0.9)),
  'break_even': (
    rivals.break_even, dict(first='lsb'), dict(epsilon=0.05, gamma=0.3)
  ),
  'votes': (rivals.votes, dict(groups=4), dict(epsilon=0.1, share=0.6)),
  'memory': (rivals.memory, {}, dict(epsilon=0.06, decay=0.9)),
}


class Case:
  """A variant, compiled as single steps that record what the model sees."""

  def __init__(self, name):
    self.constructor, self.fixed, self.traced = VARIANTS[name]
    self.shown = []
    self.steps = punt_jax.step(self.build)

  def build(self, joint, hyperparams):
    world = table(jnp.log(joint))

    def logits(tokens):
      record = lambda tokens: self.shown.append(np.array(tokens))
      jax.debug.callback(record, tokens, ordered=True)
      return world.logits(tokens)

    model = as_denoiser(world._replace(logits=logits))
    return model, self.constructor(**self.fixed, **hyperparams)

  def run(self, joint, hyperparams=None, tokens=TOKENS, valid=VALID, seed=0):
    """Yields (run before, run after, drafts (B, L), probes (P, B, L))."""
    hyperparams = self.traced if hyperparams is None else hyperparams
    joint = jnp.asarray(joint, jnp.float32)
    key = jax.random.key(seed)
    run = self.steps.start(joint, hyperparams, key, tokens, valid=valid)
    while not run.done.all():
      drafts = everything(joint, run)
      self.shown.clear()
      after = jax.device_get(self.steps.advance(joint, hyperparams, run)[0])
      jax.effects_barrier()
      yield run, after, drafts, unpack(self.shown, run)
      run = after


case_of = functools.cache(Case)


@functools.cache
def writer():
  """One compiled step that writes every draft."""
  build = lambda joint, hyperparams: (
    as_denoiser(table(jnp.log(joint))), from_rule(lambda key, view: view.masked)
  )
  return punt_jax.step(build).advance


def everything(joint, run):
  """The drafts of the step that comes next, (B, L)."""
  return np.asarray(writer()(joint, {}, run._replace(carry=()))[0].tokens)


def unpack(calls, run):
  """What the model was shown after the first question: (P, B, L).

  as_denoiser packs valid positions to the front; probes that stand side by
  side come as (B P, L).
  """
  batch = len(run.tokens)
  first, *rest = [c.reshape(batch, -1, LENGTH) for c in calls]
  canvases = np.concatenate([first, *rest], 1).swapaxes(0, 1)
  out = np.tile(np.asarray(run.tokens), (len(canvases), 1, 1))
  for row, valid in enumerate(np.asarray(run.valid)):
    out[:, row, valid] = canvases[:, row, : valid.sum()]
  np.testing.assert_array_equal(out[0][OPEN], np.asarray(run.tokens)[OPEN])
  return out[1:]


# The references: one row, plain loops. `ask(shown)` is the (L,) KL of every
# position when the drafts at `shown` are written, `order` the masked
# positions, surest first.


def plain_rounds(
  ask, codes, bits, epsilon, first, width=1, renumber=False
):
  """(survivors, {position: sum of its divergences}, passes, tests made)."""
  kept, cost, calls, made = list(codes), dict.fromkeys(codes, 0.0), 0, []
  turns = list(range(bits))[:: -1 if first == 'msb' else 1]
  for start in range(0, bits, width):
    dropped = set()
    for bit in turns[start : start + width]:
      code = {p: n for n, p in enumerate(kept)} if renumber else codes
      shown = [p for p in kept if not code[p] >> bit & 1]
      tests = [p for p in kept if p not in shown]
      if shown and tests:
        calls += 1
        moved = ask(shown)
        made.append((shown, tests, moved))
        for p in tests:
          cost[p] += moved[p]
          dropped |= {p} if moved[p] > epsilon else set()
    kept = [p for p in kept if p not in dropped]
  return kept, cost, calls, made


def numbered(order):
  return {p: n for n, p in enumerate(order)}


def punt(ask, order, epsilon, first, **more):
  bits = reference.bit_count(len(order))
  return plain_rounds(ask, numbered(order), bits, epsilon, first, **more)


def greedy(order, gap, place):
  taken = []
  for p in order:
    if all(abs(place[p] - place[q]) >= gap for q in taken):
      taken.append(p)
  return taken


def within(order, kept, cost, limit):
  """The longest prefix of `kept` by cost with sum <= limit(length)."""
  cheap = sorted(kept, key=lambda p: (p != order[0], cost[p], p))
  best = 1
  for n in range(1, len(cheap) + 1):
    if sum(cost[p] for p in cheap[:n]) <= limit(n):
      best = max(best, n)
  return cheap[:best]


class Row:
  """One row before a step, for the functions below."""

  def __init__(self, joint, run, drafts, row, state):
    self.read = reference.distribution_of(joint, run.valid[row])
    self.before = np.asarray(run.tokens[row])
    self.drafts, self.state, self.total = drafts[row], state, OPEN[row].sum()
    self.masked = OPEN[row] & (self.before == M)
    self.place = np.cumsum(VALID[row]) - 1
    self.base = self.read(self.before)
    self.entropy = -reference.score('entropy', self.base, self.drafts)
    self.order = sorted(
      np.flatnonzero(self.masked), key=lambda i: (self.entropy[i], i)
    )

  def ask(self, shown):
    canvas = self.before.copy()
    canvas[list(shown)] = self.drafts[list(shown)]
    return reference.divergence('kl', self.base, self.read(canvas))


# Each returns (positions written, passes after the first); row.state is a dict
# that lives as long as the run of the row.


def budgeted(row, probes, kappa, epsilon, first='msb'):
  kept, cost, calls, _ = punt(row.ask, row.order, epsilon, first)
  return within(row.order, kept, cost, lambda n: kappa), calls


def run_budgeted(row, probes, kappa, epsilon, first):
  kept, cost, calls, _ = punt(row.ask, row.order, epsilon, first)
  spent = row.state.setdefault('spent', 0.0)
  before = row.total - len(row.order)
  limit = lambda n: kappa * (before + n) / row.total - spent
  kept = within(row.order, kept, cost, limit)
  row.state['spent'] += sum(cost[p] for p in kept)
  assert row.state['spent'] <= max(kappa, 0) + 1e-5
  return kept, calls


def reranked(row, probes, epsilon):
  return punt(row.ask, row.order, epsilon, 'msb', renumber=True)[::2]


def verified(row, probes, epsilon):
  kept, _, calls, _ = punt(row.ask, row.order, epsilon, 'msb')
  if len(kept) > 2:
    quarter = kept[len(kept) - -(-len(kept) // 4) :]
    others = [p for p in kept if p not in quarter]
    moved = row.ask(others)
    kept = others + [p for p in quarter if moved[p] <= epsilon]
    calls += 1
  return kept, calls


def spaced(row, probes, epsilon, gap):
  candidates = greedy(row.order, gap, row.place)
  return punt(row.ask, candidates, epsilon, 'msb')[::2]


def batched(row, probes, epsilon, width, gap=1, first='msb'):
  candidates = greedy(row.order, gap, row.place)
  return punt(row.ask, candidates, epsilon, first, width=width)[::2]


def sure(row, probes, epsilon, gamma):
  spent, sure = 0.0, []
  for p in row.order:
    spent += row.entropy[p]
    sure += [p] if spent <= gamma else []
  sure = sure or row.order[:1]
  rest = row.order[len(sure) :]
  codes = dict.fromkeys(sure, 0) | {p: n + 1 for n, p in enumerate(rest)}
  bits = reference.bit_count(len(rest) + 1)
  return plain_rounds(row.ask, codes, bits, epsilon, 'msb')[::2]


def break_even(row, probes, epsilon, gamma, first):
  share, m = row.state.setdefault('share', 1.0), len(row.order)
  sums = np.cumsum([0.0] + [row.entropy[p] for p in row.order])
  easy = max(1, sum(s <= gamma for s in sums[:-1]))
  if share * m <= easy * (1 + reference.bit_count(m)):
    row.state['bound'] = row.state.get('bound', 0) + 1
    return row.order[:easy], 0
  kept, _, calls, _ = punt(row.ask, row.order, epsilon, first)
  row.state['share'] = (share + len(kept) / m) / 2
  return kept, calls


def votes(row, probes, epsilon, groups, share):
  order, m = row.order, len(row.order)
  tests = []  # (shown, hidden, moved), read off the canvases
  for canvas in probes:
    shown = [p for p in order if canvas[p] != M]
    if m > 1:
      assert len(shown) == m - m // 2
      hidden = [p for p in order if p not in shown]
      tests.append((shown, hidden, row.ask(shown)))
  kept = []
  for j in order:
    mine = [(s, moved[j] > epsilon) for s, hid, moved in tests if j in hid]
    if j != order[0] and sum(f for _, f in mine) > share * len(mine):
      continue
    if all(any(i in s and not f for s, f in mine) for i in kept):
      kept.append(j)
  return kept, len(tests)


def memory(row, probes, epsilon, decay):
  effect = row.state.setdefault('effect', np.zeros((LENGTH, LENGTH)))
  candidates = []
  for j in row.order:
    if not candidates or sum(effect[j, i] for i in candidates) <= epsilon:
      candidates.append(j)
  row.state['waited'] = row.state.get('waited', 0) + (
    len(row.order) - len(candidates)
  )
  kept, _, calls, made = punt(row.ask, candidates, epsilon, 'msb')
  for shown, tests, moved in made:
    for j in tests:
      missing = (moved[j] - effect[j, shown].sum()) / len(shown)
      effect[j, shown] = np.maximum(effect[j, shown] + missing, 0)
  effect *= decay
  return kept, calls


REFERENCES = {
  f.__name__: f
  for f in (
    budgeted, run_budgeted, reranked, verified, spaced, batched, sure,
    break_even, votes, memory,
  )
}


def checked(name, joint, seed=0, hyperparams=None):
  """Runs to the end, every step against its reference -> (rows, last run).

  rows: for each step of each live row (row, written, passes, Row).
  """
  case = case_of(name)
  hyperparams = case.traced if hyperparams is None else hyperparams
  expected = REFERENCES[case.constructor.__name__]
  states = [{} for _ in TOKENS]
  done = []
  for run, after, drafts, probes in case.run(joint, hyperparams, seed=seed):
    for i in np.flatnonzero(~np.asarray(run.done)):
      row = Row(joint, run, drafts, i, states[i])
      kept, calls = expected(row, probes[:, i], **case.fixed, **hyperparams)
      canvas = row.before.copy()
      canvas[kept] = row.drafts[kept]
      np.testing.assert_array_equal(after.tokens[i], canvas)
      assert after.memo.meter.nfe[i] - run.memo.meter.nfe[i] == 1 + calls
      done.append((i, sorted(kept), calls, row))
  return done, after


@pytest.mark.parametrize('name', VARIANTS)
def test_every_step_is_what_the_docstring_says(name):
  sizes = []
  for seed in range(3):
    joint = reference.coupled_joint(seed, LENGTH, VOCAB)
    rows, _ = checked(name, joint, seed)
    sizes += [(len(kept), len(row.order)) for _, kept, _, row in rows]
  assert any(kept == 1 for kept, m in sizes if m > 1)
  assert any(1 < kept < m for kept, m in sizes)


@pytest.mark.parametrize('name', VARIANTS)
def test_a_run_fills_what_is_open_and_counts_its_questions(name):
  """What each row pays is compared with the references above."""
  joint = reference.coupled_joint(7, LENGTH, VOCAB)
  forwards = 0
  for run, after, _, probes in case_of(name).run(joint):
    live = ~np.asarray(run.done)
    written = np.asarray(after.tokens) != np.asarray(run.tokens)
    assert written.any(1)[live].all() and not written[~OPEN].any()
    forwards += 1 + len(probes)
  meter = after.memo.meter
  assert (after.tokens[OPEN] < VOCAB).all() and after.done.all()
  assert meter.forwards.tolist() == [forwards]
  assert (meter.depth <= meter.nfe).all()


@pytest.mark.parametrize('name', VARIANTS)
def test_its_exact_settings_write_the_surest_position(name):
  """One by one in an order that does not see the drafts: exact sampling."""
  case = case_of(name)
  exact = case.constructor(**case.fixed, **case.traced).traits.exact
  assert exact
  joint = reference.coupled_joint(8, LENGTH, VOCAB)
  for run, after, drafts, _ in case.run(joint, {**case.traced, **exact}):
    for i in np.flatnonzero(~np.asarray(run.done)):
      row = Row(joint, run, drafts, i, {})
      first = row.order[0]
      assert np.flatnonzero(after.tokens[i] != row.before) == [first]
      assert after.tokens[i, first] == drafts[i, first]


def parity_joint(check):
  """Positions 0 to 3 are bits of which the checked ones xor to 0."""
  joint = np.zeros((VOCAB,) * LENGTH)
  for bits in np.ndindex((2,) * 4):
    joint[bits] = sum(bits[i] for i in check) % 2 == 0
  return joint + 0.0


def test_verification_sees_the_joint_effect_that_the_rounds_miss():
  """x3 = x1 xor x2 is shown {0 1} and {0 2}, then {0 1 2}."""
  joint = parity_joint((1, 2, 3))
  tokens = np.tile([M, M, M, M, 0, 0], (8, 1))
  whens = {'verified': [0, 0, 0, 1], 'reranked': [0, 0, 0, 0]}
  for name, when in whens.items():
    *_, (_, after, _, _) = case_of(name).run(
      joint, tokens=tokens, valid=tokens >= 0
    )
    assert (after.when[:, :4] == when).all()
    odd = np.asarray(after.tokens[:, 1:4]).sum(1) % 2
    assert odd.any() == (name != 'verified')


def test_pairs_halve_the_depth_and_one_stage_has_depth_two():
  """Independent tokens: all tests pass, 3 rounds for 5 or 6 masked ones."""
  rng = np.random.default_rng(0)
  dists = rng.dirichlet(np.ones(VOCAB), size=LENGTH)
  joint = functools.reduce(np.multiply.outer, dists)
  for name, depth in {'pairs': 1 + 2, 'one stage': 1 + 1}.items():
    hyperparams = dict(epsilon=0.1, gap=1.0)
    (_, after, _, _), = case_of(name).run(joint, hyperparams)
    assert after.memo.meter.nfe[[0, 7]].tolist() == [4, 4]
    assert after.memo.meter.depth[[0, 7]].tolist() == [depth] * 2


def test_spaced_candidates_are_far_from_each_other():
  joint = reference.coupled_joint(1, LENGTH, VOCAB)
  hyperparams = dict(epsilon=50.0, gap=3.0)
  rows, _ = checked('spaced', joint, hyperparams=hyperparams)
  for _, kept, calls, row in rows:
    assert (np.diff(row.place[kept]) >= 3).all()
    assert calls == len(kept) - 1
  assert max(len(kept) for _, kept, _, _ in rows) == 2


def test_sure_tokens_shorten_the_tests():
  joint = reference.coupled_joint(2, LENGTH, VOCAB)
  passes = lambda gamma: sum(
    calls for _, _, calls, _ in checked(
      'sure', joint, hyperparams=dict(epsilon=50.0, gamma=gamma)
    )[0]
  )
  # Six masked positions take 3 rounds; if all are sure there is no test.
  assert passes(0.0) > passes(2.5) > passes(100.0) == 0


def test_break_even_stops_to_test_where_tests_fail():
  joint = reference.random_joint(0, LENGTH, VOCAB)  # all depend on all
  rows, _ = checked('break_even', joint)
  first = [row for row in rows if row[0] == 0]
  passes = [calls for _, _, calls, _ in first]
  assert passes[0] == 3 and passes[1:] == [0] * (len(first) - 1)


def test_memory_makes_candidates_wait():
  waited = 0
  for seed in range(3):
    joint = reference.coupled_joint(seed, LENGTH, VOCAB)
    rows, _ = checked('memory', joint, seed)
    waited += max(row.state['waited'] for _, _, _, row in rows)
    forgetful, _ = checked('memory', joint, seed, dict(epsilon=0.06, decay=0.0))
    assert all(row.state['waited'] == 0 for _, _, _, row in forgetful)
  assert waited


def test_votes_let_the_surer_of_two_equal_tokens_through():
  """Copies in pairs: a group that parts a pair moves the one it hides."""
  joint = np.zeros((VOCAB,) * LENGTH)
  for a, b, c in np.ndindex((2,) * 3):  # bits: their entropies are equal
    joint[a, a, b, b, c, c] = 1
  hyperparams = dict(epsilon=0.1, share=1.0)
  run, after, _, probes = next(case_of('votes').run(joint, hyperparams))
  parted = 0
  for i in (0, 1):  # six masked positions
    shown, written = probes[:, i] != M, after.tokens[i] != M
    for left in (0, 2, 4):
      split = (shown[:, left] & ~shown[:, left + 1]).any()
      assert not (written[left] and written[left + 1] and split)
      parted += written[left] and split
    assert written[0]
  assert parted
