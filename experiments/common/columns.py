"""A run as columns of a row of results.jsonl; see experiments/common/sweep.py.

Standard errors end in _error, what as many exact samples show in _floor.
Averages of log-probabilities are over possible rows alone, None with fewer than
two. With `impossible` > 0 they say little: the mean over all rows is infinite,
and a gap over some of them may be negative.
"""

import math

import numpy as np

from punt_jax import metrics
from punt_jax.viz.table import number

TYPES = {  # of the columns that experiments share; numbers may be None
  'schema': int, 'experiment': str, 'subject': str, 'length': int,
  'sampler': str, 'settings': dict, 'origin': dict,
  'rows': int,  # canvases that were filled
  'seconds': float,  # of decoding, with compilation if that was needed
  'took': float,  # seconds of the row, all that was built for it included
  'temperature': float,  # of the drafts
  'nfe': float,  # forward passes of a canvas, mean
  'nfe_low': float, 'nfe_median': float, 'nfe_high': float,
  'depth': float,  # questions asked one after another
  'steps': float, 'forwards': list,  # passes of each device
  'warm_up': int,  # forward passes beforehand
  'gap': float,  # factorization gap, nats per canvas
  'excess_nll': float,  # nats per token
  'unigram_tv': float, 'pair_tv': float,  # probability
  'impossible': float,  # share of canvases
  'agreement': float,  # share of tokens that are the likeliest
  'log_p': float,  # nats per token
}


def check(row, others=()):
  """Raises TypeError if a column has another type here than in other rows."""
  for key, value in row.items():
    kind = TYPES.get(key.removesuffix('_error').removesuffix('_floor'))
    seen = (type(x[key]) for x in others if x.get(key) is not None)
    kind = kind or next(seen, None)
    if value is not None and kind and not isinstance(value, kind):
      raise TypeError(
        f'{key} is {value!r:.40}, and the column holds {kind.__name__}'
      )


def label(row):
  """Its settings in a line."""
  return words(row['settings'])


def words(values):
  """A dict in a line."""
  short = lambda x: f'{x:g}' if isinstance(x, float) else str(x)
  return ', '.join(f'{k} {short(v)}' for k, v in values.items())


def line(row, shown, about=()):
  """A finished row in a line: what it is about, and some of its columns."""
  said = [f'{row["subject"]} {row["length"]} {row["sampler"]}', label(row)]
  said.append(words(dict(about)))
  for key in shown:
    if key in row:
      said.append(f'{key} {number(row[key], row.get(f"{key}_error"))}')
  return ', '.join(filter(None, said))


def cost(decoded):
  """Forward passes of a canvas, and what else was counted."""
  nfe = metrics.spread(decoded.meter.nfe)
  return {
    'nfe': nfe.mean,
    'nfe_error': finite(nfe.stderr),  # None for one canvas
    'nfe_low': nfe.low,
    'nfe_median': nfe.median,
    'nfe_high': nfe.high,
    'depth': float(decoded.meter.depth.mean()),
    'steps': float(decoded.steps.mean()),
    'forwards': decoded.meter.forwards.tolist(),
  }


def errors(world, decoded, given):
  """Both kinds of error, at temperature 1.

  The gap is in nats per canvas, the excess NLL in nats per token, unigram TV
  is a probability.
  """
  tokens = decoded.tokens
  gap = metrics.factorization_gap(world, decoded.log_q, tokens, given)
  unigram = metrics.unigram_tv(world, tokens)
  return {
    **possible(world, tokens),
    **average('gap', gap),
    **average('excess_nll', metrics.excess_nll(world, tokens)),
    'unigram_tv': unigram.mean,
    'unigram_tv_error': unigram.stderr,
    'unigram_tv_floor': unigram.floor,
  }


def fit(world, decoded, given, scored):
  """How well the tokens fit, at temperatures other than 1.

  Drafts do not come from the world's conditionals then: there is no
  distribution that the samples should have, and log_q - log p does not say what
  was lost by drawing tokens together (at temperature 0, log_q is 0 whatever
  happened). `agreement`, of the first `scored` rows, is a share of positions,
  log_p in nats per token; what was given does not count.
  """
  tokens = decoded.tokens
  log_p = metrics.log_p_per_token(world, tokens, given)
  few = np.flatnonzero(np.isfinite(log_p))[:scored]
  agreement = metrics.agreement(world, tokens[few], given[few])
  return {
    **possible(world, tokens),
    **average('agreement', agreement),
    **average('log_p', log_p),
  }


def possible(world, tokens):
  """Share of rows of probability 0, which no average can hold."""
  share = metrics.impossible_share(world, tokens)
  return {'impossible': share.mean, 'impossible_error': share.stderr}


def average(name, values):
  """Mean and standard error of the finite ones of (B,) values."""
  values = values[np.isfinite(values)]
  found = metrics.estimate(values) if values.size > 1 else (None, None)
  return {name: found[0], f'{name}_error': found[1]}


def finite(value):
  """A finite float, or None: JSON knows no other."""
  good = isinstance(value, (int, float)) and math.isfinite(value)
  return float(value) if good else None
