"""The generator on a made-up model: padding, blanks, ends, one draw per row."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax.generation import generator, options, prompts
from punt_jax.text import vocabulary as text_lib

ALPHABET = 'abcdef.;<'
V = len(ALPHABET)
IDS = {name: ALPHABET.index(c) for name, c in zip(
  ('eos', 'eot', 'bos'), '.;<', strict=True)}


class Toy(NamedTuple):
  """What the generator reads of a checkpoints.Pretrained."""

  params: Any
  denoiser: Any
  text: Any
  length: int
  chat: Any
  ids: dict
  room: int
  offers: frozenset = frozenset()


def toy(logits_fn, length=32):
  """A model that says logits_fn(params, tokens, valid)."""
  denoiser = lambda params: punt_jax.from_logits(
    lambda tokens, valid: logits_fn(params, tokens, valid), V
  )
  chat = lambda messages: '<' + ''.join(m['content'] for m in messages) + ';'
  params = np.arange(V, dtype=np.float32)
  text = text_lib.characters(ALPHABET)
  return Toy(params, denoiser, text, length, chat, IDS, length)


def neighbors(params, tokens, valid):
  """Logits that depend on both neighbors: padding would be noticed."""
  known = jax.nn.one_hot(tokens, V) * valid[..., None]
  table = jnp.sin(jnp.outer(params + 1, params + 2) * 7.0)
  left = jnp.pad(known, ((0, 0), (1, 0), (0, 0)))[:, :-1]
  right = jnp.pad(known, ((0, 0), (0, 1), (0, 0)))[:, 1:]
  return 2.0 * (left @ table + right @ table.T)


def says(string):
  """Logits of a model that is sure of `string` from the first valid place.

  The later a position, the surer.
  """
  ids = jnp.array([ALPHABET.index(c) for c in string])

  def logits_fn(params, tokens, valid):
    place = jnp.clip(jnp.cumsum(valid, -1) - 1, 0, len(ids) - 1)
    return jax.nn.one_hot(ids[place], V) * (9.0 + 0.1 * place[..., None])

  return logits_fn


def settings(**values):
  few = dict(
    max_new_tokens=6, batch=3, bucket=12, temperature=1.0, stop=False
  )
  return generator.Settings(**{**few, **values})


def choice(name='punt', **hyperparams):
  base = {'epsilon': 0.04} if name == 'punt' else {}
  return options.choose(name, base | hyperparams)


@pytest.fixture(scope='module', autouse=True)
def one_device():
  """Half the compilation; several devices are test_parallel's."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
    yield


def write(config, loaded, given, numbers=None, sampler=None):
  """{row number: Written}"""
  made = generator.prepare(loaded, sampler or choice(), config)
  ids = [made.encode(prompt) for prompt in given]
  numbers = range(len(ids)) if numbers is None else numbers
  return {w.number: w for b in made.write(ids, list(numbers)) for w in b}


PROMPTS = ['a', 'bcd', 'fedcba', 'ef', 'abcabcabcabc', 'c']


@pytest.fixture(scope='module')
def whole():
  return write(settings(), toy(neighbors), PROMPTS)


def same(a, b):
  about = lambda w: (w.text, w.tokens, w.nfe, w.steps)
  assert about(a) == about(b)
  np.testing.assert_allclose(a.log_q, b.log_q, rtol=1e-5)


def test_a_row_is_the_same_in_any_batch_and_with_any_padding(whole):
  assert len({w.text for w in whole.values()}) > 3
  some = write(
    settings(batch=2, bucket=16), toy(neighbors), PROMPTS[3:1:-1], [3, 2]
  )
  assert sorted(some) == [2, 3]
  for number, row in some.items():
    same(row, whole[number])
  # Its number, its seed and its prompt do matter.
  other = write(settings(batch=2, bucket=16), toy(neighbors), PROMPTS[3:1:-1])
  assert [other[0].text, other[1].text] != [whole[3].text, whole[2].text]


def test_counts_and_costs(whole):
  for row in whole.values():
    assert len(row.tokens) == 6 and row.log_q < 0 and row.seconds > 0
    assert row.steps <= 6 and row.nfe >= row.steps and row.depth == row.nfe
  # Lengths 7, 9, 12, 8, 18, 7 by twelves.
  canvas = [whole[r].positions // whole[r].nfe for r in range(6)]
  assert canvas == [12, 12, 12, 12, 24, 12]
  assert [whole[r].shared for r in range(6)] == [3, 3, 3, 2, 1, 2]


def test_blanks_are_filled_where_they_stand_and_never_with_an_end():
  # The model would write the end everywhere: without it, the next best.
  logits = lambda params, tokens, valid: jnp.broadcast_to(
    -jnp.arange(V)[::-1] * 1.0 + 5.0 * (jnp.arange(V) < 2), (*tokens.shape, V)
  )
  config = settings(blank='_', temperature=0.0, ban=('bos',), stop=True)
  rows = write(config, toy(logits), ['a__.f', '_c'])
  assert [rows[r].text for r in range(2)] == ['abbf', 'bc']  # '.' not shown
  assert rows[0].tokens == [1, 1] and rows[0].count == 2
  assert rows[1].tokens == [1]


def test_a_text_ends_at_its_first_end_token():
  left = choice('top_k', k=1.0, score='left_to_right', block_length=3)
  config = settings(max_new_tokens=8, temperature=0.0, stop=True)
  row = write(config, toy(says('abcd;fffff')), ['ab'], sampler=left)[0]
  assert (row.text, row.count, row.nfe) == ('cd', 2, 3)
  assert len(row.tokens) == 8 and set(row.tokens[3:]) == {IDS['eos']}


def test_ends_are_written_last():
  # The surest position is the last, and all of them but two are ends.
  config = settings(temperature=0.0, eos_last=True, stop=True)
  best = choice('top_k', k=1.0, score='draft')
  row = write(config, toy(says('abcd....')), ['ab'], sampler=best)[0]
  assert row.text == 'cd'
  assert row.steps == 3  # d, c, then an end; all of them, if ends came first


def distribution_of(loaded, config):
  """The Denoiser that the generator builds."""
  build, hyperparams, _ = generator.builder(config, loaded, choice())
  return build(loaded.params, hyperparams)[0]


def test_the_distribution_is_that_of_the_settings():
  plain = distribution_of(toy(neighbors), settings())
  assert plain.drafts == punt_jax.DraftDistribution()
  model = distribution_of(toy(neighbors), settings(
    temperature=0.1, top_p=0.9, judged=True, eos_penalty=4.0, ban=(0, 'bos')
  ))
  dist = model.drafts
  assert (dist.temperature, dist.top_p, dist.judged) == (0.1, 0.9, True)
  assert dist.bias.tolist() == [0, 0, 0, 0, 0, 0, -4, -4, 0]
  # Banned ids are gone from the raw distribution as well, and the rest sums to
  # 1.
  raw = np.log(np.arange(1, V + 1) / 45)
  rest = np.exp(np.asarray(model.read(raw)))
  np.testing.assert_allclose(rest[1:-1], np.arange(2, V) / 35, rtol=1e-5)
  assert rest[0] == rest[-1] == 0


def test_prompts_become_ids():
  loaded, config = toy(neighbors), settings(prefix='f')
  make = functools.partial(prompts.encode, config, loaded)
  assert make('ab').tolist() == [5, 0, 1]
  messages = [{'role': 'user', 'content': 'ab'}]
  assert make(messages).tolist() == [5, 8, 0, 1, 7]
  chat = functools.partial(prompts.encode, config._replace(chat=True), loaded)
  assert chat('ab').tolist() == make(messages).tolist()


def test_blanks_are_those_of_the_person_not_of_a_template():
  # Both the prefix and the template hold what stands for a blank.
  config = settings(prefix='f', blank='f')
  chat = lambda messages: 'f' + messages[0]['content'] + 'f'
  make = functools.partial(
    prompts.encode, config, toy(neighbors)._replace(chat=chat)
  )
  assert make('af').tolist() == [5, 0, V]
  messages = [{'role': 'user', 'content': 'af'}]
  assert make(messages).tolist() == [5, 5, 0, V, 5]
  assert messages[0]['content'] == 'af'  # the caller's are as they were


def test_every_end_token_ends_a_text():
  loaded = toy(neighbors)._replace(
    ids={'mask': 9, 'eos': 3, 'eos_2': 7, 'eot': 7, 'bos': 1, 'eos_3': 0}
  )
  assert prompts.ends_of(loaded) == [0, 3, 7]


@pytest.mark.parametrize('given, said', [
  (('A', {}), "character 'A'"),
  (('a' * 27, {}), 'has 27 tokens and 6 are to follow'),
  (('a░', {}), r'has a mask \(░\)'),
  (('ab', dict(blank='_')), 'has no blank: write _'),
])
def test_prompts_that_do_not_fit(given, said):
  prompt, values = given
  config = settings(**values)
  with pytest.raises(ValueError, match=said):
    prompts.encode(config, toy(neighbors), prompt)


@pytest.mark.parametrize('sampler, values, said', [
  ({}, dict(batch=0), 'batch = 0 must be a whole number'),
  (dict(name='pont'), {}, "unknown sampler 'pont'"),
  (dict(k=3.0), {}, 'unknown hyperparameter of punt'),
  (dict(name='influence', kappa=0.1), {}, 'use punt-jax demo, or'),
  (dict(name='threshold', tau=0.9), dict(eos_last=True), 'eos_last=False'),
  ({}, dict(kv_cache=True), 'kv_cache needs blocks'),
  (dict(block_length=2.0), dict(kv_cache=True), 'offers no KV cache'),
  (dict(name='dapd', tau=0.1), {}, 'offers no attention'),
  (dict(name='speculative', k=2.0), {}, 'offers no in_order'),
  ({}, dict(temperature=-1.0), 'temperature = -1.0 is out of range'),
  ({}, dict(ban=('end',)), "unknown token of this model 'end'"),
  ({}, dict(ban=(99,)), r'must lie in \[0, 9\)'),
])
def test_settings_that_do_not_fit(sampler, values, said):
  with pytest.raises(ValueError, match=said):
    generator.prepare(toy(neighbors), choice(**sampler), settings(**values))


def test_a_model_is_asked_for_what_it_offers():
  offers = frozenset({'attention', 'window', 'in_order'})
  loaded = toy(neighbors)._replace(offers=offers)
  asks = lambda name, window=None, **hyperparams: options.asks(
    options.choose(name, hyperparams), loaded, window
  )
  assert asks('punt', epsilon=0.1) == asks('speculative') == {}
  assert asks('punt', 4, epsilon=0.1) == {'window': 4}
  assert asks('dapd', 4, tau=0.1) == {'attention': True, 'window': 4}


def test_models_without_a_vocabulary_or_names():
  loaded = toy(neighbors)
  with pytest.raises(ValueError, match='tokenizer.json, .* copy the files'):
    generator.prepare(loaded._replace(text=None), choice())
  with pytest.raises(ValueError, match='no chat template'):
    prompts.encode(settings(chat=True), loaded._replace(chat=None), 'a')
  config = settings(stop=True, eos_last=True)  # nothing is known to end a text
  assert prompts.ends_of(loaded._replace(ids=None)) == []
  generator.prepare(loaded._replace(ids=None), choice(), config)


def test_batches_and_rows():
  assert prompts.batches([8, 16, 8, 8], 2) == [
    (16, [1]), (8, [0, 2]), (8, [3])
  ]
  tokens, valid = prompts.lay([np.array([1, 2]), np.array([3])], 3, 4)
  assert tokens.tolist() == [[0, 0, 1, 2], [0, 0, 0, 3], [0] * 4]
  assert valid.sum(1).tolist() == [2, 1, 1]
  config, loaded = settings(), toy(neighbors, length=30)
  sizes = [prompts.padded(config, loaded, n) for n in (1, 12, 25)]
  assert sizes == [12, 12, 30]
