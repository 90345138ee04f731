"""Chat templates: messages -> prompt, as the Hugging Face hub stores them.

A template is a Jinja program from whoever made the checkpoint. It runs in
Jinja's sandbox (no attributes with underscores, no changes, no imports), and
because that bounds neither time nor memory, in a process of its own with
limits on both (on memory where the system can limit it).
"""

import contextlib
import datetime
import functools
import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the process runs this file by itself, without the library
  from punt_jax.types import FilePath, Messages

SECONDS = 5  # a template's time
MEMORY = 2**29  # bytes, where the system can limit them
LETTERS = 2**22  # of a prompt
TOKENS = tuple(
  f'{name}_token' for name in 'bos eos pad unk sep cls mask'.split()
)
LOCK = threading.Lock()  # of CHILD: one question at a time
CHILD = []  # the process, once there is one


def chat_template(
  folder: 'FilePath'
) -> 'Callable[[Messages], str] | None':
  """What turns messages into this checkpoint's prompt.

  Returns:
    function: [{'role': str, 'content': str}, ...] -> str that ends where the
    assistant's answer starts, or a ValueError in one sentence; None if the
    folder has no template.

  Raises:
    ValueError: one sentence, if tokenizer_config.json is damaged.
  """
  from punt_jax import files  # the child must not import jax
  from punt_jax.text import token_files

  folder = pathlib.Path(folder)
  where = folder / 'tokenizer_config.json'
  newer = [
    folder / 'chat_template.jinja',
    folder / 'additional_chat_templates' / 'default.jinja',
  ]
  found = [file for file in (where, *newer) if files.size(file) is not None]
  try:
    config = token_files.card(folder)
    template = config.get('chat_template')
    if isinstance(template, list):
      template = {x['name']: x['template'] for x in template}.get('default')
    for file in [file for file in newer if file in found][:1]:
      template = files.read(file, LETTERS).decode('utf-8-sig')
    tokens = {name: _token(config.get(name)) for name in TOKENS}
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    said = f'{error!s:.200}' if isinstance(error, ValueError) else 'its entries'
    raise ValueError(
      f'{where} or chat_template.jinja is damaged ({said})'
    ) from None
  if template is None:
    return None
  if not isinstance(template, str):
    raise ValueError(f'{where}: chat_template is no string')
  return functools.partial(_render, folder, template, tokens)


def _token(value):
  """A special token as a string: it may be an object, or absent."""
  token = value['content'] if isinstance(value, dict) else value or ''
  if not isinstance(token, str):
    raise TypeError
  return token


def _render(folder, template, tokens, messages):
  """The prompt, or a ValueError in one sentence."""
  if not isinstance(messages, (list, tuple)) or not all(
    isinstance(message, dict)
    and all(isinstance(message.get(x), str) for x in ('role', 'content'))
    for message in messages
  ):
    raise ValueError("messages are dicts with the strings 'role' and 'content'")
  if importlib.util.find_spec('jinja2') is None:
    from punt_jax import extras  # the child must not import jax

    raise ValueError(extras.missing('a chat template', 'jinja2'))
  job = {
    'template': template, 'tokens': tokens, 'messages': list(messages),
    'seconds': SECONDS,
  }
  with LOCK:
    line = _ask(json.dumps(job).encode() + b'\n')
  said = f'it needs more than {SECONDS} s or {MEMORY >> 20} MiB'
  answer = json.loads(line) if line else {'error': said}
  if 'error' in answer:
    raise ValueError(f'the chat template of {folder} failed: {answer["error"]}')
  return answer['prompt']


def _ask(line):
  """The child's answer to a line, b'' if it died over it."""
  if not CHILD:
    CHILD.append(subprocess.Popen(
      [sys.executable, '-P', __file__], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ))
  answer = b''
  try:
    with contextlib.suppress(BrokenPipeError):
      CHILD[0].stdin.write(line)
      CHILD[0].stdin.flush()
      answer = CHILD[0].stdout.readline()
  finally:  # also when the user interrupts: what it says later is not ours
    if not answer:
      with contextlib.suppress(BrokenPipeError), CHILD.pop() as child:
        child.kill()
  return answer


def _inside(job):
  """In the child: the prompt of a job; a job that takes long ends the child."""
  import jinja2

  signal.alarm(job['seconds'])

  def fail(message):
    raise jinja2.TemplateError(message)

  env = _environment()
  env.globals['raise_exception'] = fail
  pieces, letters = [], 0
  for piece in env.from_string(job['template']).generate(
    messages=job['messages'], tools=None, documents=None,
    add_generation_prompt=True, **job['tokens'],
  ):
    pieces.append(piece)
    letters += len(piece)
    if letters > LETTERS:
      raise ValueError(f'it wrote more than {LETTERS} characters')
  return ''.join(pieces)


def _environment():
  """Jinja's sandbox with what transformers' apply_chat_template puts there."""
  import jinja2.ext
  import jinja2.nodes
  import jinja2.sandbox

  class Generation(jinja2.ext.Extension):
    """{% generation %}: marks what a model wrote; for training, not for us."""

    tags = {'generation'}

    def parse(self, parser):
      line = next(parser.stream).lineno
      body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
      return jinja2.nodes.Scope(body).set_lineno(line)

  env = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True,
    extensions=['jinja2.ext.loopcontrols', Generation],
  )
  keep = ('range', 'namespace', 'cycler', 'joiner')
  env.globals = {name: env.globals[name] for name in keep}
  env.globals['dict'] = lambda *pairs, **more: dict(*pairs, **more)
  env.globals['strftime_now'] = lambda form: (
    datetime.datetime.now().strftime(form)
  )

  def tojson(  # Jinja's own writes < as \u003c
    x, ensure_ascii=False, indent=None, separators=None, sort_keys=False
  ):
    return json.dumps(
      x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
      sort_keys=sort_keys,
    )

  env.filters['tojson'] = tojson
  return env


def _child():
  """Answers each line, a job, with {'prompt'} or {'error'}."""
  import resource

  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the user means the parent
  for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
    resource.setrlimit(kind, (0, 0))
  with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  for line in sys.stdin.buffer:
    try:
      answer = {'prompt': _inside(json.loads(line))}
    except Exception as error:  # a template can raise anything
      said = ' '.join(str(error).split())[:200]
      answer = {'error': f'{type(error).__name__} {said}'.strip()}
    signal.alarm(0)
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
  _child()
