"""Chat templates: two known ones, and hostile ones."""

import json
import subprocess
import sys
import time
from unittest import mock

import pytest

from punt_jax.text import chat

LLADA = (
  '{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}'
  '<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}'
  "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
CHATML = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] }}
    {{- '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
TALK = [
  {'role': 'user', 'content': ' 1 < 2? ░ '},
  {'role': 'assistant', 'content': 'é'},
]


def write(folder, **config):
  file = folder / 'tokenizer_config.json'
  file.write_text(json.dumps(config), encoding='utf-8')
  return chat.chat_template(folder)


@pytest.fixture
def jinja2():
  return pytest.importorskip('jinja2')


def test_llada(tmp_path, jinja2):
  render = write(tmp_path, chat_template=LLADA, bos_token='<|startoftext|>')
  assert render(TALK) == (
    '<|startoftext|><|start_header_id|>user<|end_header_id|>\n\n1 < 2? ░'
    '<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\né<|eot_id|>'
    '<|start_header_id|>assistant<|end_header_id|>\n\n'
  )


def test_chatml(tmp_path, jinja2):
  said = '<|im_start|>user\n 1 < 2? ░ <|im_end|>\n<|im_start|>assistant\n'
  render = write(tmp_path, chat_template=CHATML)
  assert render(TALK[:1]) == (
    '<|im_start|>system\nBe kind.<|im_end|>\n' + said
  )
  own = {'role': 'system', 'content': 'Be brief.'}
  assert render([own, TALK[0]]) == (
    '<|im_start|>system\nBe brief.<|im_end|>\n' + said
  )


def test_where_templates_stand(tmp_path, jinja2):
  assert chat.chat_template(tmp_path) is None
  assert write(tmp_path, eos_token='x') is None
  named = [{'name': n, 'template': n} for n in ('tools', 'default')]
  assert write(tmp_path, chat_template=named)(TALK) == 'default'
  assert write(tmp_path, chat_template=named[:1]) is None
  tokens = {'bos_token': {'content': '<b>'}, 'eos_token': None}
  (tmp_path / 'chat_template.jinja').write_text(
    '{{ bos_token ~ eos_token }}\n  {% if true %}\n[{{ messages[1] | tojson }}]'
    '{% endif %}', 'utf-8'
  )
  render = write(tmp_path, chat_template='older', **tokens)
  # A block's line leaves nothing behind.
  assert render(TALK) == '<b>\n[{"role": "assistant", "content": "é"}]'


GIVEN = {  # what transformers puts into a template
  'the day': ("{{ strftime_now('%Y') | length }}", '4'),
  'what a model wrote': (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{% set x = 1 %}{{ m.content }}.{% endgeneration %}{{ x is defined }}"
    '{% endif %}{% endfor %}', 'é.False',
  ),
  'no tools': ('{% if tools is not none or documents %}x{% endif %}y', 'y'),
  'dicts': (
    "{{ dict(b='<', a=1) | tojson(sort_keys=true, separators=(',', ':')) }}",
    '{"a":1,"b":"<"}',
  ),
  'loops': (
    '{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}'
    "{% break %}{% endif %}{{ i }}{% endfor %}{{ cycler('a').next() }}", '02a',
  ),
  'its tokens': ('{{ mask_token }}{{ sep_token }}', '<m>'),
}


@pytest.mark.parametrize('case', GIVEN)
def test_what_templates_are_given(tmp_path, jinja2, case):
  template, said = GIVEN[case]
  (tmp_path / 'special_tokens_map.json').write_text(
    json.dumps({'mask_token': {'content': '<m>'}})
  )
  assert write(tmp_path, chat_template=template)(TALK) == said


def test_templates_in_files_of_their_own(tmp_path, jinja2):
  more = tmp_path / 'additional_chat_templates'
  more.mkdir()
  (more / 'tool_use.jinja').write_text('tools')
  assert write(tmp_path, eos_token='x') is None
  (more / 'default.jinja').write_bytes(b'\xef\xbb\xbfmore')
  assert write(tmp_path, chat_template='older')(TALK) == 'more'
  (tmp_path / 'chat_template.jinja').write_text('its own')
  assert write(tmp_path, chat_template='older')(TALK) == 'its own'


@pytest.mark.parametrize(
  'content',
  [
    '{', '[]', '3', '{"chat_template": [1]}', '{"bos_token": {}}', '\0',
    '{"bos_token": 3}', '{"eos_token": {"content": [1]}}',
    '{"chat_template": [{"name": 1}]}', '[' * 100_000,
  ],
)
def test_damaged_settings(tmp_path, content):
  (tmp_path / 'tokenizer_config.json').write_text(content)
  with pytest.raises(ValueError, match='tokenizer_config.json or chat_.* is'):
    chat.chat_template(tmp_path)


def test_a_template_must_be_a_string(tmp_path):
  with pytest.raises(ValueError, match='is no string'):
    write(tmp_path, chat_template={'a': 'b'})


@pytest.mark.parametrize(
  'messages', ['hello', [{'role': 'user'}], [{'role': 'a', 'content': 1}], [1]]
)
def test_bad_messages(tmp_path, messages):
  with pytest.raises(ValueError, match='messages are dicts with the strings'):
    write(tmp_path, chat_template='')(messages)


def test_without_jinja(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'path', [])
  for name in [n for n in sys.modules if n.split('.')[0] == 'jinja2']:
    monkeypatch.delitem(sys.modules, name)
  with pytest.raises(ValueError, match=r"pip install 'punt-jax\[hf\]'"):
    write(tmp_path, chat_template='')(TALK)


HOSTILE = {
  'class': ("{{ ''.__class__.__mro__ }}", 'SecurityError'),
  'globals': ('{{ messages.__init__.__globals__ }}', 'SecurityError'),
  'import': ("{% import 'os' as os %}", 'no loader'),
  'include': ("{% include '/etc/passwd' %}", 'no loader'),
  'extends': ("{% extends '/etc/passwd' %}", 'no loader'),
  'change': ('{{ messages.append(1) }}', 'SecurityError'),
  'format': ("{{ '{0.__class__.x}'.format(1) }}", 'Undefined|Security'),
  'range': ('{% for i in range(10**9) %}{% endfor %}', 'Range too big'),
  'width': ("{{ '%999999999999d' % 1 }}", 'MemoryError'),
  'center': ("{{ 'a'.center(10**11) }}", 'MemoryError'),
  'a gigabyte': (
    "{{ ('a' * (10**9 + messages | length)) | length }}", 'MemoryError',
  ),
  'other globals': ('{{ lipsum(9) }}', 'UndefinedError'),
  'itself': ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'Recursion'),
  'output': (
    "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", 'more than',
  ),
  'doubled': (
    "{% set n = namespace(s='a' * 9999) %}{% for i in range(60) %}"
    '{% set n.s = n.s ~ n.s %}{% endfor %}',
    'MemoryError|more than 5 s',
  ),
  'syntax': ('{% if %}', 'TemplateSyntaxError'),
  'braces': ('{{ ' + '(' * 10_000 + '1' + ')' * 10_000 + ' }}', 'Recursion'),
  'unknown': ('{{ missing.part }}', 'UndefinedError'),
  'refusal': ("{{ raise_exception('no\nroles') }}", 'no roles'),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_templates(tmp_path, jinja2, case):
  template, said = HOSTILE[case]
  with pytest.raises(ValueError, match=said) as error:
    write(tmp_path, chat_template=template)(TALK)
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
  'template',
  [
    '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}'
    '{% endfor %}',
    '{{ 9 ** (9 ** (messages | length + 7)) % 2 }}',
  ],
)
def test_endless_templates(tmp_path, jinja2, monkeypatch, template):
  monkeypatch.setattr(chat, 'SECONDS', 1)
  render = write(tmp_path, chat_template=(
    "{% if messages[1].content == 'é' %}" + template + '{% endif %}well'
  ))
  start = time.time()
  with pytest.raises(ValueError, match='it needs more than 1 s'):
    render(TALK)
  assert time.time() - start < 8
  assert render([TALK[0], TALK[0]]) == 'well'  # in a new process


def test_an_interrupted_answer_is_not_the_next_one(tmp_path, jinja2):
  render = write(tmp_path, chat_template='{{ messages[0].content }}')
  slow = mock.MagicMock()
  slow.stdout.readline.side_effect = KeyboardInterrupt
  with mock.patch.object(chat, 'CHILD', [slow]):
    with pytest.raises(KeyboardInterrupt):
      render(TALK)
    slow.__enter__.return_value.kill.assert_called_once()
    assert chat.CHILD == []
    assert render(TALK) == ' 1 < 2? ░ '
    with chat.CHILD.pop() as child:
      child.kill()


def test_where_memory_cannot_be_limited(jinja2, monkeypatch, capsys):
  resource = pytest.importorskip('resource')
  limits, signals = [], mock.MagicMock()

  def limit(kind, values):
    if kind == resource.RLIMIT_AS:  # as macOS does
      raise ValueError('current limit exceeds maximum limit')
    limits.append((kind, values))

  job = {'template': 'well', 'tokens': {}, 'messages': TALK, 'seconds': 3}
  lines = [json.dumps(job).encode()]
  monkeypatch.setattr(resource, 'setrlimit', limit)
  monkeypatch.setattr(chat, 'signal', signals)
  monkeypatch.setattr(sys, 'stdin', mock.Mock(buffer=lines))
  chat._child()
  assert json.loads(capsys.readouterr().out) == {'prompt': 'well'}
  assert {kind for kind, _ in limits} == {
    resource.RLIMIT_CORE, resource.RLIMIT_FSIZE
  }
  assert signals.alarm.mock_calls == [mock.call(3), mock.call(0)]


def test_the_process_of_templates_needs_no_library():
  done = subprocess.run(
    [sys.executable, '-I', '-S', chat.__file__], stdin=subprocess.DEVNULL,
    capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stderr
