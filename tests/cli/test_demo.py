"""The main job, end to end on a tiny model, and what it refuses."""

import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from absl import flags
from matplotlib import image
from ml_collections import config_flags

from configs import demo
from punt_jax import models, samplers
from punt_jax.checkpoints import saving
from punt_jax.cli import configs, job, random_checkpoint
from punt_jax.cli import demo as main_job
from punt_jax.generation import options
from punt_jax.text import vocabulary as text_lib
from tests.helpers.processes import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALPHABET = '\n abcdefgh'
PROMPT = 'a__\nbad __ head'
FILES = [
  '.lock', 'config.json', 'film.html', 'order.png', 'results.jsonl',
  'samples.txt',
]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """The file of a model with random weights."""
  sizes = dict(width=16, layers=1, heads=2)
  module = models.Transformer(vocab=len(ALPHABET), **sizes)
  params = module.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
  leaves, tree = jax.tree.flatten(params['params'])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [x + 0.5 * jax.random.normal(k, x.shape) for k, x in zip(
    keys, leaves, strict=True)]
  path = tmp_path_factory.mktemp('model') / 'tiny.safetensors'
  text = text_lib.characters(ALPHABET)
  card = dict(model=sizes, text=text.spec, length=16, heldout_bits=3.1)
  saving.export_params(path, jax.tree.unflatten(tree, leaves), card)
  return str(path)


def tiny(model, **values):
  """The demo with two samplers on a small canvas."""
  config = demo.get_config()
  config.update(model=model, prompt=PROMPT, rows=2, length=16, draws=2)
  config.film = ('punt', 'top_k')
  with config.unlocked():
    config.samplers = ml_collections.ConfigDict(
      dict(punt=dict(epsilon=0.05), top_k=dict(k=3))
    )
    config.update(values)
  return config


@pytest.fixture(scope='module', autouse=True)
def two_devices():
  """Several, and less to compute than on all eight."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'local_devices', lambda: jax.devices()[:2])
    yield


@pytest.fixture(scope='module')
def finished(model, tmp_path_factory):
  """(workdir, rows, what was printed) of a whole run."""
  workdir = tmp_path_factory.mktemp('run') / 'new'
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    rows = main_job.run(tiny(model), workdir)
  return workdir, rows, printed.getvalue()


def test_every_file_is_there(finished):
  workdir, rows, _ = finished
  assert sorted(p.name for p in workdir.iterdir()) == FILES
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == rows
  assert image.imread(workdir / 'order.png').shape[1] > 1000


def test_the_rows_say_what_was_run_and_what_it_cost(finished):
  _, rows, _ = finished
  assert [(row['sampler'], row['subject']) for row in rows] == [
    ('punt', 'empty canvas'), ('top_k', 'empty canvas'),
    ('punt', 'prompt'), ('top_k', 'prompt'),
  ]
  for row in rows:
    assert (row['schema'], row['experiment'], row['length']) == (2, 'demo', 16)
    assert row['origin']['seed'] == 0 and 'revision' in row['origin']
    assert len(row['forwards']) == len(jax.local_devices())
    assert 0 < row['distinct_4'] <= 1 and row['bits_per_character'] > 0
    blanks = 16 if row['subject'] == 'empty canvas' else PROMPT.count('_')
    assert row['characters_per_nfe'] == blanks / row['nfe']
  assert rows[0]['settings'] == {'epsilon': 0.05}
  assert rows[1]['nfe'] == 6 and rows[3]['nfe'] == 2  # 16 and 4 by threes


def test_the_prompt_is_kept(finished):
  shape = PROMPT.replace('_', '.')
  for row in finished[1][2:]:
    for text in row['texts']:
      assert re.fullmatch(shape, text, re.DOTALL), text


def test_the_film_stands_alone_and_ends_with_the_texts(finished):
  workdir, rows, _ = finished
  page = (workdir / 'film.html').read_text()
  assert len(page) < 2_000_000
  assert not re.search(r'https?:|src=|href=|@import|url\(', page)
  data = re.search(r'<script type="application/json".*?>(.*?)</script>', page)
  scenes = json.loads(data[1])['scenes']
  assert list(scenes) == ['empty canvas', 'prompt']
  for name, reels in scenes.items():
    for reel in reels:
      letters = reel['start']
      for frame in reel['frames']:
        for i, letter in zip(frame['at'], frame['put'], strict=True):
          letters[i] = letter
      row, = [
        r for r in rows
        if (r['sampler'], r['subject']) == (reel['name'], name)
      ]
      assert ''.join(letters) == row['texts'][0]
      paid = [frame['paid'] for frame in reel['frames']]
      assert paid == sorted(set(paid)) and paid[0] >= 1
  assert [f['paid'] for f in scenes['prompt'][1]['frames']] == [1, 2]


def test_what_is_printed(finished):
  _, rows, printed = finished
  assert '\033' not in printed  # not a terminal
  assert max(map(len, printed.splitlines())) <= 100
  assert len(printed.splitlines()) < 60
  for word in ('punt', 'top_k', 'without compilation', 'fewer is cheaper'):
    assert word in printed
  for line in rows[2]['texts'][0].split('\n'):
    assert line in printed


def test_the_same_config_again_and_another(finished, model):
  workdir, rows, _ = finished
  before = {p.name: p.read_bytes() for p in workdir.iterdir()}
  with pytest.raises(ValueError, match='another config.*seed'):
    main_job.run(tiny(model, seed=1), workdir)
  assert before == {p.name: p.read_bytes() for p in workdir.iterdir()}
  with contextlib.redirect_stdout(io.StringIO()):
    again = main_job.run(tiny(model), workdir)
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  assert len(lines) == len(again) == len(rows)
  assert [r['texts'] for r in again] == [r['texts'] for r in rows]


def one(name, **hyperparams):
  """config.sampler with a name and some hyperparameters set."""
  return {'sampler': {'name': name, **hyperparams}}


@pytest.mark.parametrize(
  'values, said',
  [
    (one('pnut'), "unknown sampler 'pnut': use one of punt, influence"),
    (one('top_k', epsilon=1.0), "of top_k: 'epsilon': use one of k, score"),
    (one('punt', epsilon=np.nan), 'epsilon = nan is out of range'),
    (one('top_k', k=0.0), 'k = 0.0 is out of range: it must be at least 1'),
    (one('punt', score='best'), "unknown score 'best': use one of confid"),
    (one('halton'), 'halton needs a value for its hyperparameter steps'),
    (one(None, k=3.0), 'config.sampler.k is set: say whose it is'),
    (dict(film=('punt', 'halton')), "film: 'halton': use one of punt, top_k"),
    (dict(model='hamlet'), 'there is no file or folder hamlet, and no model'),
    (dict(prompt='a_z'), "the prompt: character 'z' at position 2 is not"),
    (dict(prompt='abba'), 'the prompt has no blank: write _ for each'),
    (dict(prompt='_' * 17), 'use --config.length=17'),
    (dict(temperature=-1.0), 'temperature = -1.0 is out of range'),
    (dict(top_p=np.nan), 'top_p = nan is out of range'),
    (one('punt', block_length=-1.0), 'block length = -1.0 is out of range'),
    (dict(block_length=-1), 'block length = -1 is out of range'),
    (dict(rows=0), 'rows = 0 must be a whole number'),
  ],
)
def test_bad_input_is_a_sentence_and_writes_nothing(
  values, said, model, tmp_path
):
  with pytest.raises(ValueError) as error:
    main_job.run(tiny(**{'model': model, **values}), tmp_path / 'new')
  assert said in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'new').exists()


def command(workdir, *arguments):
  """The demo's command line, run to its end on one device."""
  return subprocess.run(
    [
      sys.executable, '-m', 'punt_jax.cli.demo', '--config=configs/demo.py',
      f'--workdir={workdir}', *arguments,
    ],
    cwd=ROOT, env=environment(), capture_output=True, text=True,
  )


@pytest.mark.slow
def test_the_command_with_one_sampler(model, tmp_path):
  done = command(
    tmp_path / 'new', f'--config.model={model}', '--config.prompt=ab_',
    '--config.sampler.name=top_k', '--config.sampler.k=5', '--config.rows=1',
    '--config.length=10', '--config.draws=1', '--config.temperature=0.7',
    '--config.top_p=0.9', '--config.sampler.block_length=4',
  )
  assert done.returncode == 0, done.stderr
  assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == FILES
  lines = (tmp_path / 'new' / 'results.jsonl').read_text().splitlines()
  empty, prompt = map(json.loads, lines)
  assert empty['nfe'] == 3 and prompt['nfe'] == 1  # blocks of 4, 4 and 2
  assert empty['settings'] == {'k': 5, 'block_length': 4}
  assert empty['bits_error'] is None  # of one row
  assert 'tiny, 1 row x 10' in done.stdout and 'block_length 4' in done.stdout


@pytest.mark.parametrize(
  'flag, said',
  [
    pytest.param(
      '--config.sampler.name=pnut', "demo: unknown sampler 'pnut': use",
      marks=pytest.mark.slow,
    ),
    ('--config.sampler.epsilom=1', 'unknown config value config.sampler.ep'),
  ],
)
def test_the_command_ends_with_a_sentence(flag, said, tmp_path):
  done = command(tmp_path / 'new', flag)
  assert done.returncode == 1 and said in done.stderr
  assert 'Traceback' not in done.stderr and not (tmp_path / 'new').exists()


def test_no_sampler_at_all(model):
  config = tiny(model)
  config.samplers = ml_collections.ConfigDict()
  with pytest.raises(ValueError, match='config.samplers is empty'):
    job.prepare(config)


@pytest.fixture
def parsed(monkeypatch):
  """A function: command line -> the demo's config."""

  def parse(*arguments):
    # config_flags reads the overrides from sys.argv, whatever it is given.
    monkeypatch.setattr(sys, 'argv', ['demo', *arguments])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
      'config', str(ROOT / 'configs/demo.py'), flag_values=values
    )
    values(sys.argv)
    return values.config

  return parse


def test_one_sampler_with_hyperparams_from_the_command_line(parsed):
  config = parsed(
    '--config.sampler.name=punt', '--config.sampler.epsilon=0.5',
    '--config.sampler.first=lsb', '--config.prompt=To __',
  )
  choice, = configs.choose(config)
  assert choice.name == 'punt' and choice.static == {'first': 'lsb'}
  assert choice.traced == {'epsilon': 0.5} and config.prompt == 'To __'
  # What is unset comes from the samplers of the demo.
  choice, = configs.choose(parsed('--config.sampler.name=punt'))
  assert choice.traced == demo.get_config().samplers.punt.to_dict()


def test_every_hyperparam_of_every_sampler_has_a_flag():
  config = demo.get_config()
  for name in samplers.NAMES:
    assert set(options.signature(name)) <= set(config.sampler)
  listed = [choice.name for choice in configs.choose(config)]
  assert listed == [n for n in samplers.NAMES if n in config.samplers]
  assert len(listed) == len(config.samplers) > 10


def test_samplers_get_the_steps_they_need(model):
  choice = options.choose('p2', dict(steps=12, block_length=8))
  assert options.most_steps(choice, 16) == 24
  assert options.most_steps(options.choose('uniform', dict(k=1)), 16) == 16
  config = tiny(model)
  config.sampler.update(name='p2', steps=12.0, block_length=8.0)
  ready = job.prepare(config)
  fill = main_job.compile_one(ready, ready.choices[0], False)
  filled = fill(ready.pages[0])
  options.check_finished(choice, filled)
  with pytest.raises(ValueError, match='did not finish row 1'):
    done = np.array([True, False])
    options.check_finished(choice, filled._replace(done=done))


def test_the_demo_fits_the_model_that_ships():
  ready = job.prepare(demo.get_config())
  assert [page.name for page in ready.pages] == ['empty canvas', 'prompt']
  assert [choice.name for choice in ready.film] == list(job.FILM)


def test_influence_learns_its_table_first(model, capsys):
  config = tiny(model, warm_up=2)
  config.sampler.name = 'influence'
  config.sampler.kappa = -1.0
  ready = job.prepare(config)
  assert not ready.learned.table.any() and ready.choices[0].learns
  ready = job.learn_first(ready)
  assert 'from 32 passes' in capsys.readouterr().out  # 2 rows of 16, one by one
  table = ready.learned.table
  assert table[0, 3] == table[3, 0] == table[9, 12] > 0  # by distance
  fill = main_job.compile_one(ready, ready.choices[0], False)
  assert fill(ready.pages[0]).meter.nfe.tolist() == [16, 16]
  none = job.prepare(tiny(model))
  assert job.learn_first(none) is none


def test_the_pages(model):
  empty, prompt = job.prepare(tiny(model, rows=3)).pages
  assert (empty.tokens == len(ALPHABET)).all() and empty.valid.all()
  assert empty.tokens.shape == prompt.tokens.shape == (3, 16)
  assert (prompt.valid.sum(1) == len(PROMPT)).all()
  masked = prompt.tokens[1, : len(PROMPT)] == len(ALPHABET)
  assert masked.tolist() == [c == '_' for c in PROMPT]
  assert len(job.prepare(tiny(model, prompt='')).pages) == 1
  escaped = tiny(model, prompt=r'a\n_', escapes=True)
  typed, = job.prepare(escaped).pages[1:]
  assert typed.tokens[0, :3].tolist() == [2, 0, len(ALPHABET)]
  with pytest.raises(ValueError, match=r"the prompt: character '\\\\' at pos"):
    job.prepare(tiny(model, prompt=r'a\n_'))
  for name, value in (('top_p', 0.0), ('temperature', np.nan), ('seed', -1)):
    with pytest.raises(ValueError, match=f'{name} = '):
      job.prepare(tiny(model, **{name: value}))


def test_without_matplotlib_all_but_the_picture(model, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  said = main_job.save(tmp_path, job.prepare(tiny(model)), [], [], {})
  assert str(said) == (
    "order.png needs matplotlib: pip install 'punt-jax[plots]'"
  )
  files = sorted(p.name for p in tmp_path.iterdir())
  assert files == ['film.html', 'results.jsonl', 'samples.txt']


def test_the_door_itself_checks_ranges():
  with pytest.raises(ValueError, match='gamma = -1 is out of range'):
    options.choose('entropy_bound', dict(gamma=-1))
  with pytest.raises(ValueError, match="k = '3' of top_k must be a number"):
    options.choose('top_k', dict(k='3'))
  with pytest.raises(ValueError, match='score = 3 of top_k must be a word'):
    options.choose('top_k', dict(k=3, score=3))


def test_a_folder_without_a_tokenizer_is_a_sentence(tmp_path):
  folder = tmp_path / 'tiny'
  random_checkpoint.write(folder, 'llada', 'tiny')
  for file in folder.glob('tokenizer*.json'):
    file.unlink()
  with pytest.raises(ValueError, match='the model has no tokenizer.json'):
    main_job.run(tiny(str(folder)), tmp_path / 'new')
  assert not (tmp_path / 'new').exists()
