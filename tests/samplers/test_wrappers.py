"""blocks, stop, eos_last and shift_right on hand-made models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers, select

L, V, EOS = 8, 5, 4
MASK = V


def sure(preferred, logit=9.0):
  """A model that predicts preferred (L,), position i with logit + i."""
  strength = logit + 0.1 * jnp.arange(L)
  table = jax.nn.one_hot(jnp.asarray(preferred), V) * strength[:, None]
  logits = lambda tokens, valid: jnp.broadcast_to(
    table, tokens.shape[:1] + table.shape
  )
  return punt_jax.temper(punt_jax.from_logits(logits, V), 0.0)


def decode(sampler, model, tokens, max_steps=None):
  run = punt_jax.compile(lambda params, _: (model, sampler), max_steps)
  return run((), (), jax.random.key(0), np.asarray(tokens, np.int32))


def test_blocks_write_left_to_right_inside_windows():
  # The surest position is the last one, so a whole canvas fills backwards.
  model = sure([0] * L)
  tokens = [[MASK] * L, [1, 1, MASK, MASK, 2, MASK, MASK, MASK]]
  whole = decode(samplers.one_by_one(), model, tokens)
  assert whole.when[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
  inner = samplers.one_by_one()
  out = decode(samplers.blocks(inner, 3), model, tokens)
  assert out.when[0].tolist() == [2, 1, 0, 5, 4, 3, 7, 6]
  # Row 1 has 5 open positions: blocks {2, 3, 5} and {6, 7}.
  assert out.when[1].tolist() == [-1, -1, 2, 1, -1, 0, 4, 3]
  assert out.meter.nfe.tolist() == [8, 5]


def test_blocks_restart_the_inner_schedule():
  # dilated writes {0, 2} then {1, 3} of each block of 4.
  model = sure([0] * L)
  out = decode(
    samplers.blocks(samplers.dilated(2.0), 4), model, [[MASK] * L]
  )
  assert out.when[0].tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
  assert out.steps.tolist() == [4]


@pytest.mark.parametrize('refresh', [1, np.inf])
def test_blocks_commit_when_they_begin(refresh):
  calls = []

  def commit(memo, tokens, rows, open_):
    tell = lambda r, o: calls.append((r.tolist(), o.sum(-1).tolist()))
    jax.debug.callback(tell, rows, open_, ordered=True)
    return memo

  model = sure([0] * L)._replace(commit=commit)
  tokens = [[MASK] * L, [1] * 6 + [MASK] * 2]
  decode(samplers.blocks(samplers.top_k(2), 4, refresh), model, tokens)
  jax.effects_barrier()
  begin, wait = ([True, True], [4, 2]), ([False, False], [4, 0])
  again = ([True, False], [4, 0])
  assert calls == [begin, again if refresh == 1 else wait, again, calls[3]]
  assert calls[3] == calls[1]


def test_stop_fills_the_tail_without_asking():
  # Left to right: EOS at 3 ends row 0 after four steps.
  model = sure([0, 1, 2, EOS, 0, 0, 0, 0])
  sampler = samplers.stop(samplers.one_by_one('left_to_right'), EOS)
  out = decode(sampler, model, [[MASK] * L, [MASK] * 2 + [1] * 6])
  assert out.tokens[0].tolist() == [0, 1, 2] + [EOS] * 5
  assert out.meter.nfe.tolist() == [4, 2] and out.steps.tolist() == [4, 2]
  assert out.done.all()
  assert out.when[0].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]


def test_stop_waits_for_what_is_left_of_eos():
  # The surest position is the last: EOS at 6 is written second, and all to
  # its left must still be filled. A given EOS stops nothing.
  model = sure([0] * 6 + [EOS, 1])
  sampler = samplers.stop(samplers.one_by_one(), EOS)
  out = decode(sampler, model, [[MASK] * L, [EOS] + [MASK] * 7])
  assert out.tokens[0].tolist() == [0] * 6 + [EOS, 1]
  assert out.meter.nfe.tolist() == [8, 7]


def test_stop_around_blocks():
  model = sure([0, EOS, 0, 0, 0, 0, 0, 0])
  inner = samplers.blocks(samplers.top_k(4), 4)
  out = decode(samplers.stop(inner, EOS), model, [[MASK] * L])
  assert out.tokens[0].tolist() == [0, EOS, 0, 0] + [EOS] * 4
  assert out.meter.nfe.tolist() == [1]


def test_eos_last_orders_eos_behind():
  model = sure([0, 0, 0, 0, EOS, EOS, EOS, EOS])
  order = select.eos_last('confidence', EOS)
  out = decode(samplers.one_by_one(order), model, [[MASK] * L])
  assert out.when[0].tolist() == [3, 2, 1, 0, 4, 5, 6, 7]


def test_any_of_several_ends_stops_a_row():
  model = sure([0, 3, EOS, 0, 0, 0, 0, 0])
  inner = samplers.one_by_one('left_to_right')
  out = decode(samplers.stop(inner, [EOS, 3]), model, [[MASK] * L])
  assert out.tokens[0].tolist() == [0, 3] + [EOS] * 6
  assert out.meter.nfe.tolist() == [2]


def test_eos_is_no_anchor_before_all_to_its_left_is_written():
  # Ends are sure at 2, 4 .. 7. Behind all others they would still be shown:
  # PUNT's bits make anchors of all even ranks.
  model = sure([0, 1, EOS, 2, EOS, 3, EOS, EOS], logit=3.0)
  ends = np.array([EOS, 3])
  score = select.eos_last('confidence', ends)
  inner = samplers.punt(0.1, score, admit=select.eos_waits(ends))
  run = punt_jax.compile(
    lambda params, hyperparams: (model, inner), 1, driver=punt_jax.decode.film
  )
  out, moves = run((), (), jax.random.key(0), np.full((1, L), MASK))
  shown = np.asarray(moves.info.shown[0, 0]).any(0)
  assert shown.tolist() == [True, True, False, True] + [False] * 4
  written = np.asarray(out.when[0]) >= 0
  assert written.tolist() == [True, True, False, True] + [False] * 4


def test_the_leftmost_end_is_a_candidate():
  view = punt_jax.View(*[None] * 13)._replace(
    drafts=jnp.array([EOS, EOS, 1, EOS]),
    masked=jnp.array([False, True, True, True]),
  )
  admitted = select.eos_waits(EOS)(None, view)
  assert admitted.tolist() == [False, True, True, False]


def test_shift_right_moves_predictions():
  model = punt_jax.shift_right(sure([0, 1, 2, 3, 0, 1, 2, 3]))
  out = decode(samplers.top_k(8), model, [[MASK] * L])
  assert out.tokens[0].tolist() == [0, 0, 1, 2, 3, 0, 1, 2]


def test_shift_right_under_left_padding():
  # Predictions follow what stands at the position itself, MASK included.
  table = 3 * jax.random.normal(jax.random.key(0), (V + 1, V))
  logits = lambda tokens, valid: table[tokens]
  model = punt_jax.shift_right(punt_jax.from_logits(logits, V))
  run = punt_jax.compile(lambda params, hyperparams: (model, samplers.top_k(1)))
  row = [MASK, 2, MASK, MASK, 1, MASK]
  outs = []
  for left in range(3):
    tokens = np.pad([row], ((0, 0), (left, 2 - left)))
    valid = np.pad(np.ones((1, 6), bool), ((0, 0), (left, 2 - left)))
    out = run((), (), jax.random.key(1), tokens, valid=valid)
    outs.append((out.tokens[0, left : left + 6].tolist(), out.log_q.tolist()))
  assert outs[0] == outs[1] == outs[2]


def test_probe_axes_are_charged_one_by_one():
  model = sure([0] * L)
  memo = model.init(jnp.zeros((2, L), int), jnp.ones((2, L), bool))
  rows = jnp.array([[True, True, False], [False] * 3])
  memo, answer = model.ask(memo, jnp.zeros((2, 3, L), int), rows)
  assert answer.features.shape == (2, 3, L, V)
  assert memo.meter.nfe.tolist() == [2, 0]
  assert memo.meter.depth.tolist() == [1, 0]
  assert memo.meter.positions.tolist() == [2 * L, 0]
  assert memo.meter.forwards.tolist() == [3]
