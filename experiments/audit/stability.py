"""Whether sets of tokens act on a position as the tests of PUNT assume.

Azangulov et al. (https://arxiv.org/abs/2510.21961) assume independence
stability (Assumption 3.3): a position j that tokens y_U do not move is not
moved by y_W for a part W of U. That a token which passed every test may be
written also takes the converse: what two sets do not do, their union does not
do. With `moved` for KL(p_j(. | x) || p_j(. | x, y_U)) > epsilon, U a set of two
tokens or more, cut at random in W and the rest, these are the shares

  unstable  j is moved by W though not by U: Assumption 3.3 fails
  union     j is moved by U though neither by W nor by the rest

of the (U, j, part) and (U, j, cut) that could fail. Names end in _own where U
was shown by a test of PUNT and j tested in it, and in _random for random U of
masked positions and all others for j. Sizes are uniform: random U 2 to all
masked but one, W 1 to all of U but one. A U that makes the canvas impossible
does not count.
"""

import numpy as np

from experiments.audit.numbers import kl, ratio


def stability(film, conditionals, vocab, epsilon, rng, sets, cuts):
  """The shares with standard errors, and out of how many.

  Args:
    film: numbers.Film.
    conditionals: as in numbers.effects; 2 sets (2 + 2 cuts) canvases per row.
    vocab: V.
    epsilon: nats.
    rng: NumPy generator.
    sets: U per row and kind.
    cuts: W per U.
  """
  found = {}
  for kind, choose in (('own', own_sets), ('random', random_sets)):
    step, shown, tests = choose(film, rng, sets)  # (B, K), (B, K, L) twice
    row = np.arange(len(step))[:, None]
    before = film.when[:, None] < step[..., None]
    canvas = np.where(before, film.tokens[:, None], vocab)
    drafts = film.drafts[step, row]
    base, _ = conditionals(canvas)
    whole, possible = conditionals(np.where(shown, drafts, canvas))
    whole = kl(base, whole) > epsilon
    tests = tests & possible[..., None]
    part = np.stack([random_part(rng, shown) for _ in range(cuts)])
    parts = np.stack([part, shown & ~part])  # (2, cuts, B, K, L)
    parts = kl(base, conditionals(np.where(parts, drafts, canvas))[0]) > epsilon
    for name, fails, of in (
      ('unstable', parts, np.broadcast_to(tests & ~whole, parts.shape)),
      ('union', whole, tests & ~parts.any(0)),
    ):
      found |= ratio(f'{name}_{kind}', per_row(of & fails), per_row(of))
      found[f'{name}_{kind}_count'] = int(of.sum())
  return found


def per_row(chosen):
  """(..., B, K, L) bool -> (B,) how many."""
  return chosen.reshape(-1, *chosen.shape[-3:]).sum((0, 2, 3))


def own_sets(film, rng, sets):
  """Random tests of each row that showed two tokens or more.

  Returns:
    step (B, K), shown (B, K, L), tests (B, K, L); no tests in rows without.
  """
  batch, length = film.tokens.shape
  step = np.zeros((batch, sets), int)
  shown, tests = np.zeros((2, batch, sets, length), bool)
  large = film.tests.any(-1) & (film.shown.sum(-1) > 1)  # (S, B, R)
  for b in range(batch):
    t, r = np.nonzero(large[:, b])
    if t.size:
      pick = rng.integers(t.size, size=sets)
      step[b] = t[pick]
      shown[b], tests[b] = (
        x[t[pick], b, r[pick]] for x in (film.shown, film.tests)
      )
  return step, shown, tests


def random_sets(film, rng, sets):
  """Like own_sets: any masked positions shown, all others tested."""
  batch, length = film.tokens.shape
  steps = np.arange(film.when.max() + 1)
  masked = film.when[:, None] >= steps[:, None]  # (B, S, L)
  score = rng.random((batch, sets, len(steps)))
  step = np.where((masked.sum(-1) > 2)[:, None], score, -1).argmax(-1)
  masked = masked[np.arange(batch)[:, None], step]  # (B, K, L)
  masked &= (masked.sum(-1) > 2)[..., None]
  shown = random_part(rng, masked, 2)
  return step, shown, masked & ~shown


def random_part(rng, sets, least=1):
  """A random part of each set (..., L), of `least` to all but one."""
  size = sets.sum(-1)
  most = np.maximum(size - least, 1)
  count = least + np.floor(rng.random(size.shape) * most)
  count = np.minimum(count, size - 1)
  score = np.where(sets, rng.random(sets.shape), np.inf)
  return np.argsort(np.argsort(score, -1), -1) < count[..., None]
