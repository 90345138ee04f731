"""When is each kind of token written: structure first, details later?

  python -m experiments.writing_order --config=configs/writing_order.py --workdir=runs/order

PUNT's authors report headings and skeleton first, details later (2510.21961).
This decodes documents (oracles.documents) over a sweep of the two couplings,
and text of the shipped model, and measures the moment at which each token was
written: the share of the canvas that was written before it, tokens of the same
step counted half, so 0.5 on average whatever the sampler. Writes results.jsonl
(a row per subject and sampler; a run that was stopped goes on), kinds.png
(mean moment of each kind) and order.png (heat maps).
"""

import itertools
import pathlib

import jax
import numpy as np

import punt_jax
from experiments.common import columns, subjects
from experiments.writing_order import plot
from punt_jax import jsonl, metrics
from punt_jax.checks import in_range
from punt_jax.cli import command, records
from punt_jax.generation import options
from punt_jax.oracles import named

BINS = 16  # moments of the heat maps
DOCUMENT = ('heading', 'structure', 'detail')
TEXT = ('line break', 'space', 'punctuation', 'capital', 'letter')


def cases(config):
  """[(subject, {coupling: number})]: documents over the sweep, then text."""
  sweep = itertools.product(config.down, config.up)
  found = [('documents', dict(down=d, up=u)) for d, u in sweep]
  return found + [(name, {}) for name in config.texts]


def moments(when):
  """(B, L) steps -> share of the row written before, ties counted half."""
  when = np.asarray(when)
  earlier = (when[:, None, :] < when[:, :, None]).sum(-1)
  same = (when[:, None, :] == when[:, :, None]).sum(-1) - 1
  return (earlier + same / 2) / (when.shape[1] - 1)


def tau(when):
  """Kendall's tau-b (B,) of position and step: 1 is left to right.

  0 where everything was written in one step.
  """
  when = np.asarray(when)
  i, j = np.triu_indices(when.shape[1], 1)
  sign = np.sign(when[:, j] - when[:, i])
  untied = np.abs(sign).sum(-1)
  return sign.sum(-1) / np.sqrt(np.maximum(untied, 1) * len(i))


def kind_of(letter):
  """The index in TEXT of a character."""
  if letter == '\n':
    return 0
  if letter.isspace():
    return 1
  if not letter.isalpha():
    return 2
  return 3 if letter.isupper() else 4


def kinds_of(config, name, couplings, subject, tokens):
  """(names of the kinds, (B, L) kind of each token)."""
  if name == 'documents':
    settings = config.settings.to_dict() | couplings
    kinds = named.kinds(name, config.length, settings)
    return DOCUMENT, np.broadcast_to(kinds, tokens.shape)
  table = [kind_of(subject.decode([t])) for t in range(subject.vocab)]
  return TEXT, np.array(table)[tokens]


def by_kind(moment, kinds, names):
  """{kind: (mean moment, standard error over rows, share of tokens)}.

  Without kinds that fewer than two rows have.
  """
  found = {}
  for i, name in enumerate(names):
    here = kinds == i
    rows = here.any(-1)
    if rows.sum() < 2:
      continue
    mean = (moment * here).sum(-1)[rows] / here.sum(-1)[rows]
    found[name] = [*metrics.estimate(mean), float(here.mean())]
  return found


def heat(moment):
  """(L, BINS) shares: when each position was written."""
  place = np.minimum((moment * BINS).astype(int), BINS - 1)
  return np.stack([(place == b).mean(0) for b in range(BINS)], -1)


def run(config, workdir):
  """All subjects and samplers. Returns the rows of results.jsonl."""
  in_range('length', config.length, 2)
  in_range('rows', config.rows, 2)
  choices = [
    options.choose(name, knobs) for name, knobs in config.samplers.items()
  ]
  plan = cases(config)
  workdir = pathlib.Path(workdir)
  rows = records.resume(workdir, config)
  done = {(r['subject'], str(r['couplings']), r['sampler']) for r in rows}
  for name, couplings in plan:
    todo = [
      choice for choice in choices
      if (name, str(couplings), choice.name) not in done
    ]
    if not todo:
      continue
    subject = subjects.prepare(config, name, config.length, couplings)
    for choice in todo:
      rows.append(fill(config, name, couplings, subject, choice))
      jsonl.append(workdir / 'results.jsonl', rows[-1])
      print(progress(rows[-1]), flush=True)
  plot.kinds(workdir / 'kinds.png', rows)
  plot.heat_maps(workdir / 'order.png', rows)
  print(f'in {workdir}: kinds.png, order.png, results.jsonl')
  return rows


def fill(config, name, couplings, subject, choice):
  """A row of results.jsonl."""

  def build(params, knobs):
    return subject.model(params), choice.make(knobs)

  count = config.rows if name == 'documents' else config.text_rows
  empty = np.full((count, config.length), subject.vocab, np.int32)
  knobs = {k: float(v) for k, v in choice.knobs.items()}
  key = jax.random.key(config.seed)
  out = punt_jax.compile(build)(subject.params, knobs, key, empty)
  out = jax.tree.map(np.asarray, out)
  moment = moments(out.when)
  names, kinds = kinds_of(config, name, couplings, subject, out.tokens)
  correlation = metrics.estimate(tau(out.when))
  return {
    'subject': name,
    'couplings': couplings,
    'sampler': choice.name,
    'settings': choice.settings(),
    **columns.cost(out),
    'tau': correlation.mean,
    'tau_error': correlation.stderr,
    'kinds': by_kind(moment, kinds, names),
    'heat': np.round(heat(moment), 4).tolist(),
    'layout': kinds[0].tolist() if name == 'documents' else None,
    'length': config.length,
    'rows': count,
    **records.origin(config.seed),
  }


def progress(row):
  """A line about a row that is finished."""
  kinds = ', '.join(
    f'{name} {mean:.2f} +- {error:.2f}'
    for name, (mean, error, _) in row['kinds'].items()
  )
  couplings = ' '.join(f'{k} {v:g}' for k, v in row['couplings'].items())
  return (
    f'{row["subject"]:12}{couplings:14}{row["sampler"]:14}'
    f'{row["nfe"]:6.1f} passes, tau {row["tau"]:5.2f}; {kinds}'
  )


if __name__ == '__main__':
  command.compile_quickly()
  command.run_config(run)
