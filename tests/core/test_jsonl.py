"""JSON on disk: what is read, refused, and left behind by a kill."""

import os

import pytest

from punt_jax import jsonl

ROWS = [{'a': 1}, {'b': ['two\u2028lines', None]}]


def test_rows_come_back(tmp_path):
  file = tmp_path / 'rows.jsonl'
  assert jsonl.read(file) == []
  jsonl.replace(file, ROWS[:1])
  jsonl.append(file, ROWS[1])
  assert jsonl.read(file) == ROWS and file.read_text().count('\n') == 2
  jsonl.replace(file, ROWS[1:])
  assert jsonl.read(file) == ROWS[1:] and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize('torn', [True, False])
@pytest.mark.parametrize('text, said', [
  ('{"a": 1}\n{"b":\n{"c": 1}\n', 'line 2 of it is not JSON'),
  ('{"a": 1}\n{"b":\n\n', 'line 2 of it is not JSON'),  # it was written whole
  ('{"a": 1}\n\n{"b": 1}\n', 'line 2 of it is not JSON'),
  ('{"a": 1}\n[1]', 'line 2 of it is not a JSON object'),
  ('{"a":' * 10**5 + '\n', 'line 1 of it is not JSON'),
  (
    '{"a": 1, "a": 2}\n',
    "line 1 of it is not JSON: the name 'a' occurs twice",
  ),
])
def test_a_line_that_is_no_object_is_named(text, said, torn):
  with pytest.raises(ValueError, match=f'^{said}$'):
    jsonl.parse(text, 'it', torn)


def test_a_last_line_that_was_being_written():
  text = '{"a": 1}\n{"b": 2'
  assert jsonl.parse(text, 'it', torn=True) == [{'a': 1}]
  with pytest.raises(ValueError, match='line 2 of it is not JSON'):
    jsonl.parse(text, 'it')
  assert jsonl.parse(text + '}', 'it') == [{'a': 1}, {'b': 2}]


def test_one_object(tmp_path):
  file = tmp_path / 'config.json'
  assert jsonl.read_object(file) == {}
  file.write_text('{"a":\n1}')
  assert jsonl.read_object(file) == {'a': 1}
  for content, said in (
    (b'{"a": 1', 'cannot be read as JSON: '), (b'\xff', 'cannot be read'),
    (b'[' * 10**5, 'cannot be read'), (b'[1, 2]', r'must hold .* not \[1, 2\]'),
  ):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
      jsonl.read_object(file)
    assert '\n' not in str(caught.value) and str(file) in str(caught.value)


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
  def killed(source, target):
    raise KeyboardInterrupt

  file = tmp_path / 'rows.jsonl'
  jsonl.replace(file, ROWS)
  monkeypatch.setattr(os, 'replace', killed)
  with pytest.raises(KeyboardInterrupt):
    jsonl.replace(file, [])
  assert jsonl.read(file) == ROWS
