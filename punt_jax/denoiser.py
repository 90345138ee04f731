"""Denoisers from a model's functions, and wrappers that change one thing.

A denoiser is time-agnostic: a masked diffusion model's prediction depends on
the canvas alone (Ou et al. https://arxiv.org/abs/2406.03736; Zheng et al.
https://arxiv.org/abs/2409.02908).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from punt_jax import checks, contract
from punt_jax.types import (
  Answer,
  Array,
  ArrayLike,
  Denoiser,
  FeaturesFn,
  HeadFn,
  InOrderFn,
  LogitsFn,
  Memo,
  Meter,
  Scalar,
)


def from_logits(
  logits_fn: LogitsFn, vocab: int, mask: int | None = None
) -> Denoiser:
  """A denoiser from logits, for small vocabularies.

  Args:
    logits_fn: (tokens (N, L) int32 in [0, vocab], valid (N, L) bool) ->
      (N, L, vocab or more) logits; id `vocab` is MASK, further columns are
      ignored. It is traced: what is no JAX goes through jax.pure_callback.
    vocab: V, the number of real tokens.
    mask: see from_features.

  Raises:
    ValueError: see from_features.
  """
  head = lambda logits: logits
  return _make(logits_fn, head, vocab, mask, contract.name_of(logits_fn))


def from_features(
  features_fn: FeaturesFn, head_fn: HeadFn, vocab: int, mask: int | None = None
) -> Denoiser:
  """A denoiser whose readout is left to the library.

  Args:
    features_fn: (tokens (N, L), valid (N, L)) -> (N, L, D), or a pair of
      that and Answer.extra (N, K, L, L).
    head_fn: features (..., D) -> logits (..., vocab or more).
    vocab: V.
    mask: the network's own id of MASK, where that is not V: the network is
      shown it in the place of V, a canvas may hold either, and if it lies
      below V it is never written.

  Raises:
    ValueError: a vocab or mask that is no id; while it is traced, features or
      logits of the wrong shape or kind. The sentence names the function.
  """
  return _make(features_fn, head_fn, vocab, mask, contract.name_of(head_fn))


def _make(features_fn, head_fn, vocab, mask, head_name):
  vocab = checks.whole('vocab', vocab, 1, checks.INT32 - 1)
  mask = mask if mask is None else checks.whole('mask', mask, 0)
  if mask == 0 and vocab == 1:
    raise ValueError('mask = 0 is the only token of vocab = 1: none is left')
  for name, function in (('network', features_fn), ('head', head_fn)):
    checks.function(f'the {name}', function)

  def init(tokens, valid):
    del tokens
    return blank(valid)

  def ask(memo, tokens, rows):
    spread = _over_probes(memo.valid, tokens)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    shown = show_mask(vocab, mask, flat(tokens))
    found = features_fn(shown, flat(spread))
    features, *extra = found if isinstance(found, tuple) else (found,)
    name = contract.name_of(features_fn)
    if len(extra) > 1 or not all(hasattr(x, 'shape') for x in extra):
      raise ValueError(
        f'{name} returned {contract.said(found)}: it must be an array or a pair'
        ' of that and the attention'
      )
    contract.array(name, features, shown.shape, least=1)
    probes = lambda x: x.reshape(tokens.shape[:-1] + x.shape[1:])
    answer = Answer(*map(probes, (features, *extra)))
    return memo._replace(meter=charge(memo.meter, tokens.shape, rows)), answer

  def read(features):
    with jax.default_matmul_precision('highest'):
      logits = head_fn(features)
    contract.array(head_name, logits, features.shape[:-1], least=vocab)
    logits = logits[..., :vocab].astype(jnp.float32)
    if mask is not None and mask < vocab:
      logits = jnp.where(jnp.arange(vocab) == mask, -jnp.inf, logits)
    return jax.nn.log_softmax(logits)

  forget = lambda memo, tokens, rows, open_: memo
  return Denoiser(vocab, init, ask, read, forget, mask=mask)


def blank(valid: Array) -> Memo:
  """The Memo of a model that remembers nothing; valid (B, L) bool."""
  zero = jnp.zeros(valid.shape[:1], jnp.int32)
  return Memo(Meter(zero, zero, zero, jnp.zeros((1,), jnp.int32)), valid)


def show_mask(vocab: int, mask: int | None, tokens: Array) -> Array:
  """The tokens as a network sees them whose own id of MASK is `mask`."""
  return tokens if mask is None else jnp.where(tokens == vocab, mask, tokens)


def charge(meter: Meter, shape: tuple[int, ...], rows: Array) -> Meter:
  """Bills one question of shape (B, ..., L) to the rows (B, ...) that ask."""
  passes = rows.reshape(rows.shape[0], -1).sum(-1, dtype=jnp.int32)
  return Meter(
    nfe=meter.nfe + passes,
    depth=meter.depth + (passes > 0),
    positions=meter.positions + passes * shape[-1],
    forwards=meter.forwards + math.prod(shape[1:-1]),
  )


def temper(model: Denoiser, temperature: Scalar) -> Denoiser:
  """Drafts are drawn at this temperature, traced or not.

  0, and all below 1e-9, is argmax, the first of equals; inf is uniform over
  what is possible.

  Raises:
    ValueError: it is negative or NaN.
  """
  checks.in_range('temperature', temperature, 0)
  return _drafting(model, temperature=temperature)


def top_p(model: Denoiser, p: Scalar) -> Denoiser:
  """Drafts come from the fewest most likely tokens with mass >= p.

  Those as likely as the last of them come with it.

  Raises:
    ValueError: p is not in (0, 1].
  """
  checks.in_range('top_p', p, high=1, above=0)
  return _drafting(model, top_p=p)


def ban(model: Denoiser, ids: ArrayLike) -> Denoiser:
  """These token ids are never drafted. See `bias`."""
  return bias(model, ids, -jnp.inf)


def bias(model: Denoiser, ids: ArrayLike, amount: Scalar) -> Denoiser:
  """Adds `amount` to the draft log-probability of these ids (EOS: -4).

  Args:
    model: Denoiser.
    ids: token ids, each once; may be none.
    amount: one number, nats; -inf bans.

  Raises:
    ValueError: an id outside [0, V), an amount that is NaN or +inf, or every
      id banned, by this and what was banned before.
  """
  contract.is_a(model, Denoiser)
  try:
    ids = np.asarray(ids).reshape(-1)
  except (TypeError, ValueError):  # traced, or a ragged list
    said = checks.shown(ids)
    raise ValueError(f'token ids {said} must be integers') from None
  if ids.size and (
    not np.issubdtype(ids.dtype, np.integer)
    or ids.min() < 0 or ids.max() >= model.vocab
  ):
    raise ValueError(
      f'token ids {checks.shown(ids)} must lie in [0, {model.vocab}),'
      ' the vocabulary'
    )
  most = float(np.finfo(np.float32).max) / 4  # sums of them are finite
  checks.in_range('bias', amount, high=most)
  chosen = np.isin(np.arange(model.vocab), ids)
  if isinstance(amount, Tracer):
    added = jnp.where(chosen, amount, 0.0)
  else:
    with np.errstate(over='ignore'):  # to -inf
      added = np.where(chosen, amount, 0.0).astype(np.float32)
  if model.drafts.bias is not None:
    added = added + model.drafts.bias
  own = np.arange(model.vocab) == model.mask  # never drafted in any case
  if not isinstance(added, Tracer) and not np.isfinite(added)[~own].any():
    raise ValueError(
      f'every id in [0, {model.vocab}) is banned: no token is left to draft'
    )
  return _drafting(model, bias=added)


def judge_drafts(model: Denoiser) -> Denoiser:
  """Scores and divergences read the draft distribution instead of the raw one.

  With temperature 0.1 and top-p 0.9 this is the order of Dream's own sampler.
  At temperature 0 it is the one before the argmax, as there: of temperature 1,
  within top-p. Of one-hot distributions all entropies are 0.
  """
  return _drafting(model, judged=True)


def shift_right(model: Denoiser) -> Denoiser:
  """For models whose output i - 1 predicts token i (Dream).

  The first position that is not padding keeps its own output.

  Raises:
    ValueError: a model that is causal over blocks, see block_cache.from_blocks.
  """
  contract.is_a(model, Denoiser)
  if model.windows is not None:
    raise ValueError(
      'a model that is causal over blocks moves its outputs itself: make it'
      ' with from_blocks(..., shifted=True)'
    )

  def ask(memo, tokens, rows):
    memo, answer = model.ask(memo, tokens, rows)
    f = answer.features
    moved = jnp.concatenate([f[..., :1, :], f[..., :-1, :]], -2)
    first = _over_probes(memo.valid.cumsum(-1) == 1, tokens)
    moved = jnp.where(first[..., None], f, moved)
    return memo, answer._replace(features=moved)

  return model._replace(ask=ask)


def left_to_right(model: Denoiser) -> Denoiser:
  """A judge that predicts every token from those to its left, in one pass.

  Raises:
    ValueError: the model has no `in_order`.
  """
  in_order = ordered(model)

  def ask(memo, tokens, rows):
    rank = jnp.cumsum(memo.valid, -1, dtype=jnp.int32)
    return in_order(memo, tokens, rank, rows)

  return model._replace(ask=ask, windows=None)


def ordered(model: Denoiser) -> InOrderFn:
  """model.in_order, or a ValueError that says what is missing."""
  contract.is_a(model, Denoiser)
  if model.in_order is None:
    raise ValueError(
      'this model cannot score tokens in a given order in one pass: it has no'
      ' Denoiser.in_order (exact worlds have one)'
    )
  return model.in_order


def _over_probes(flags, tokens):
  """flags (B, L) repeated over the probe axes of tokens (B, ..., L)."""
  probes = (1,) * (tokens.ndim - 2)
  flags = flags.reshape(flags.shape[:1] + probes + flags.shape[1:])
  return jnp.broadcast_to(flags, tokens.shape)


def _drafting(model, **changes) -> Denoiser:
  contract.is_a(model, Denoiser)
  return model._replace(drafts=model.drafts._replace(**changes))
