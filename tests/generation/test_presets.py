"""The order in which a preset writes is that of its authors' loop.

The loops are written anew in NumPy, on a network whose distributions change
with what is written; drafts are those of the same random numbers.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import rows
from punt_jax.cli import configs, families, random_configs
from punt_jax.generation import generator, options, presets
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
  ('sdar:greedy', llada, (0.0,)),
  ('nemotron:diffusion', dream, (0.0,)),
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


def above(tau, width, row, number, temperature):
  """LLaDA2's and SDAR's loop, a block at a time -> (tokens, when).

  All above tau are written, the best one if there is none.
  """
  key = jax.random.fold_in(jax.random.key(1), number)
  tokens, when, step = row.copy(), np.full(L, -1), 0
  for start in range(GIVEN, L, width):
    inside = (np.arange(L) >= start) & (np.arange(L) < start + width)
    while (left := inside & (tokens == V)).any():
      p = softmax(np.asarray(network(None, tokens[None], None), np.float64)[0])
      drafts = drawn(p, key, step) if temperature else p.argmax(-1)
      sure = np.where(left, p[np.arange(L), drafts], -1.0)
      written = sure > tau
      if not written.any():
        written = np.arange(L) == sure.argmax()
      tokens[written], when[written] = drafts[written], step
      step += 1
  return tokens, when


@pytest.mark.parametrize('name, tau', [
  ('llada2:2.0', 0.95), ('sdar:dynamic', 0.85), ('fast_dllm:chat', 0.9),
])
def test_all_above_a_threshold_are_written(name, tau):
  run, hyperparams, config = program(name)
  width = int(config.block_length) or L
  assert hyperparams['sampler']['tau'] == tau
  steps = []
  for low in (tau, 0.19):
    hyperparams['sampler']['tau'] = low
    out = run(LOADED.params, hyperparams, jax.random.key(1), TOKENS)
    for r in range(ROWS):
      tokens, when = above(low, width, TOKENS[r], r, config.temperature)
      assert np.asarray(out.when[r]).tolist() == when.tolist()
      assert np.asarray(out.tokens[r]).tolist() == tokens.tolist()
    steps.append(np.asarray(out.steps).sum())
  assert steps[0] == ROWS * (L - GIVEN) > steps[1]


@pytest.mark.parametrize('family', presets.PUBLISHED)
def test_what_was_published(family):
  """Every preset has a source, and a sampler that PUNT can stand in for."""
  for name in ('punt', *presets.PUBLISHED[family]):
    config = families.preset(f'{family}:{name}')
    assert config.keys() == configs.defaults().keys()
    choice = configs.one(config)
    generator.checked(configs.settings(config))
    if name != 'punt':
      preset = presets.PUBLISHED[family][name]
      assert len(preset.source) > 20
      rule = options.choose(preset.sampler)
      assert choice.traced.items() >= rule.traced.items()
      assert all(0 < score < 100 for score in preset.scores.values())
    config.sampler.name = 'punt'
    assert configs.one(config).name == 'punt'
  with pytest.raises(ValueError, match='unknown preset'):
    families.preset(f'{family}:none')


def test_numbers_that_were_published():
  """block for block as in the families' own files, see presets.PUBLISHED."""
  said = lambda text: families.preset(text)
  tau = lambda text: configs.one(said(text)).traced['tau']
  assert tau('llada2:2.0') == 0.95 and tau('llada2:2.1_quality') == 0.7
  assert tau('llada2:2.1_speed') == 0.5 and tau('dream_reasoner:8b') == 0.9
  assert tau('sdar:dynamic') == 0.85 and tau('sdar:engine') == 0.9
  assert said('sdar:dynamic').temperature == 1.0
  assert said('fast_dllm:chat').block_length == 8
  assert said('a2d:mdlm').max_new_tokens == 256
  scores = {n: x.scores for n, x in presets.PUBLISHED['a2d'].items()}
  assert scores == {
    'mdlm': dict(gsm8k=29.3, humaneval=30.5),
    'bd3lm': dict(gsm8k=46.3, humaneval=46.3),
  }


@pytest.mark.parametrize('model, family', [
  *((x, x) for x in presets.PUBLISHED), ('a2d_block', 'a2d'),
  ('sdar_moe', 'sdar'), ('llada', 'llada'), ('dream', 'dream'),
  ('mdlm', 'mdlm'), ('bert', None),
])
def test_whose_model_it_is(model, family, tmp_path):
  file = tmp_path / 'config.json'
  file.write_text(json.dumps(random_configs.describe(model, 'tiny')))
  assert families.of_folder(tmp_path) == family
  file.write_text('{"model_type": "gpt2"}')
  assert families.of_folder(tmp_path) is None


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
