"""A run as columns of a row of results.jsonl; see punt_jax/cli/columns.py.

Averages of log-probabilities are over possible rows alone, None with fewer than
two. With `impossible` > 0 they say little: the mean over all rows is infinite,
and a gap over some of them may be negative.
"""

import numpy as np

from punt_jax import metrics
from punt_jax.cli.columns import finite


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
  agreement = np.zeros(0)  # of no row
  if few.size:
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
