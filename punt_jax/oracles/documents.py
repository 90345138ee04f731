"""A world of two levels: structure governs details, details add up to it.

A document is a chain of sections, each a heading H and P paragraphs; each
paragraph is a structure token T and D details X. Whether it is better to write
the structure or the details first is up to two numbers, `down` and `up`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from punt_jax import checks, rows
from punt_jax.oracles import inputs, messages, sections
from punt_jax.oracles.sums import fold, normalize
from punt_jax.oracles.world import World, lift
from punt_jax.types import Array, ArrayLike, Scalar


def documents(
  log_first: ArrayLike,
  log_heading: ArrayLike,
  log_structure: ArrayLike,
  log_detail: ArrayLike,
  up: Scalar,
  paragraphs: int,
  details: int,
  length: int,
) -> World:
  """Sections of one heading and P paragraphs of 1 + D tokens.

  The tokens of a section stand in the order H, T_1, X_11 .. X_1D, T_2, X_21 ..,
  all of them from the same V ids. With s for sections, p for paragraphs and i
  for details the distribution is

    log p = const + first[H_0] + sum_{s > 0} heading[H_{s-1}, H_s]
            + sum_sp structure[H_s, T_sp] + sum_spi detail[T_sp, X_spi]
            + up sum_sp 1[T_sp = sum_i X_spi mod V].

  The tables say how structure governs what is below it. `up` is how much the
  details say about it jointly: nothing at 0; where it is large, structure is
  the sum of its details.

  A heading, a structure token and two details that (nearly) sum to it:

  >>> flat = jnp.zeros((3, 3))
  >>> world = documents(jnp.zeros(3), flat, flat, flat, 20.0, 1, 2, length=4)
  >>> int(world.logits(jnp.array([0, 3, 1, 1]))[1].argmax())
  2

  Args:
    log_first: (V,) nats, unnormalized log-weights.
    log_heading: (V, V) nats, rows for the heading before.
    log_structure: (V, V) nats, rows for the heading.
    log_detail: (V, V) nats, rows for the structure token. Any potentials, as
      in `chain`, but finite.
    up: () nats in [0, 80].
    paragraphs: P, per section, at least 1.
    details: D, per paragraph, at least 1.
    length: L. The last section may be cut anywhere: its missing tokens count
      as 0 in the distribution above.

  Raises:
    ValueError: the shapes do not agree, a number is out of range or not
      finite, or what inputs.log_weights says.
  """
  names = 'log_first', 'log_heading', 'log_structure', 'log_detail'
  given = log_first, log_heading, log_structure, log_detail
  log_first, *tables = map(checks.array, names, given)
  log_heading, log_structure, log_detail = tables
  vocab = np.size(log_first)
  if not vocab or np.shape(log_first) != (vocab,) or any(
    np.shape(table) != (vocab, vocab) for table in tables
  ):
    raise ValueError(
      f'documents of {vocab} tokens take ({vocab},) log_first and three '
      f'({vocab}, {vocab}) tables, got '
      f'{[np.shape(x) for x in (log_first, *tables)]}.'
    )
  inputs.sizes(vocab, vocab, paragraphs=paragraphs, details=details)
  inputs.sizes(vocab, vocab, length=length)
  checks.in_range('up', up, 0, 80)
  potentials = sections.Potentials(
    inputs.finite('log_first', log_first),
    inputs.finite('log_heading', log_heading),
    inputs.finite('log_structure', log_structure),
    inputs.finite('log_detail', log_detail),
    jnp.asarray(up, jnp.float32),
  )
  section = 1 + paragraphs * (1 + details)
  spare = -length % section

  def parts(allowed):
    end = jnp.broadcast_to(jnp.arange(vocab) == 0, (spare, vocab))
    known = messages.known(jnp.concatenate([allowed, end]))
    rows = known.reshape(-1, section, vocab)
    rest = rows[:, 1:].reshape(-1, paragraphs, 1 + details, vocab)
    detail = jnp.moveaxis(rest[:, :, 1:], 2, 0)
    return sections.Parts(rows[:, 0], rest[:, :, 0], detail)

  def join(parts):
    heading, structure, detail = parts
    rest = jnp.moveaxis(jnp.concatenate([structure[None], detail]), 0, 2)
    rest = rest.reshape(len(heading), section - 1, *heading.shape[1:])
    rows = jnp.concatenate([heading[:, None], rest], axis=1)
    return rows.reshape(-1, *heading.shape[1:])[:length]

  whole = parts(jnp.ones((length, vocab), bool))

  def log_prob(allowed):
    some, every = (
      sections.totals(potentials, known) for known in (parts(allowed), whole)
    )
    return fold(some - every)

  def log_joint(allowed):
    return join(sections.marginals(potentials, parts(allowed)))

  def sample(key, n):
    drawn = lambda key: join(sections.draw(key, potentials, whole))
    draw = lambda key: drawn(key).astype(jnp.int32)
    return jax.vmap(draw)(jax.random.split(key, n))

  def entropy():
    # With weights exp(beta score) it is log Z minus its slope, at beta = 1.
    scaled = lambda beta: jax.tree.map(lambda x: beta * x, potentials)
    log_z, slope = jax.jvp(
      lambda beta: sections.totals(scaled(beta), whole), [1.0], [1.0]
    )
    return (log_z - slope).sum()

  return lift(vocab, length, sample, log_prob, log_joint, entropy)


def random_documents(
  key: Array,
  length: int,
  vocab: int,
  paragraphs: int,
  details: int,
  down: float,
  up: float,
  beta: float = 1.2,
) -> World:
  """Documents with Gaussian tables of scale `beta` (nats), rows normalized.

  Detail x under structure t has potential beta (g[x] + down G[t, x]): at
  down = 0 details do not depend on structure, but for `up`.
  """
  inputs.sizes(vocab, length=length, vocab=vocab)
  checks.in_range('beta', beta)
  checks.in_range('down', down)
  keys = jax.random.split(rows.as_key(key), 4)
  heading, structure, table = (
    beta * jax.random.normal(key, (vocab, vocab)) for key in keys[:3]
  )
  detail = beta * jax.random.normal(keys[3], (vocab,)) + down * table
  tables = (normalize(x)[0] for x in (heading, structure, detail))
  return documents(
    jnp.zeros(vocab), *tables, up=up, paragraphs=paragraphs, details=details,
    length=length,
  )
