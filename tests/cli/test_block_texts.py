"""generate and chat with a model that writes in blocks: seen as they come."""

import builtins
import io

import jax
import pytest

from punt_jax.cli import chat, configs, generate
from punt_jax.cli import talk as talk_lib
from tests.generation.test_block_models import B, toy

NEW = 10
PROMPT = 'bcd'


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])


def config_of(**values):
  config = configs.defaults()
  config.update(dict(
    max_new_tokens=NEW, bucket=20, temperature=1.0, stop=False, chat=False
  ))
  config.sampler.name = 'one_by_one'
  config.update(values)
  return config


@pytest.fixture
def printed(monkeypatch):
  """What is printed to stdout, one entry for each time."""
  said = []

  def say(*words, end='\n', file=None, **_):
    if file is None:
      said.append(' '.join(map(str, words)) + end)

  monkeypatch.setattr(builtins, 'print', say)
  return said


def test_one_text_is_printed_block_by_block(printed, monkeypatch):
  monkeypatch.setattr(configs, 'load', lambda config: toy())
  row, = generate.run(config_of(), prompt=PROMPT)
  *pieces, last, summary = printed
  assert ''.join(pieces) == row['text'] and last == '\n\n'
  assert [len(piece) for piece in pieces if piece] == [1, 4, 4, 1]
  assert summary.startswith('1 row of 10.0 tokens in ')
  assert row['settings']['block_length'] == B
  printed.clear()
  whole = generate.run(config_of(samples=2), prompt=PROMPT)
  assert whole[0]['text'] == row['text'] and len(printed) == 3


@pytest.fixture(scope='module')
def talk():
  return talk_lib.Talk(config_of(), toy())


def test_an_answer_comes_block_by_block(talk, printed):
  talk.forget()
  chat.answer(talk, chat.Screen(talk.loaded, io.StringIO()), PROMPT)
  *pieces, end = printed
  text = ''.join(printed)
  assert end == '\n' and talk.past == PROMPT + text[:-1]
  assert [len(piece) for piece in pieces] == [1, 4, 4, 1]


def test_a_screen_shows_the_blocks_that_are_begun(talk, monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  talk.forget()
  counts = []
  screen = chat.Screen(talk.loaded, Terminal())
  monkeypatch.setattr(
    screen, 'draw', lambda run, new, count, said=None: counts.append(count)
  )
  chat.answer(talk, screen, PROMPT)
  # Behind 3 given positions blocks end after 1, 5, 9 and 10 new ones.
  assert counts[0] == B and counts[-2:] == [NEW, NEW]
  assert sorted(counts) == counts and set(counts) == {4, 5, 9, 10}
