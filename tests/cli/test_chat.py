"""The REPL, with a model of bigrams: conversations, continuations, Ctrl-C."""

import builtins
import io
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax.cli import chat, configs
from punt_jax.cli import talk as talk_lib
from punt_jax.text import vocabulary
from punt_jax.viz import terminal

ALPHABET = 'abcdef.\n'


def toy(has_chat):
  """What chat reads of a checkpoints.Pretrained; '.' ends a text."""
  table = np.sin(7.0 * np.outer(np.arange(1, 9), np.arange(2, 10)))

  def denoiser(params):
    def logits(tokens, valid):
      known = jax.nn.one_hot(tokens, 8) * valid[..., None]
      left = jnp.pad(known, ((0, 0), (1, 0), (0, 0)))[:, :-1]
      return 2.0 * left @ params

    return punt_jax.from_logits(logits, 8)

  return SimpleNamespace(
    params=table.astype(np.float32), denoiser=denoiser, ids={'eos': 6},
    text=vocabulary.characters(ALPHABET), length=16, room=24,
    offers=frozenset(),
    chat=(lambda said: ''.join(m['content'] for m in said))
    if has_chat else None,
  )


def config_of(has_chat):
  config = configs.defaults()
  config.update(dict(
    max_new_tokens=5, bucket=8, temperature=1.0, chat=has_chat, model='toy'
  ))
  config.sampler.name = 'one_by_one'
  return config


@pytest.fixture(scope='module')
def talks():
  return {
    has_chat: talk_lib.Talk(config_of(has_chat), toy(has_chat))
    for has_chat in (True, False)
  }


def hold(talk, monkeypatch, *lines, screen=None):
  """Types lines, then ends the input."""
  waiting = iter(lines)

  def read(prompt):
    line = next(waiting, None)
    if line is None:
      raise EOFError
    return line

  talk.forget()
  monkeypatch.setattr(builtins, 'input', read)
  chat.talk_on(talk, screen or chat.Screen(talk.loaded, io.StringIO()))


def test_a_conversation(talks, monkeypatch, capsys):
  talk = talks[True]
  hold(talk, monkeypatch, 'abc', '', 'fed')
  out, told = capsys.readouterr()
  roles = [message['role'] for message in talk.past]
  assert roles == ['user', 'assistant'] * 2
  assert [m['content'] for m in talk.past[::2]] == ['abc', 'fed']
  assert out == ''.join(m['content'] + '\n' for m in talk.past[1::2])
  assert told.count('compiling for a canvas of 8 ') == 1
  assert len(re.findall(
    r'\[\d+ tokens? in 5 passes, [0-9.]+ tokens/s\]', told
  )) == 2
  assert all('.' not in message['content'] for message in talk.past)
  hold(talk, monkeypatch, 'abc')
  assert 'compiling for a canvas of 8 ' not in capsys.readouterr().err


def test_nothing_is_compiled_while_it_writes():
  config = config_of(False)
  config.block_length = 2  # the state of blocks changes its type
  talk = talk_lib.Talk(config, toy(False))
  tokens, valid, _, _ = talk.ask('abc')
  talk.compile(tokens.shape[1])
  programs = talk.steps.advance._cache_size()
  assert len(list(talk.write(tokens, valid))) == 6
  assert talk.steps.advance._cache_size() == programs


def test_new_and_commands_and_bad_input(talks, monkeypatch, capsys):
  talk = talks[True]
  hold(
    talk, monkeypatch, 'abc', '/new', '/what', 'x', 25 * 'a', 'fa', '/quit', 'a'
  )
  told = capsys.readouterr().err
  assert [m['content'] for m in talk.past[::2]] == ['fa']
  assert chat.HELP in told and "character 'x' at position 0" in told
  assert 'has 25 tokens' in told
  hold(talk, monkeypatch, 8 * 'a', 16 * 'b')
  assert 'room for 24: shorten' in capsys.readouterr().err
  assert len(talk.past) == 2
  with pytest.raises(ValueError, match='no chat template: use --nochat'):
    talk_lib.Talk(config_of(True), toy(False))


def test_a_text_goes_on(talks, capsys):
  talk = talks[False]
  talk.forget()
  past = ''
  for line in ('abc', '', 'fed'):
    chat.answer(talk, chat.Screen(talk.loaded, io.StringIO()), line)
    past += '\n' * bool(past and line) + line
    past += capsys.readouterr().out.removesuffix('\n')
    assert talk.past == past
  tokens, valid, new, _ = talk.ask('')
  assert new == 5 and valid.sum() <= 16  # what is further back is left out
  assert tokens[0, -6] == ALPHABET.index(talk.past[-1])


class Tty(io.StringIO):
  """A terminal."""

  def isatty(self):
    return True


def test_a_terminal_shows_the_canvas_filling_up(talks, monkeypatch, capsys):
  talk, stream = talks[True], Tty()
  monkeypatch.delenv('NO_COLOR', raising=False)
  hold(talk, monkeypatch, 'abc', screen=chat.Screen(talk.loaded, stream))
  frames = re.split(r'\033\[\d+A\r\033\[J', stream.getvalue())
  left = [frame.count(terminal.dot(True)) for frame in frames]
  assert left == [5, 4, 3, 2, 1, 0, 0]
  plain = re.sub(r'\033\[[0-9;]*m', '', frames[-1])
  assert plain == talk.past[1]['content'] + '\n'
  assert capsys.readouterr().out == ''


def test_ctrl_c_stops_an_answer_and_nothing_else(talks, monkeypatch, capsys):
  talk = talks[True]
  draw = chat.Screen.draw

  def interrupted(screen, run, *rest):
    if int(run.steps[0]) == 2 and not talk.past:
      raise KeyboardInterrupt
    draw(screen, run, *rest)

  monkeypatch.setattr(chat.Screen, 'draw', interrupted)
  hold(talk, monkeypatch, 'abc', '/new')
  assert 'stopped: this answer is not kept' in capsys.readouterr().err
  assert talk.past == []

  def leave(prompt):
    raise KeyboardInterrupt

  monkeypatch.setattr(builtins, 'input', leave)
  with pytest.raises(KeyboardInterrupt):  # command.py ends the process
    chat.talk_on(talk, chat.Screen(talk.loaded, io.StringIO()))


def test_lines_of_letters():
  dot = terminal.dot(True)
  lines = terminal.wrapped(['ab', 'c\nd', dot, '', 'e'], [-1] * 5, 1, True, 2)
  assert lines == ['ab', 'c', f'd{dot}', 'e']


def test_a_text_goes_on_beyond_the_room():
  talk = talk_lib.Talk(config_of(False), toy(False))
  tokens, valid, new, _ = talk.ask(30 * 'a' + 'b')
  assert (new, tokens.shape[1], valid.sum()) == (5, 16, 16)
  assert tokens[0, -6] == ALPHABET.index('b')
  small = toy(False)
  small.length = small.room = 1  # a canvas of one position has no past
  talk = talk_lib.Talk(config_of(False), small)
  tokens, _, new, _ = talk.ask('ab')
  assert new == 1 and tokens.tolist() == [[talk.text.vocab]]


def test_lines_are_what_was_typed(monkeypatch, capsys):
  talk = talk_lib.Talk(config_of(False), toy(False))
  hold(talk, monkeypatch, '\ufeff/what', r'a\nb')
  told = capsys.readouterr().err
  assert chat.HELP in told and "character '\\\\' at position 1" in told
  talk.escapes = True
  hold(talk, monkeypatch, r'x\nb')
  assert "character 'x' at position 0" in capsys.readouterr().err


def test_an_answer_of_no_numbers_is_not_kept(monkeypatch, capsys):
  broken = toy(False)
  broken.params = broken.params * np.nan
  talk = talk_lib.Talk(config_of(False), broken)
  hold(talk, monkeypatch, 'abc')
  assert 'step 1 of this answer has the log-probability nan' in (
    capsys.readouterr().err
  )
  assert talk.past == ''


@pytest.mark.parametrize('name, value', [
  ('top_p', 0.0), ('temperature', np.nan), ('batch', 0), ('seed', -1)
])
def test_settings_are_checked_before_anything_is_said(name, value):
  config = config_of(False)
  config[name] = value
  with pytest.raises(ValueError, match=f'{name} = '):
    talk_lib.Talk(config, toy(False))
