"""Self-rewarding sequential Monte Carlo, around any sampler.

Luo et al. https://arxiv.org/abs/2602.01849: several particles of a row are
decoded side by side and resampled by the model's own probability of what they
wrote. P times the forward passes of the inner sampler, in batches P times as
large.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from punt_jax import checks, contract, rows
from punt_jax.types import Array, Canvas, PotentialFn, Sampler, Scalar, Tree

MOST = 2**12  # particles


class Particles(NamedTuple):
  """P particles per row; the leaves of `inner` are (B, P, ...)."""

  tokens: Array  # (B, P, L)
  logp: Array  # (B, P, L) summed log-probability of what was written
  done: Array  # (B, P)
  steps: Array  # (B, P) int32: steps of `inner`
  score: Array  # (B, P) nats since the start
  weight: Array  # (B, P) nats since they were last resampled
  inner: Tree
  goal: Any  # (B,) int32: masks left when a particle waits for the others
  told: Any  # (B, L) what the moves so far said of logp


def smc(
  inner: Sampler, particles: int = 4, potential: PotentialFn | None = None,
  every: Scalar = 1.0,
) -> Sampler:
  """Resamples particles of `inner` by weight when few of them dominate.

  A particle that has written `every` more positions waits for the others. When
  all are there, with equally many masks left, and the effective sample size
  1 / sum w^2 is below P / 2, ancestors are drawn with probability w and weights
  start anew: particles of different numbers of tokens are never compared, so
  the fewest resamplings happen where `inner` writes as many as it likes, and
  smc(blocks(inner, n), every=n), the authors' way, meets at the end of blocks.
  Two particles are never resampled. The row becomes the particle of the highest
  score; until all have finished it shows the one that leads. log_q is that of
  `inner` for it. A row's particles live in its carry, so they never leave its
  device. A row may take P times the steps of `inner`.

  Particles remember nothing between steps: around blocks on a model that is
  causal over blocks, each step computes what lies before the block again. The
  other way round, blocks(smc(inner), n), particles share what is remembered.

  Never exact with several particles: their distribution is tilted to what the
  model is sure of, by design. With one, tokens and cost are those of `inner`.

  Args:
    inner: Sampler.
    particles: P >= 1; 4 in the authors' code.
    potential: (Canvas, Move) of B P rows -> (B P,) nats, what a step adds to
      weight and score; None: the summed log-probability of what it wrote.
    every: positions between resamplings, >= 1. 1 is ours, the authors' is the
      length of a block.

  Raises:
    ValueError: particles is no whole number >= 1, or every < 1.
  """
  contract.is_a(inner, Sampler)
  checks.whole('particles', particles, 1, MOST)
  checks.in_range('every', every, 1)
  wide = lambda x: jnp.repeat(x, particles, 0)  # (B, ...) -> (B P, ...)
  flat = lambda x: x.reshape((-1,) + x.shape[2:])
  tall = lambda x: x.reshape((-1, particles) + x.shape[1:])

  def keys_of(keys):
    """(B P,) keys; the first particle of a row has the row's own."""
    place = jnp.arange(particles)
    fold = lambda key, p: jnp.where(p > 0, jax.random.fold_in(key, p), key)
    each = jax.vmap(jax.vmap(fold, (None, 0)), (0, None))
    return flat(each(keys, place))

  def canvas_of(canvas, tokens, idle, vocab):
    open_ = wide(canvas.open) & ~idle[:, None]
    masked = open_ & (tokens == vocab)
    valid, total = wide(canvas.valid), wide(canvas.total)
    return Canvas(tokens, valid, open_, masked, total)

  def left(canvas, tokens, vocab):
    """(B, P) masks of tokens (B, P, L)."""
    masked = canvas.open[:, None] & (tokens == vocab)
    return masked.sum(-1, dtype=jnp.int32)

  def next_goal(masks):
    return jnp.ceil(masks.min(-1) - every).astype(jnp.int32)

  def init(keys, canvas, model):
    tokens = wide(canvas.tokens)
    done = ~wide(canvas.masked).any(-1)
    own = canvas_of(canvas, tokens, done, model.vocab)
    zero = jnp.zeros(done.shape)
    start = Particles(
      tokens, jnp.zeros(tokens.shape), done, jnp.zeros(done.shape, jnp.int32),
      zero, zero, inner.init(keys_of(keys), own, model), (), (),
    )
    start = jax.tree.map(tall, start)
    return start._replace(
      goal=next_goal(left(canvas, start.tokens, model.vocab)),
      told=jnp.zeros(canvas.open.shape),
    )

  def step(keys, t, canvas, carry, memo, model):
    del t
    was = jax.tree.map(flat, carry._replace(goal=(), told=()))
    waits = left(canvas, carry.tokens, model.vocab) <= carry.goal[:, None]
    idle = was.done | flat(waits)
    own = canvas_of(canvas, was.tokens, idle, model.vocab)
    bill = model.init(own.tokens, own.valid)
    move, inside, bill = inner.step(
      keys_of(keys), was.steps, own, was.inner, bill, model
    )
    logp = jnp.where(own.open, move.logp, 0.0)
    gain = logp.sum(-1)
    if potential is not None:
      told = potential(own, move)
      what = f'the potential {contract.name_of(potential)}'
      contract.array(what, told, idle.shape)
      gain = jnp.where(jnp.isfinite(gain), told, gain)
    gain = jnp.where(idle, 0.0, gain)
    now = jax.tree.map(tall, Particles(
      jnp.where(own.open, move.tokens, was.tokens),
      was.logp + logp,
      was.done | (move.done & ~idle),
      was.steps + ~idle,
      was.score + gain,
      was.weight + gain,
      rows.pick_rows(~idle, inside, was.inner),
      (), (),
    ))
    masks = left(canvas, now.tokens, model.vocab)
    met = (now.done | (masks <= carry.goal[:, None])).all(-1)
    level = (masks == masks[:, :1]).all(-1) & ~now.done.all(-1)
    now = jax.vmap(resample)(rows.named(keys, 'resample'), now, met & level)
    best = now.score.argmax(-1)
    lead = lambda x: jnp.take_along_axis(x, best[:, None, None], 1)[:, 0]
    told = lead(now.logp)
    broken = jnp.isnan(now.score).any(-1, keepdims=True)  # by the potential
    shown = move._replace(
      tokens=lead(now.tokens),
      logp=jnp.where(broken, jnp.nan, told - carry.told),
      done=now.done.all(-1),
      info=(),
    )
    goal = jnp.where(met, next_goal(masks), carry.goal)
    memo = memo._replace(meter=charged(memo.meter, bill.meter))
    return shown, now._replace(goal=goal, told=told), memo

  def charged(meter, bill):
    return meter._replace(
      nfe=meter.nfe + tall(bill.nfe).sum(-1),
      depth=meter.depth + tall(bill.depth).max(-1),
      positions=meter.positions + tall(bill.positions).sum(-1),
      forwards=meter.forwards + particles * bill.forwards,
    )

  traits = inner.traits._replace(exact=None, rewrites=True)
  return Sampler(init, step, traits)


def resample(key: Array, now: Particles, due: Array) -> Particles:
  """Draws ancestors of one row's particles if it is due and ESS < P / 2."""
  count = now.weight.shape[0]
  weight = jax.nn.softmax(jnp.maximum(now.weight, jnp.finfo(jnp.float32).min))
  few = 1 / (weight**2).sum() < count / 2
  drawn = jax.random.choice(key, count, (count,), p=weight)
  go = due & few
  chosen = jnp.where(go, drawn, jnp.arange(count))
  now = jax.tree.map(lambda x: x[chosen], now)
  return now._replace(weight=jnp.where(go, 0.0, now.weight))
