"""Texts of models that are causal over blocks: the same however they are made.

A tiny network of tests/helpers/block_net.py, whose letters are those of the
generator's tests and two more.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import punt_jax
from punt_jax import samplers
from punt_jax.generation import generator, options
from punt_jax.text import vocabulary as text_lib
from tests.helpers import block_net

B = 4
ALPHABET = 'abcdefgh.;<'
IDS = {name: ALPHABET.index(c) for name, c in zip(
  ('eos', 'eot', 'bos'), '.;<', strict=True)}
PROMPTS = ['a', 'bcd', 'fedcbahg', 'efabcda']
EASY = dict(  # one length of canvas
  max_new_tokens=10, batch=2, bucket=20, temperature=1.0, stop=False
)


class Toy(NamedTuple):
  """What the generator reads of a checkpoints.Pretrained."""

  params: Any
  denoiser: Any
  text: Any = text_lib.characters(ALPHABET)
  length: int = 64
  chat: Any = None
  ids: dict = IDS
  room: int = 64
  offers: frozenset = frozenset()
  block_length: int = B


@functools.cache
def toy(**how):
  """A model; one object for each `how`, so that programs are shared."""
  denoiser = lambda params, cached=True: block_net.model(
    params, B, cached=cached, **how
  )
  return Toy(block_net.params(), denoiser)


@pytest.fixture(scope='module', autouse=True)
def one_device():
  """Half the compilation; several devices are test_parallel's."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
    yield


def write(loaded, sampler, given=PROMPTS, numbers=None, **settings):
  """{row number: Written}"""
  made = generator.prepare(
    loaded, options.choose(sampler), generator.Settings(**EASY | settings)
  )
  numbers = range(len(given)) if numbers is None else numbers
  ids = [made.encode(prompt) for prompt in given]
  return {w.number: w for b in made.write(ids, list(numbers)) for w in b}


def texts(rows):
  return {number: (row.text, row.tokens) for number, row in rows.items()}


PUNT = 'punt(epsilon=0.04)'


@pytest.fixture(scope='module')
def rows():
  return write(toy(), PUNT)


def test_a_row_is_the_same_alone_batched_and_padded(rows):
  assert len({row.text for row in rows.values()}) == len(PROMPTS)
  alone = write(toy(), PUNT, PROMPTS[1:2], [1], batch=1, bucket=24)
  assert texts(alone)[1] == texts(rows)[1]
  assert alone[1].nfe == rows[1].nfe


def test_its_own_blocks_are_what_it_writes_in(rows):
  """As punt_jax.compile does with blocks(..., aligned=True)."""
  build = lambda params, _: (
    punt_jax.temper(toy().denoiser(params), 1.0),
    samplers.blocks(samplers.punt(0.04), B, aligned=True),
  )
  ids = toy().text.encode(PROMPTS[1])
  canvas = np.append(ids, [len(ALPHABET)] * 10)[None]
  out = punt_jax.compile(build, 20)(
    block_net.params(), (), jax.random.key(0), canvas, rows=np.array([1])
  )
  assert np.asarray(out.tokens)[0, 3:].tolist() == rows[1].tokens
  same = write(toy(), 'punt(epsilon=0.04, block_length=4)')
  assert texts(same) == texts(rows)


def test_the_cache_changes_costs_alone(rows):
  whole = write(toy(), PUNT, kv_cache=False)
  assert texts(whole) == texts(rows) == texts(write(toy(), PUNT, kv_cache=True))
  for number, row in rows.items():
    assert row.positions < whole[number].positions
    assert row.positions % B == 0


SMALL = 'top_k(k=1, block_length=2)'
OTHERS = 'remdm(steps=6)', 'punt(epsilon=0.04, particles=2)'


@pytest.mark.parametrize('sampler', OTHERS)
def test_every_row_is_finished(sampler):
  found = write(toy(), sampler)
  assert len({row.text for row in found.values()}) == len(PROMPTS)
  assert all(len(row.tokens) == 10 for row in found.values())


def test_small_blocks_are_written_from_left_to_right():
  model = toy()
  build, hyperparams, _ = generator.builder(
    generator.Settings(**EASY), model, options.choose(SMALL)
  )
  canvas = np.full((3, 20), len(ALPHABET))
  canvas[:, :2] = np.arange(6).reshape(3, 2)
  out = punt_jax.compile(build)(model.params, hyperparams, 0, canvas)
  when = np.asarray(out.when)[:, 2:]
  assert (when.reshape(3, 9, 2).max(-1) == 2 * np.arange(9) + 1).all()
  assert (np.diff(when) < 0).any()  # within one it is another


@pytest.mark.parametrize('sampler, said', [
  ('punt(epsilon=0.1, block_length=3)', 'block_length = 3, .* have 4 posit'),
  ('punt(epsilon=0.1, block_length=8)', 'give a divisor'),
  ('punt(epsilon=0.1, block_length=2, refresh=2)', "this model's is exact"),
])
def test_other_blocks_are_a_sentence(sampler, said):
  with pytest.raises(ValueError, match=said):
    write(toy(), sampler)


def test_most_steps_are_of_all_blocks():
  most = lambda text, length: options.most_steps(
    options.fitted(options.choose(text), B), length
  )
  assert most('top_k(k=1)', 12) == 12
  assert most('remdm(steps=6)', 12) == 4 * 6
  assert most('remdm(steps=6, block_length=2)', 12) == 8 * 6
  assert most('remdm(steps=6, particles=3)', 12) == 3 * 4 * 6


BLANKS = ['ab_d__cb_a_c', '_a']
ENDS = toy()._replace(ids={'eos': ALPHABET.index('f')})


def test_no_end_is_written_into_blanks():
  filled = write(ENDS, PUNT, BLANKS, blank='_')
  assert re.fullmatch('ab.d..cb.a.c', filled[0].text)
  assert not any(5 in row.tokens for row in filled.values())


def test_a_row_ends_at_its_end_token(rows):
  ended = write(ENDS, PUNT, stop=True)
  for number, row in ended.items():
    free = rows[number].tokens
    first = free.index(5) if 5 in free else 10
    assert row.count == first and row.tokens[:first] == free[:first]
    assert row.nfe <= rows[number].nfe
  assert sum(row.nfe for row in ended.values()) < sum(
    row.nfe for row in rows.values()
  )


# Streams.


def pieces(loaded, sampler, given=PROMPTS, **settings):
  """(texts joined, {row number: how many pieces}, {row number: Written})"""
  made = generator.prepare(
    loaded, options.choose(sampler), generator.Settings(**EASY | settings)
  )
  ids = [made.encode(prompt) for prompt in given]
  joined, count, rows = {}, {}, {}
  for piece in made.stream(ids, range(len(ids))):
    assert piece.number not in rows  # nothing follows what is done
    assert piece.text or piece.done
    joined[piece.number] = joined.get(piece.number, '') + piece.text
    count[piece.number] = count.get(piece.number, 0) + 1
    assert piece.done == (piece.row is not None)
    if piece.done:
      rows[piece.number] = piece.row
  return joined, count, rows


def alike(found, rows):
  bare = lambda row: row._replace(seconds=0, log_q=0)
  for number, row in rows.items():
    assert bare(found[number]) == bare(row)
    np.testing.assert_allclose(found[number].log_q, row.log_q, rtol=1e-5)


def test_a_stream_is_what_generate_writes(rows):
  joined, count, found = pieces(toy(), PUNT)
  alike(found, rows)
  assert joined == {number: row.text for number, row in rows.items()}
  # Blocks that the new tokens lie in, of positions from len(prompt) on.
  for number, prompt in enumerate(PROMPTS):
    first, last = len(prompt) // B, (len(prompt) + 9) // B
    assert 2 <= count[number] <= last - first + 1


@pytest.mark.parametrize('model, sampler, settings', [
  (toy(), 'remdm(steps=6)', {}),
  (ENDS, PUNT, dict(stop=True)),
  (ENDS, PUNT, dict(blank='_')),
])
def test_streams_of_all_kinds(model, sampler, settings):
  given = BLANKS if settings.get('blank') else PROMPTS
  want = write(model, sampler, given, **settings)
  joined, count, found = pieces(model, sampler, given, **settings)
  alike(found, want)
  assert joined == {number: row.text for number, row in want.items()}
  assert max(count.values()) > 1 or settings.get('stop')


def test_a_stream_of_anchored_blocks_of_any_width():
  model = toy(anchored=True)
  joined, count, found = pieces(model, PUNT)
  assert set(count.values()) == {3}  # blocks of 4, 4 and 2
  assert joined == {number: row.text for number, row in found.items()}


def test_the_public_stream(rows):
  how = dict(EASY, quiet=True, stream=True)
  told = punt_jax.generate(toy(), PROMPTS, PUNT, **how)
  found = {piece.number: piece.row for piece in told if piece.done}
  alike(found, rows)
  with pytest.raises(ValueError, match='prompt 1: '):
    punt_jax.generate(toy(), ['a', 'X'], PUNT, **how)
