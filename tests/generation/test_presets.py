"""The order in which a preset writes is that of its authors' loop.

The loops are written anew in NumPy, on a network whose distributions change
with what is written; drafts are those of the same random numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import rows
from punt_jax.cli import configs, families
from punt_jax.generation import generator
from tests.generation.test_generator import V, toy

L, GIVEN, ROWS = 12, 2, 4
TABLE = 0.3 * np.random.default_rng(3).normal(size=(2, V + 1, V))
PLACE = 0.3 * np.random.default_rng(4).normal(size=(L, V))


def network(params, tokens, valid):
  """Logits (N, L, V) from both neighbors and the place."""
  del params, valid
  side = [jnp.asarray(table)[tokens] for table in TABLE]
  return PLACE + jnp.roll(side[0], 1, 1) + jnp.roll(side[1], -1, 1)


LOADED = toy(network, L)
TOKENS = np.full((ROWS, L), V)
TOKENS[:, :GIVEN] = np.arange(2 * ROWS).reshape(ROWS, 2)


def program(name, **changes):
  """(compiled run, its hyperparameters, the config), on a small canvas."""
  config = families.preset(name)
  config.update(max_new_tokens=L - GIVEN, stop=False, **changes)
  if config.block_length:
    config.block_length = 4
  if name == 'mdlm:ancestral':
    config.samplers.ancestral.steps = 6
  build, hyperparams, _ = generator.builder(
    configs.settings(config), LOADED, configs.one(config)
  )
  return punt_jax.compile(build), hyperparams, config


def softmax(x):
  p = np.exp(x - x.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


def processed(logits, temperature, top_p):
  """What Dream draws from; at temperature 0 what it takes the argmax of."""
  p = softmax(logits / (temperature or 1.0))
  order = np.argsort(-p, -1)
  ranked = np.take_along_axis(p, order, -1)
  cut = np.cumsum(ranked, -1) - ranked >= top_p
  np.put_along_axis(p, order, np.where(cut, 0, ranked), -1)
  return p / p.sum(-1, keepdims=True)


def drawn(p, key, step):
  """A token per position, by the random numbers of this row and step."""
  key = rows.named(jax.random.fold_in(key, step), 'drafts')
  u = np.asarray(rows.uniform_at(key, jnp.arange(L)))
  return (np.cumsum(p, -1) > u[:, None] * p.sum(-1)[:, None]).argmax(-1)


def entropy(p):
  return -(p * np.log(np.maximum(p, 1e-30))).sum(-1)


def loop(config, row, number, confidence):
  """(tokens, when) of a loop that writes the surest position of a block."""
  key = jax.random.fold_in(jax.random.key(1), number)
  tokens, when = row.copy(), np.full(L, -1)
  width = int(config.block_length) or L
  for step in range(L - GIVEN):
    block = (np.arange(L) - GIVEN) // width == step // width
    logits = np.asarray(network(None, tokens[None], None), np.float64)[0]
    logits[:, [LOADED.ids[name] for name in config.ban]] = -np.inf
    p = processed(logits, config.temperature, config.top_p)
    drafts = p.argmax(-1)
    if config.temperature:
      drafts = drawn(p, key, step)
    score = confidence(config, p, softmax(logits), drafts)
    at = np.where((tokens == V) & block, score, -np.inf).argmax()
    tokens[at], when[at] = drafts[at], step
  return tokens, when


def llada(config, p, raw, drafts):
  """low_confidence: the raw probability of the draft; ends last."""
  sure = raw[np.arange(L), drafts]
  ends = [LOADED.ids[name] for name in ('eos', 'eot')]
  return np.where(config.eos_last & np.isin(drafts, ends), -1.0, sure)


def dream(config, p, raw, drafts):
  """entropy, of the distribution that drafts come from."""
  return -entropy(p if config.judged else raw)


@pytest.mark.parametrize('name, confidence, temperatures', [
  ('llada:instruct_gsm8k', llada, (0.0, 0.7)),
  ('llada:1.5_math', llada, (0.0,)),
  ('llada:instruct_humaneval', llada, (0.0,)),
  ('dream:instruct_gsm8k', dream, (0.1, 0.0)),
  ('dream:base_humaneval', dream, (0.2,)),
  ('dream:base_gsm8k', dream, (0.0,)),
])
def test_a_preset_writes_in_the_order_of_its_authors(
  name, confidence, temperatures
):
  run, hyperparams, config = program(name)
  assert config.temperature == temperatures[0]  # its own
  for temperature in temperatures:
    config.temperature = temperature
    given = hyperparams | dict(temperature=temperature)
    out = run(LOADED.params, given, jax.random.key(1), TOKENS)
    for r in range(ROWS):
      tokens, when = loop(config, TOKENS[r], r, confidence)
      assert np.asarray(out.when[r]).tolist() == when.tolist()
      assert np.asarray(out.tokens[r]).tolist() == tokens.tolist()
    order = np.asarray(out.when)[:, GIVEN:]
    assert (order != order[0]).any()
    assert (order != np.arange(L - GIVEN)).any(1).all()


def test_ancestral_writes_any_position_in_any_time_step():
  # 1,000 time steps there, here 6: two positions meet in one of 6.
  run, hyperparams, _ = program('mdlm:ancestral')
  assert families.preset('mdlm:ancestral').samplers.ancestral.steps == 1000
  alike = []
  for seed in range(60):
    out = run(LOADED.params, hyperparams, jax.random.key(seed), TOKENS)
    when = np.asarray(out.when)[:, GIVEN:]
    alike.append((when[:, :1] == when[:, 1:]).mean())
    assert (out.meter.nfe == out.steps).all() and (out.steps <= 6).all()
  assert np.mean(alike) == pytest.approx(1 / 6, abs=0.03)
