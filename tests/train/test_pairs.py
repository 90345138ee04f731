"""Amortized PUNT: what is recorded, what the head learns, how it is used."""

import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import punt_jax
from configs import orders as configs
from punt_jax import oracles, samplers
from punt_jax.checkpoints import order_files
from punt_jax.models import orders
from tests.helpers import reference
from train import loop
from train.orders import __main__ as command
from train.orders import method, pairs, tasks

nan = np.nan
LENGTH, VOCAB = 5, 3


def task_of(make, length):
  """A task whose frozen model is the world make(): features are its logits."""
  logits = lambda tokens, valid: jnp.maximum(make().logits(tokens), -9.0)
  loaded = types.SimpleNamespace(
    denoiser=lambda params: punt_jax.from_logits(logits, VOCAB), params=(),
    text=types.SimpleNamespace(vocab=VOCAB),
  )
  batch = lambda step, count: (
    np.zeros((count, length), int), np.zeros((count, length), bool)
  )
  return tasks.Task(loaded, batch, None, length)


JOINT = reference.random_joint(1, LENGTH, VOCAB, sharpness=2.0)


def world():
  """Made inside compiled code, it costs one compilation."""
  return oracles.table(jnp.log(JOINT))


def settings(**values):
  config = ml_collections.ConfigDict(dict(
    module=dict(width=8, hidden=16, reach=2, places=LENGTH), probes='punt',
    epsilon=0.05, rows=6, tests=2, batch=64, steps=400, rate=0.1, warmup=5,
    clip=1.0, seed=0,
  ))
  config.update(values)
  return config


def test_answers_and_scores_by_hand():
  """Shown {0, 2}, then {1}: what they move adds up."""
  weight = jnp.array([[0, 1, 2, 4], [8, 0, 16, 32], [64, 128, 0, 256], [0] * 4])
  shown = np.array([[[1, 0, 1, 0], [0, 1, 0, 0]]], bool)
  found = pairs.answers(weight[None], shown)
  np.testing.assert_array_equal(found, [[[64, 129, 2, 260], [8, 0, 16, 32]]])
  answer = np.array([[[9, 2.0, 9, 1.0]]])
  moved = np.array([[[nan, 3.0, nan, 0.0]]])
  deviance = pairs.deviance(jnp.array(answer), jnp.array(moved))
  assert deviance == pytest.approx((2 - 3 * np.log(2) + 1) / 2, abs=1e-5)
  # Squares 1 and 1 around the answers, 1.5 ** 2 twice around the mean.
  assert pairs.explained(answer, moved) == pytest.approx(1 - 2 / 4.5)
  # The mean of what is seen is the best constant.
  seen = jnp.array([0.0, 0.1, 0.5, 7.4])
  slope = jax.jit(jax.grad(lambda a: pairs.deviance(a * jnp.ones(4), seen)))
  assert [float(slope(a)) > 0 for a in (1.9, 2.1)] == [False, True]


def test_a_record_is_what_was_asked():
  joint = reference.random_joint(0, 4, 3)
  task = task_of(lambda: oracles.table(jnp.log(joint)), 4)
  tokens = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]])
  given = tokens > 0
  found, passes = pairs.record(task, 'explore', 0.0, tokens, given, 0)
  assert [len(row.tokens) for row in found] == [3, 2, 2] and passes == 10
  for row, start, fixed in zip(found, tokens, given, strict=True):
    np.testing.assert_array_equal(row.tokens[0], np.where(fixed, start, 3))
    for t in range(len(row.tokens) - 1):
      before, after = row.tokens[t : t + 2]
      shown = before != after
      np.testing.assert_array_equal(row.shown[t], shown[None])
      p, q = (reference.conditionals(joint, c) for c in (before, after))
      kl = (p * np.log(np.maximum(p, 1e-30) / np.maximum(q, 1e-30))).sum(1)
      expected = np.where(after == 3, kl, nan)
      np.testing.assert_allclose(row.moved[t, 0], expected, atol=1e-5)
  found, passes = pairs.record(task, 'punt', 0.05, tokens, given, 0)
  asked = ~np.isnan(pairs.joined(found).moved)
  row = pairs.joined(found)
  hidden = row.tokens[:, None] == 3
  assert (asked <= hidden & ~row.shown).all() and (row.shown <= hidden).all()
  # One pass a question; besides, each canvas had one before it was asked about.
  questions = asked.any(-1).sum()
  assert questions + len(row.tokens) <= passes <= questions + 10
  assert passes < 10 + 10  # PUNT writes several at once


@pytest.mark.slow
def test_the_head_finds_an_influence_that_depends_on_the_canvas(monkeypatch):
  """A known influence, four times as large from positions that are unsure."""
  rng = np.random.default_rng(0)
  table = rng.random((LENGTH, LENGTH)) * (rng.random((LENGTH, LENGTH)) < 0.4)
  task = task_of(world, LENGTH)
  tokens = rng.integers(VOCAB, size=(1200, LENGTH))
  tokens = np.where(rng.random(tokens.shape) < 0.6, VOCAB, tokens)
  hidden = tokens == VOCAB
  shown = hidden[:, None] & (rng.random((1200, 2, LENGTH)) < 0.4)
  logits = np.asarray(jax.jit(lambda x: world().logits(x))(tokens))
  unsure = logits.max(-1) < np.log(0.6)
  influence = table * np.where(unsure, 4.0, 1.0)[..., None]  # (1200, L, L)
  truth = np.einsum('nri,nij->nrj', shown, influence)
  asked = hidden[:, None] & ~shown & shown.any(-1, keepdims=True)
  moved = np.where(asked, truth * rng.exponential(size=truth.shape), nan)
  moved[1000:] = np.where(asked, truth, nan)[1000:]  # tested without the noise
  rows = [pairs.Asked(*found) for found in zip(
    *(x.reshape(6, 200, *x.shape[1:]) for x in (tokens, shown, moved)),
    strict=True,
  )]
  monkeypatch.setattr(pairs, 'record', lambda *args: (rows, 77))
  config = settings(rows=5, tests=1)
  way = pairs.make(config, task)
  state = method.start(config, way.init)
  for step in range(config.steps):
    state, _ = way.advance(state, step)
  scores = way.evaluate(state)
  assert scores['passes'] == 77 + 1000  # and one a canvas that is learned from
  assert scores['explained'] > 0.9 > scores['explained_pair'] + 0.1
  assert scores['explained_pair'] > scores['explained_constant'] + 0.1


SEEN = 7  # features


def head(**sizes):
  """A head of random parameters, and the View of a row it was made for."""
  view = view_of(np.random.default_rng(0))
  module = orders.Pairs(**sizes)
  make = jax.jit(lambda key: module.init(key, rows_of(view))['params'])
  shapes = jax.eval_shape(make, jax.random.key(0))
  rng = np.random.default_rng(1)
  draw = lambda x: jnp.array(0.5 * rng.normal(size=x.shape), jnp.float32)
  return module, jax.tree.map(draw, shapes), view


def rows_of(view):
  return jax.tree.map(lambda x: jnp.asarray(x)[None], view)


def view_of(rng, left=0, right=0):
  """LENGTH positions, the first one written, between padding."""
  draw = lambda *shape: np.pad(
    rng.random((LENGTH, *shape)).astype(np.float32),
    ((left, right), *[(0, 0)] * len(shape)), constant_values=9,
  )
  width = left + LENGTH + right
  place = np.arange(width)
  masked = (place > left) & (place < left + LENGTH)
  blank = np.zeros(width, np.int32)
  position = np.clip(place - left, -1, LENGTH - 1)
  return punt_jax.View(
    tokens=blank, masked=masked, open=masked, position=position, drafts=blank,
    draft_logp=draw(), draft_score=draw(), confidence=draw(), margin=draw(),
    entropy=30 * draw(), total=LENGTH, step=0, features=draw(SEEN),
  )


def test_the_head_by_hand():
  module, params, view = head(width=4, hidden=6, reach=2, places=LENGTH)
  found = np.asarray(jax.jit(orders.pairs(module, params))(view))
  params = jax.tree.map(np.asarray, params)
  dense = lambda x, name: x @ params[name]['kernel'] + params[name]['bias']
  numbers = view.masked, view.entropy, view.confidence, view.margin
  seen = np.concatenate([view.features, np.stack(numbers, -1)], -1)
  x = np.maximum(dense(seen, 'hidden'), 0)
  match = dense(x, 'query') @ dense(x, 'key').T / 2
  for i in range(LENGTH):
    for j in range(LENGTH):
      near = params['near'][min(max(j - i, -2), 2) + 2]
      logit = match[i, j] + near + params['place'][i, j] + params['start']
      assert found[i, j] == pytest.approx(np.log1p(np.exp(logit)), rel=1e-4)


def test_padding_changes_no_influence():
  module, params, view = head(width=4, hidden=6, reach=2, places=LENGTH + 2)
  apply = jax.jit(orders.pairs(module, params))
  alone = apply(view)
  for left, right in ((2, 0), (1, 1)):
    here = slice(left, left + LENGTH)
    padded = view_of(np.random.default_rng(0), left, right)
    np.testing.assert_allclose(apply(padded)[here, here], alone, rtol=1e-5)
  with pytest.raises(ValueError, match='canvases of 5 positions'):
    head(places=4)


def test_a_function_stands_in_for_a_table():
  rng = np.random.default_rng(0)
  table = rng.random((LENGTH, LENGTH)).astype(np.float32)
  model = oracles.as_denoiser(world())
  capped = lambda view: jnp.minimum(
    table, jnp.minimum(view.entropy[:, None], view.entropy)
  )
  tokens = np.full((40, LENGTH), VOCAB)
  tokens[:20, 1] = 0
  outs = []
  for how in (table, capped):
    run = punt_jax.compile(lambda p, k, how=how: (
      model, samplers.influence(how, k)
    ))
    outs.append(run((), 0.5, jax.random.key(0), tokens))
  np.testing.assert_array_equal(*(out.tokens for out in outs))
  np.testing.assert_array_equal(*(out.when for out in outs))
  assert 1 < outs[0].steps.mean() < LENGTH - 1


@pytest.mark.slow
def test_the_head_saves_tests():
  """No probe a step, or one; kappa < 0 writes one by one."""
  module = orders.Pairs(width=4, hidden=6, reach=2)
  task = task_of(world, LENGTH)
  params = jax.jit(lambda key: module.init(key, method.example(task))['params'])
  params = params(jax.random.key(0))
  model = task.loaded.denoiser(())
  tokens = np.full((16, LENGTH), VOCAB)
  rule = lambda p, kappa: samplers.thin(orders.pairs(module, p), kappa)
  makers = {
    0: lambda p, k: samplers.influence(orders.pairs(module, p), k),
    1: lambda p, k: samplers.punt(0.1, admit=rule(p, k), rounds=1),
  }
  for probes, make in makers.items():
    run = punt_jax.compile(lambda p, k, make=make: (model, make(p, k)))
    for kappa in (-1.0, 0.1, 100.0):
      out = run(params, kappa, jax.random.key(0), tokens)
      nfe, steps = np.asarray(out.meter.nfe), np.asarray(out.steps)
      assert (nfe >= steps).all() and (nfe <= (1 + probes) * steps).all()
      if kappa < 0:
        assert (steps == LENGTH).all() and (nfe == steps).all()
      if kappa == 100.0:
        assert (nfe > steps).any() == probes
        assert steps.mean() < LENGTH - 1


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
  """Twelve updates, or six, then six more from the checkpoint."""
  config = configs.get_config('pairs')
  config.update(rows=3, tests=2, batch=4, log_every=3, eval_every=6)
  config.update(steps=12, save_every=6, warmup=2, rate=0.01)
  whole = command.train(config, tmp_path / 'whole')
  assert whole['scores']['passes'] > 0
  with pytest.raises(KeyboardInterrupt):
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(loop, 'drive', stopped(loop.drive, 8))
      command.train(config, tmp_path / 'cut')
  command.train(config, tmp_path / 'cut')
  one, other = (
    (tmp_path / name / 'metrics.jsonl').read_text() for name in ('whole', 'cut')
  )
  assert one == other and len(one.splitlines()) == 6
  one, other = (
    order_files.load(tmp_path / name / 'order.safetensors')
    for name in ('whole', 'cut')
  )
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
  view = view_of(np.random.default_rng(0))
  view = view._replace(features=np.zeros((LENGTH, 48), np.float32))
  assert one.apply(one.params)(view).shape == (LENGTH, LENGTH)


def stopped(drive, last):
  """`drive`, interrupted at an update."""

  def run(config, workdir, manager, state, recent, advance, evaluate):
    def until(state, step):
      if step == last:
        manager.wait_until_finished()
        raise KeyboardInterrupt
      return advance(state, step)

    return drive(config, workdir, manager, state, recent, until, evaluate)

  return run
