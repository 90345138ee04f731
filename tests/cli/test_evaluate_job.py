"""lm-eval and this library together, on made-up questions and random weights.

Slow, and skipped without the extra punt-jax[eval].
"""

import json
import pathlib

import pytest

from configs import evaluate as configs
from punt_jax.cli import evaluate
from punt_jax.cli.evaluate import plan, scoring
from punt_jax.cli.evaluate.guesses import Guess

pytestmark = [pytest.mark.slow, pytest.mark.torch]  # runs with both

QUESTIONS = {
  'gsm8k/test.jsonl': [
    {'question': f'What is {n} + {n}?', 'answer': f'It is so.\n#### {2 * n}'}
    for n in range(3)
  ],
  'ifeval/input_data.jsonl': [
    {
      'key': 1, 'prompt': 'Say much, without commas, in 9 sentences at most.',
      'instruction_id_list': [
        'punctuation:no_comma', 'length_constraints:number_sentences'
      ],
      'kwargs': [{}, {'relation': 'less than', 'num_sentences': 9}],
    },
    {
      'key': 2, 'prompt': 'Say "zebra".',
      'instruction_id_list': ['keywords:existence'],
      'kwargs': [{'keywords': ['zebra']}],
    },
  ],
  'humaneval/HumanEval.jsonl': [{
    'task_id': 'HumanEval/0', 'entry_point': 'f',
    'prompt': 'def f(x):\n  """Returns x."""\n',
    'canonical_solution': '  return x\n',
    'test': 'def check(f):\n  assert f(1) == 1\n',
  }],
  'mbpp/mbpp.jsonl': [
    {
      'task_id': n, 'text': 'Write f.', 'code': 'def f(x):\r\n  return x',
      'test_list': [f'assert f({i}) == {i}' for i in range(3)],
      'test_setup_code': '', 'challenge_test_list': [],
    }
    for n in (1, 2, 3, 11, 12, 511)
  ],
}
QUESTIONS['gsm8k/train.jsonl'] = QUESTIONS['gsm8k/test.jsonl']


@pytest.fixture(scope='module')
def harness():
  pytest.importorskip('lm_eval')
  pytest.importorskip('punkt')
  return plan.import_harness()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  for name, rows in QUESTIONS.items():
    (folder / name).parent.mkdir(exist_ok=True)
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (folder / name).write_text(text)
  return folder


def small(preset='llada'):
  config = configs.get_config(preset)
  config.update(dict(batch=8, bucket=512))
  for task in config.tasks.values():
    shots = min(1, task.get('shots', 0))
    task.update(dict(max_new_tokens=8, block_length=4, shots=shots))
  config.samplers = dict(punt=dict(epsilon=0.04), top_k=dict(k=(2, 4)))
  return config


def lines(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_whole_job_and_its_continuation(
  harness, data, tmp_path, monkeypatch
):
  from punt_jax.cli import random_checkpoint

  pytest.importorskip('tokenizers')
  import nltk

  fetch = lambda *args, **kwargs: pytest.fail('something was to be fetched')
  monkeypatch.setattr(nltk, 'download', fetch)
  model, work = tmp_path / 'model', tmp_path / 'run'
  random_checkpoint.write(model, 'llada', 'tiny', dtype='float32')
  config = small()
  rows = evaluate.run(config, work, str(model), str(data), True)
  assert [(row['subject'], row['sampler'], row['items']) for row in rows] == [
    (task, sampler, items)
    for task, items in (
      ('gsm8k', 3), ('humaneval_instruct', 1), ('ifeval', 2),
      ('mbpp_instruct', 2),
    )
    for sampler in ('random', 'punt', 'top_k', 'top_k')
  ]
  assert [row['nfe'] for row in rows[2:4]] == [4, 2]
  assert all(row['nfe'] == 0 for row in rows if row['sampler'] == 'random')
  assert all(0 <= row['accuracy'] <= 1 for row in rows)
  assert rows[0]['shots'] == 1 and rows[0]['scores'].keys() >= {
    'exact_match,strict-match', 'exact_match,flexible-extract'
  }
  for task in config.tasks:
    assert (work / f'{task}.png').stat().st_size > 1000
  said = lines(work / 'answers.jsonl')
  assert len(said) == sum(row['items'] for row in rows)

  # Killed in the middle of an answer: it is written again, the same.
  text = (work / 'answers.jsonl').read_text()
  (work / 'answers.jsonl').write_text(text[:-40])
  done = (work / 'results.jsonl').read_text().splitlines(keepends=True)
  (work / 'results.jsonl').write_text(''.join(done[:-1]))
  asked = []
  write = harness.Harness.generate_until

  def watched(self, requests):
    before = len(self.known.rows)
    found = write(self, requests)
    asked.append(len(self.known.rows) - before)
    return found

  monkeypatch.setattr(harness.Harness, 'generate_until', watched)
  again = evaluate.run(config, work, str(model), str(data), True)
  assert asked == [1]
  free = lambda rows: json.loads(json.dumps(
    [
      {k: v for k, v in row.items() if k not in ('seconds', 'took')}
      for row in rows
    ]
  ))
  assert free(again) == free(rows)
  same = lambda row: (row['key'], row['text'], row['nfe'])
  assert list(map(same, lines(work / 'answers.jsonl'))) == list(map(same, said))


GOLD = {
  'gsm8k': lambda doc: doc['answer'] + '\nQuestion: #### 7',
  'humaneval': lambda doc: doc['canonical_solution'] + '\ndef broken(',
  'humaneval_instruct': lambda doc: doc['canonical_solution'] + '```\nSo.',
  'mbpp': lambda doc: doc['code'] + '\n[DONE]\nbroken(',
  'mbpp_instruct': lambda doc: doc['code'] + '\n```\nSo `f` it is.',
}


@pytest.mark.parametrize('name', GOLD)
@pytest.mark.parametrize('right', [True, False])
def test_right_answers_score_one(harness, data, tmp_path, name, right):
  config = small('llada_base')
  config.tasks, config.data = {name: dict(shots=0)}, str(data)
  task = plan.load_tasks(config, tmp_path, True)[name]
  answer = GOLD[name] if right else lambda doc: 'x'

  def write(prompts, numbers):
    assert all(isinstance(prompt, str) for prompt in prompts)
    yield [Guess(n, answer(task.eval_docs[n]), 1) for n in numbers]

  writer = harness.Writer(lambda text: text, write, None)
  model = harness.Harness(
    harness.Engine('gold', lambda wanted: writer, None, None, None),
    harness.answers(tmp_path / 'answers.jsonl'),
  )
  place = plan.Place(name, task, config, 'random', {}, 0, None)
  row = evaluate.score(place, model, 0, config.chat, config.draws)
  assert row['accuracy'] == float(right), row


CHOICES = """
task: pets
custom_dataset: !function punt_jax.cli.evaluate.scoring.files
dataset_kwargs: {test: pets.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["a cat", "a dog", "an eel"]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


def test_multiple_choice_by_likelihood(harness, data, tmp_path):
  (tmp_path / 'pets.yaml').write_text(CHOICES)
  rows = [{'question': 'Is it so? ' * n, 'label': n - 1} for n in (1, 2, 3)]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (data / 'pets.jsonl').write_text(text)
  config = small('llada_base')
  config.update(dict(more=str(tmp_path), draws=4, bucket=32))
  config.tasks = {'pets': {}}
  (row,) = evaluate.run(config, tmp_path / 'run', 'shakespeare', str(data))
  assert (row['sampler'], row['metric']) == ('likelihood', 'acc')
  assert row['items'] == 3 and row['nfe'] == 5  # 4 masks, and one for greedy
  assert 0 <= row['accuracy'] <= 1
  known = lines(tmp_path / 'run' / 'answers.jsonl')
  bounds = [line['nats'] for line in known if 'nats' in line]
  assert len(bounds) == 9 and min(bounds) > 0
  assert len(known) == 18  # and whether each is what greedy decoding writes
  assert not (tmp_path / 'run' / 'pets.png').exists()
  # Questions are known by their content: elsewhere they are the same ones,
  # others have other rows, and answers that are there are not given again.
  moved = tmp_path / 'moved'
  moved.mkdir()
  (moved / 'pets.jsonl').write_text(text)
  again = lambda: evaluate.run(
    config, tmp_path / 'run', 'shakespeare', str(moved)
  )
  assert again() == [row]
  (moved / 'pets.jsonl').write_text(text.replace('"label": 2', '"label": 0'))
  (other,) = again()
  assert other['questions'] != row['questions']
  assert lines(tmp_path / 'run' / 'results.jsonl') == [row, other]
  assert lines(tmp_path / 'run' / 'answers.jsonl') == known


def test_programs_run_with_consent_alone(harness, data, tmp_path):
  with pytest.raises(ValueError, match='agree with --allow_code_execution'):
    evaluate.run(small(), tmp_path / 'run', 'shakespeare', str(data))
  with pytest.raises(ValueError, match='has no chat template'):
    config = small('llada/gsm8k')
    evaluate.run(config, tmp_path / 'run', 'shakespeare', str(data))
  with pytest.raises(ValueError, match='no data file .*gsm8k/test.jsonl'):
    evaluate.run(config, tmp_path / 'run', 'shakespeare', str(tmp_path))
  config = small('llada_base')
  config.tasks = {'gsm8k': dict(kv_cache=True)}
  with pytest.raises(ValueError, match='^gsm8k: .* config.tasks.gsm8k$'):
    evaluate.run(config, tmp_path / 'run', 'shakespeare', str(data))
  with pytest.raises(ValueError, match='with --data=DIR'):
    evaluate.run(small(), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_every_instruction_about_sentences_is_checked(harness, tmp_path):
  scoring.ready_ifeval(tmp_path / 'nltk')
  from lm_eval.tasks.ifeval import utils

  doc = QUESTIONS['ifeval/input_data.jsonl'][0]
  count = lambda text: utils.process_results(doc, [text])
  text = 'Dr. Jones came at 5 p.m. today. ' * 8
  assert count(text)['inst_level_strict_acc'] == [True, True]
  assert count(text + 'One, more.')['inst_level_strict_acc'] == [False, False]


def test_task_files_are_found(harness, data):
  from lm_eval.tasks import TaskManager

  manager = TaskManager(
    include_path=str(plan.TASKS), include_defaults=False,
    metadata={'data': str(data)},
  )
  names = sorted(f.stem for f in pathlib.Path(plan.TASKS).glob('*.y*'))
  assert manager.all_tasks == names
  task = manager.load(['mbpp'])['tasks']['mbpp']
  assert [doc['task_id'] for doc in task.eval_docs] == [11, 12]
  task.set_fewshot_seed(0)
  prompt = task.fewshot_context(task.eval_docs[0], 2)
  assert prompt.count('return x\n[DONE]\n\n') == 2
  assert prompt.endswith('[BEGIN]\n')
