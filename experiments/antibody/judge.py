"""How likely an antibody model finds domains that another one wrote.

The pseudo-NLL: -log p(residue | the others), nats per residue. Asking for one
residue at a time would take 120 forward passes a domain. Here the residues that
were written are split at random into `groups` of which each is masked as a
whole, a sixth say: about the share that these models were trained on. `asked`
of the groups are: one a domain, on many domains, costs as much as all six on
few and has smaller errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.antibody.models import RESIDUES, encode

BATCH = 32  # questions that are asked together
WIDTH = 128  # least positions of a question: one compilation for most


def score(model, domains, open_, groups, asked, seed):
  """Mean pseudo-NLL of what was written, (B,) nats per residue.

  Args:
    model: models.Antibody.
    domains: strings of residues.
    open_: as long; `_` where a residue was written. The others are given.
    groups: that a domain's residues are split into.
    asked: how many of them are masked, each in a forward pass of its own.
    seed: of the split: the same for every model and every sampler.
  """
  questions = []  # (row, positions)
  for i, canvas in enumerate(open_):
    places = np.flatnonzero([c == '_' for c in canvas])
    places = np.random.default_rng((seed, i)).permutation(places)
    parts = np.array_split(places, groups)[:asked]
    questions += [(i, part) for part in parts if part.size]
  width = max(WIDTH, max(map(len, domains)) + 2)
  tokens, valid = pad(model, domains, width)
  nll, count = np.zeros(len(domains)), np.zeros(len(domains))
  for start in range(0, len(questions), BATCH):
    batch = questions[start : start + BATCH]
    rows = np.array([row for row, _ in batch])
    hidden = np.zeros((len(batch), width), bool)
    for line, (_, part) in zip(hidden, batch, strict=True):
      line[part + 1] = True  # behind `begin`
    found = _ask(model, tokens[rows], valid[rows], hidden)
    np.add.at(nll, rows, np.where(hidden, found, 0).sum(1))
    np.add.at(count, rows, hidden.sum(1))
  return nll / count


def least(models, *what):
  """`score` of the model that finds a domain likeliest: Sapiens has two."""
  return np.min([score(model, *what) for model in models], axis=0)


def pad(model, domains, width):
  """Rows of token ids: (tokens (B, width) int32, valid (B, width) bool)."""
  tokens = np.full((len(domains), width), model.end, np.int32)
  valid = np.zeros(tokens.shape, bool)
  for i, domain in enumerate(domains):
    tokens[i, : len(domain) + 2] = encode(model, domain)
    valid[i, : len(domain) + 2] = True
  return tokens, valid


def _ask(model, tokens, valid, hidden):
  """-log p of the tokens (N, L) with `hidden` masked, (N, L) nats."""
  ids = tuple(model.vocabulary.index(c) for c in RESIDUES)
  table = np.zeros(len(model.vocabulary), np.int32)
  table[list(ids)] = np.arange(len(ids))
  spare = ((0, BATCH - len(tokens)), (0, 0))  # one shape, compiled once
  questions = np.pad(np.where(hidden, model.mask, tokens), spare, mode='edge')
  found = _compiled(model.module, ids)(
    model.params, questions, np.pad(valid, spare, mode='edge'),
    np.pad(table[tokens], spare),
  )
  return np.asarray(found)[: len(tokens)]


@functools.cache
def _compiled(module, ids):
  """(params, tokens, valid, target (N, L)) -> (N, L) nats."""

  @jax.jit
  def ask(params, tokens, valid, target):
    logits = module.apply({'params': params}, tokens, valid)
    logp = jax.nn.log_softmax(logits[..., jnp.array(ids)])
    return -jnp.take_along_axis(logp, target[..., None], -1)[..., 0]

  return ask
