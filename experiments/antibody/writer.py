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


def canvases(config, task):
  """config.rows strings of residues and `_`.

  Whole domains have the lengths of config.lengths in turn, or if that is ()
  those of the natural heavy chains, whose first config.shown residues are
  given. Loops are open in the natural heavy chains in turn.
  """
  natural = list(antibody_natural.HEAVY.values())
  if task == 'loops':
    found = [
      ''.join('_' if x else c for c, x in zip(
        domain, chains.loops(domain), strict=True
      ))
      for domain in natural
    ]
  elif config.lengths:
    found = ['_' * length for length in config.lengths]
  else:
    n = config.shown
    found = [domain[:n] + '_' * (len(domain) - n) for domain in natural]
  return list(itertools.islice(itertools.cycle(found), config.rows))


def denoiser(model, params):
  """The Denoiser of an Antibody: residues alone are drafted and judged."""
  size = len(model.vocabulary)
  plan = Layout(model.module, {}, size, model.mask, model.length)
  marks = [i for i, c in enumerate(model.vocabulary) if c not in RESIDUES]
  bare = huggingface.denoiser(plan, params)
  return punt_jax.judge_drafts(punt_jax.ban(bare, marks))


def compile_one(config, model, choice, most):
  """run(params, knobs, key, tokens, valid=, rows=) of one program."""

  def build(params, knobs):
    tempered = punt_jax.temper(denoiser(model, params), config.temperature)
    return tempered, choice.make(knobs)

  return punt_jax.compile(build, most)


def write(config, model, choice, run, open_):
  """Fills the canvases -> (Decoded on the host, domains as strings)."""
  size, vocab = config.chunk, len(model.vocabulary)
  width = max(map(len, open_)) + 2
  knobs = {key: float(value) for key, value in choice.knobs.items()}
  key = jax.random.key(config.seed)
  parts = []
  for start in range(0, len(open_), size):
    part = open_[start : start + size]
    part += part[:1] * (size - len(part))  # one shape, compiled once
    tokens, valid = judge.pad(model, part, width)
    tokens = np.where(tokens == model.mask, vocab, tokens)
    out = run(
      model.params, knobs, key, tokens, valid=valid,
      rows=np.arange(start, start + size),
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


def natural(config, task):
  """(natural domains, the canvases they would have been written on)."""
  pool = list(antibody_natural.HEAVY.values())
  if task == 'domain' and config.lengths:
    pool += list(antibody_natural.LIGHT.values())
    return pool, ['_' * len(domain) for domain in pool]
  few = config.copy_and_resolve_references()
  few.rows = len(pool)
  return pool, canvases(few, task)
