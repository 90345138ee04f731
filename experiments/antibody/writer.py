"""How an antibody model writes: canvases, the denoiser, decoding in chunks."""

import itertools

import jax
import numpy as np

import punt_jax
from experiments.antibody import chains, judge
from experiments.antibody import natural as antibody_natural
from experiments.antibody.models import RESIDUES
from punt_jax.checkpoints import huggingface
from punt_jax.generation import options
from punt_jax.models.layout import Layout


def canvases(subject, rows, lengths, shown):
  """`rows` strings of residues and `_`.

  Whole domains have these lengths in turn, or if there are none those of the
  natural heavy chains, whose first `shown` residues are given. Loops are open
  in the natural heavy chains in turn.
  """
  natural = list(antibody_natural.HEAVY.values())
  if subject == 'loops':
    found = [
      ''.join('_' if x else c for c, x in zip(
        domain, chains.loops(domain), strict=True
      ))
      for domain in natural
    ]
  elif lengths:
    found = ['_' * length for length in lengths]
  else:
    found = [domain[:shown].ljust(len(domain), '_') for domain in natural]
  return list(itertools.islice(itertools.cycle(found), rows))


def denoiser(model, params):
  """The Denoiser of an Antibody: residues alone are drafted and judged."""
  size = len(model.vocabulary)
  plan = Layout(model.module, {}, size, model.mask, model.length)
  marks = [i for i, c in enumerate(model.vocabulary) if c not in RESIDUES]
  bare = huggingface.denoiser(plan, params)
  return punt_jax.judge_drafts(punt_jax.ban(bare, marks))


def compile_one(model, choice, most, temperature):
  """run(params, hyperparams, key, tokens, valid=, rows=) of one program."""

  def build(params, hyperparams):
    tempered = punt_jax.temper(denoiser(model, params), temperature)
    return tempered, choice.make(hyperparams)

  return punt_jax.compile(build, most)


def write(model, choice, run, open_, chunk, seed):
  """Fills the canvases -> (Decoded on the host, domains as strings).

  Args:
    model: models.Antibody.
    choice: options.Choice.
    run: of compile_one.
    open_: canvases.
    chunk: how many are written together.
    seed: of the drafts.
  """
  vocab = len(model.vocabulary)
  width = max(map(len, open_)) + 2
  hyperparams = {key: float(value) for key, value in choice.traced.items()}
  key = jax.random.key(seed)
  parts = []
  for start in range(0, len(open_), chunk):
    part = open_[start : start + chunk]
    part += part[:1] * (chunk - len(part))  # one shape, compiled once
    tokens, valid = judge.pad(model, part, width)
    tokens = np.where(tokens == model.mask, vocab, tokens)
    out = run(
      model.params, hyperparams, key, tokens, valid=valid,
      rows=np.arange(start, start + chunk),
    )
    parts.append(jax.tree.map(np.asarray, out))
  n = len(open_)
  many = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  forwards = many.meter.forwards
  many = jax.tree.map(lambda x: x[:n], many)
  many = many._replace(meter=many.meter._replace(forwards=forwards))
  options.check_finished(choice, many)
  domains = [
    ''.join(model.vocabulary[i] for i in row[1 : len(canvas) + 1])
    for row, canvas in zip(many.tokens, open_, strict=True)
  ]
  return many, domains


def natural(subject, lengths, shown):
  """(natural domains, the canvases they would have been written on)."""
  pool = list(antibody_natural.HEAVY.values())
  if subject == 'domain' and lengths:
    pool += list(antibody_natural.LIGHT.values())
    return pool, ['_' * len(domain) for domain in pool]
  return pool, canvases(subject, len(pool), lengths, shown)
