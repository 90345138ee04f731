"""Checkpoint directories: what is loaded, what is refused, what it takes."""

import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import punt_jax
from punt_jax import checkpoints, samplers
from punt_jax.checkpoints import huggingface, special_tokens, tensors
from punt_jax.cli import random_checkpoint

KINDS = ('llada', 'dream', 'mdlm', 'bert')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """{kind: a tiny directory of random weights}."""
  root = tmp_path_factory.mktemp('checkpoints')
  for kind in KINDS:
    random_checkpoint.write(root / kind, kind, 'tiny', shard_bytes=100_000)
  return {kind: root / kind for kind in KINDS}


def altered(source, target, config=None, change=None):
  """A copy of a directory with other settings or other tensors."""
  target.mkdir()
  old = json.loads((source / 'config.json').read_text())
  (target / 'config.json').write_text(json.dumps(old | (config or {})))
  stored = tensors.open_tensors(source)
  arrays = {name: stored.read(name) for name in stored.shapes}
  if change:
    change(arrays)
  tensors.write_tensors(target, arrays.items())
  return target


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip_is_bitwise(kind, made, tmp_path):
  plan, params, config = huggingface.load(made[kind])
  assert plan.module.dtype == 'bfloat16'
  again = tmp_path / 'again'
  huggingface.export(again, plan, params, config, shard_bytes=50_000)
  old = tensors.open_tensors(made[kind])
  new = tensors.open_tensors(tmp_path / 'again')
  assert old.shapes == new.shapes and len(old.shapes) > 10
  for name in old.shapes:
    a, b = old.read(name), new.read(name)
    assert a.tobytes() == b.tobytes(), name
  assert json.loads((tmp_path / 'again' / 'config.json').read_text()) == config


def test_tensors_find_their_place(made):
  plan, params, _ = huggingface.load(made['dream'], dtype='float32')
  stored = tensors.open_tensors(made['dream'])
  name = 'model.layers.1.self_attn.k_proj.'
  kernel = stored.read(name + 'weight').astype(np.float32)
  block = params['blocks']['key']
  np.testing.assert_array_equal(block['kernel'][1], kernel.T)
  bias = stored.read(name + 'bias').astype(np.float32)
  np.testing.assert_array_equal(block['bias'][1], bias)
  assert block['kernel'].dtype == 'float32' == plan.module.dtype


def test_pretrained_of_a_folder(made):
  loaded = checkpoints.load(made['llada'])
  assert loaded.ids == {
    'mask': 259, 'eos': 257, 'pad': 257, 'eot': 258,  # by config.json
    'bos': 256,  # by tokenizer_config.json
  }
  assert loaded.text.vocab == 262 and loaded.length == 4096
  said = loaded.chat([{'role': 'user', 'content': ' hi '}])
  assert said.startswith('<|startoftext|><|start_header_id|>user<|end_header')
  assert said.endswith(
    'hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n'
  )
  model = loaded.denoiser(loaded.params)
  memo = model.init(np.full((1, 3), 262), np.ones((1, 3), bool))
  _, answer = model.ask(memo, np.full((1, 3), 262), np.ones(1, bool))
  logp = model.read(answer.features)
  assert logp.shape == (1, 3, 262) and (logp[..., 259] == -math.inf).all()
  # V stands for the checkpoint's own mask id.
  _, same = model.ask(memo, np.full((1, 3), 259), np.ones(1, bool))
  np.testing.assert_array_equal(answer.features, same.features)


@pytest.mark.parametrize('kind, how', [
  ('llada', {}), ('llada', {'window': 4}), ('dream', {'window': 4}),
  ('bert', {}),
])
def test_a_checkpoints_own_mask_id_is_read_as_mask(kind, how, made):
  """Nothing was written once, and done was True, without a word."""
  plan, params, _ = huggingface.load(made[kind], dtype='float32')

  def build(params, epsilon):
    model = huggingface.denoiser(plan, params, **how)
    return model, samplers.blocks(samplers.punt(epsilon), 4)

  run = punt_jax.compile(build)
  canvas = np.full((1, 8), plan.vocab)
  canvas[0, 1] = 65
  want = run(params, 0.1, 0, canvas)
  assert want.done.all() and not (want.tokens == plan.mask).any()
  theirs = np.where(canvas == plan.vocab, plan.mask, canvas)
  assert plan.mask < plan.vocab and (theirs != canvas).any()
  out = run(params, 0.1, 0, theirs)
  assert out.tokens.tolist() == want.tokens.tolist()
  assert out.meter.nfe.tolist() == want.meter.nfe.tolist()


def special_of(folder_, kind='llada', config=(), files=(), **tokenizer):
  """special.ids of a folder with these files, and the mask of a tokenizer."""
  for name, content in dict(files).items():
    (folder_ / f'{name}.json').write_text(json.dumps(content))
  (folder_ / 'tokenizer_config.json').write_text(json.dumps(tokenizer))
  plan = huggingface.layout(random_checkpoint.describe(kind, 'tiny'))
  ids = special_tokens.ids(folder_, plan, dict(config))
  assert ids.pop('mask') == plan.mask
  return ids, special_tokens.mask(folder_)


def test_special_tokens_by_name(tmp_path):
  assert special_of(tmp_path, config={'eos_token_id': [7, 5, 7]}) == (
    {'eos': 7, 'eos_2': 5}, None
  )
  added = [{'content': x, 'id': i} for i, x in enumerate(
    ['<s>', '</s>', '[SEP]', '[MASK]', '<|im_end|>', '<mine>'])]
  files = {
    'tokenizer': {'added_tokens': added},
    'generation_config': {'eos_token_id': [1, 8, 10**6]},  # no token to write
  }
  # config.json comes first, then what the tokenizer says; ends are collected.
  assert special_of(
    tmp_path, config={'pad_token_id': 9, 'bos_token_id': None}, files=files,
    eos_token='</s>', bos_token={'content': '<s>'}, pad_token='<s>',
    mask_token={'content': '<mine>'},
  ) == ({'eos': 1, 'eos_2': 8, 'pad': 9, 'bos': 0, 'eot': 4}, 5)
  del files['generation_config']
  (tmp_path / 'generation_config.json').unlink()
  assert special_of(
    tmp_path, 'bert', files=files, eos_token='[SEP]', bos_token='none',
  ) == ({'eot': 4}, 3)
  # A tokenizer without tokenizer.json.
  (tmp_path / 'tokenizer.json').unlink()
  files = {
    'vocab': {'<|endoftext|>': 2, 'a': 1}, 'added_tokens': {'<|im_end|>': 3}
  }
  decoder = {'4': {'content': '<|mask|>'}}
  assert special_of(
    tmp_path, 'dream', files=files, eos_token='<|endoftext|>',
    mask_token='<|mask|>', added_tokens_decoder=decoder,
  ) == ({'eos': 2, 'eot': 3}, 4)
  for wrong in ([1], {'eos_token_id': '1'}):
    with pytest.raises(ValueError, match='JSON object|eos is'):
      special_of(tmp_path, files={'generation_config': wrong})


def test_the_mask_of_a_published_bert(made, tmp_path):
  bert = altered(made['bert'], tmp_path / 'bert', {'mask_token_id': None})
  with pytest.raises(ValueError, match='config.json has no mask_token_id'):
    checkpoints.load(bert)
  file = (made['bert'] / 'tokenizer.json').read_text()
  (bert / 'tokenizer.json').write_text(file)
  loaded = checkpoints.load(bert)
  assert loaded.ids == {'mask': 259, 'pad': 258}
  assert loaded.card['mask_token_id'] == 259  # an export needs no tokenizer


CONFIGS = {
  'no architecture': ({'model_type': 'gpt5'}, "'gpt5' is not implemented"),
  'no type': ({'model_type': None}, 'model_type None'),
  'a list as type': ({'model_type': ['llada']}, 'is not implemented'),
  'unknown key': ({'logit_cap': 30.0}, "'logit_cap' means is not known"),
  'negative size': ({'d_model': -64}, 'd_model is -64'),
  'no layers': ({'n_layers': 0}, 'n_layers is 0'),
  'a string': ({'n_heads': '4'}, "n_heads is '4'"),
  'true': ({'n_heads': True}, 'n_heads is True'),
  'a missing size': ({'mlp_hidden_size': None}, 'mlp_hidden_size is None'),
  'endless layers': ({'n_layers': 10**9}, 'n_layers is 1000000000'),
  'absurd vocabulary': ({'vocab_size': 10**15}, 'vocab_size is 1000'),
  'large vocabulary': ({'embedding_size': 2**30}, 'wte.weight has shape'),
  'nan': ({'rms_norm_eps': math.nan}, 'rms_norm_eps is nan'),
  'infinity': ({'rope_theta': math.inf}, 'rope_theta is inf'),
  'odd groups': ({'n_kv_heads': 3}, 'must divide the heads'),
  'negative groups': ({'n_kv_heads': -2}, 'n_kv_heads is -2'),
  'no groups': ({'n_kv_heads': 0}, 'n_kv_heads is 0'),
  'heads that do not divide': ({'n_heads': 3}, '64 is not a multiple of n_h'),
  'a word for true': ({'weight_tying': 'no'}, "weight_tying is 'no'"),
  'mask without a row': (
    {'mask_token_id': 262}, r'mask id 262 lies outside 0 .. 261',
  ),
  'no mask': ({'mask_token_id': None}, 'has no mask_token_id: add it'),
  'a mask in words': ({'mask_token_id': '5'}, "mask_token_id is '5'"),
  'true as mask': ({'mask_token_id': True}, 'mask_token_id is True'),
  'beyond int32': ({'embedding_size': 2**31}, 'embedding_size is 2147483648'),
  'few rows': ({'embedding_size': 261}, 'embedding_size is 261'),
  'no positions': ({'max_sequence_length': -1}, 'max_sequence_length is -1'),
  'theta 0': ({'rope_theta': 0}, 'rope_theta is 0'),
  'a long name': ({'x' * 5000: 1}, "'x{79} means is not known"),
  'a long type': ({'model_type': 'x' * 5000}, "'x{39} is not implemented"),
  'alibi': ({'alibi': True}, 'alibi = True is not implemented'),
  'scaled rope': ({'rope_scaling': {'factor': 2}}, 'rope_scaling = '),
  'mask outside': ({'mask_token_id': 999}, 'mask id 999 lies outside'),
  'negative mask': ({'mask_token_id': -1}, 'mask_token_id is -1'),
  'more layers': ({'n_layers': 3}, r'blocks\.2\.attn_norm\.weight is missing'),
  'fewer layers': ({'n_layers': 1}, r'blocks\.1\..* has no place'),
  'other width': ({'mlp_hidden_size': 64}, r'has shape \(128, 64\)'),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_that_are_refused(name, made, tmp_path):
  config, said = CONFIGS[name]
  bad = altered(made['llada'], tmp_path / 'bad', config)
  with pytest.raises(ValueError, match=said) as error:
    checkpoints.load(bad)
  assert '\n' not in str(error.value) and len(str(error.value)) < 800


def test_old_names_of_norms(made, tmp_path):
  def rename(arrays):
    for name in list(arrays):
      old = name.replace('Norm.weight', 'Norm.gamma')
      arrays[old.replace('Norm.bias', 'Norm.beta')] = arrays.pop(name)

  old = altered(made['bert'], tmp_path / 'old', change=rename)
  assert not [n for n in tensors.open_tensors(old).shapes if 'm.weight' in n]
  _, params, _ = huggingface.load(old)
  _, same, _ = huggingface.load(made['bert'])
  np.testing.assert_array_equal(
    params['blocks']['mlp_norm']['bias'], same['blocks']['mlp_norm']['bias']
  )


def test_arguments_that_are_refused(made):
  with pytest.raises(ValueError, match="unknown dtype 'float16'"):
    checkpoints.load(made['llada'], dtype='float16')
  assets = pathlib.Path(checkpoints.__file__).parents[1] / 'assets'
  shipped = assets / 'shakespeare.safetensors'
  with pytest.raises(ValueError, match='mesh is for folders'):
    checkpoints.load(shipped, mesh=None)


def test_known_strangers_may_be_ignored(made, tmp_path):
  odd = altered(made['llada'], tmp_path / 'odd', {'logit_cap': 30.0})
  assert checkpoints.load(odd, ignore=('logit_cap',)).text is None


@pytest.mark.parametrize('text', [
  '', '{', '[1]', '[' * 100_000, '\x00', f'{{"a": {"9" * 5000}}}',
  '{"n_heads": 4, "n_heads": 2}',
])
def test_config_files_that_are_refused(text, made, tmp_path):
  bad = altered(made['bert'], tmp_path / 'bad')
  (bad / 'config.json').write_text(text)
  with pytest.raises(ValueError, match='config.json (cannot|must)'):
    checkpoints.load(bad)
  (bad / 'config.json').unlink()
  with pytest.raises(ValueError, match='FileNotFoundError'):
    checkpoints.load(bad)


HEAD = 'cls.predictions.bias'


def test_tensors_that_are_refused(made, tmp_path):
  def spoil(value):
    def change(arrays):
      arrays[HEAD] = arrays[HEAD].copy()
      arrays[HEAD][7] = value
    return change

  whole = lambda kind: lambda arrays: arrays.update(
    {HEAD: np.zeros(260, kind)}
  )
  cases = [
    (whole('int8'), f'{HEAD} holds int8, and weights are'),
    (whole('bool'), f'{HEAD} holds bool'),
    (whole('complex64'), f'{HEAD} holds complex64'),
    (
      lambda arrays: arrays.update({HEAD: np.full(260, 1e300)}),
      f'{HEAD} holds NaN or infinity',
    ),
    (lambda arrays: arrays.pop(HEAD), f'{HEAD} is missing'),
    (lambda arrays: arrays.update(more=np.ones(2)), 'more has no place'),
    (
      lambda arrays: arrays.update({HEAD: arrays[HEAD][:-1]}),
      rf'{HEAD} has shape \(259,\), config.json asks for \(260,\)',
    ),
    (spoil(np.nan), f'{HEAD} holds NaN or infinity'),
    (spoil(-np.inf), f'{HEAD} holds NaN or infinity'),
  ]
  for i, (change, said) in enumerate(cases):
    bad = altered(made['bert'], tmp_path / str(i), change=change)
    with pytest.raises(ValueError, match=said):
      checkpoints.load(bad)
  # The pooler is known, and not read.
  pooler = {'bert.pooler.dense.bias': np.ones(2, ml_dtypes.bfloat16)}
  fine = altered(
    made['bert'], tmp_path / 'fine', change=lambda arrays: arrays.update(pooler)
  )
  assert checkpoints.load(fine).length == 512


COPIES = {  # of what a tied head repeats, and how a config says that it is tied
  'llada': (
    'model.transformer.ff_out.weight', 'model.transformer.wte.weight',
    {'weight_tying': True},
  ),
  'dream': (
    'lm_head.weight', 'model.embed_tokens.weight',
    {'tie_word_embeddings': True},
  ),
  'bert': (
    'cls.predictions.decoder.weight', 'bert.embeddings.word_embeddings.weight',
    {},
  ),
}


@pytest.mark.parametrize('kind', COPIES)
def test_a_tied_head_that_is_stored_again(kind, made, tmp_path):
  copy, name, config = COPIES[kind]
  again = lambda arrays: arrays.update({copy: arrays[name]})
  folder = altered(made[kind], tmp_path / 'same', config, again)
  plan, params, _ = huggingface.load(folder)
  assert plan.module.tied and 'readout' not in params
  other = lambda arrays: arrays.update({copy: -arrays[name]})
  folder = altered(made[kind], tmp_path / 'other', config, other)
  with pytest.raises(ValueError, match='hold both, with different values'):
    huggingface.load(folder)


def test_what_hub_folders_may_look_like(made, tmp_path):
  """A BOM, shards in a folder of their own, names in special_tokens_map."""
  folder = tmp_path / 'x'
  shutil.copytree(made['llada'], folder)
  (folder / 'shards').mkdir()
  index = json.loads((folder / tensors.INDEX).read_text())
  for name in set(index['weight_map'].values()):
    (folder / name).rename(folder / 'shards' / name)
  index['weight_map'] = {
    name: f'./shards/{file}' for name, file in index['weight_map'].items()
  }
  (folder / tensors.INDEX).write_text(json.dumps(index))
  card = json.loads((folder / 'tokenizer_config.json').read_text())
  bos = card.pop('bos_token')
  files = {
    'tokenizer_config': card | {'mask_token': None},
    'special_tokens_map': {'bos_token': {'content': bos}},
  }
  for name, content in files.items():
    (folder / f'{name}.json').write_text(json.dumps(content))
  for file in folder.glob('*.json'):
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
  loaded = checkpoints.load(folder)
  assert loaded.ids == checkpoints.load(made['llada']).ids
  assert loaded.text.vocab == 262 and loaded.chat is not None


def test_a_mask_token_that_contradicts_the_config(made, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(made['llada'], folder)
  file = folder / 'tokenizer_config.json'
  for token, fits in (('<|mdm_mask|>', True), ('<|eot_id|>', False)):
    file.write_text(json.dumps({'mask_token': token}))
    if fits:
      assert checkpoints.load(folder).ids['mask'] == 259
      continue
    with pytest.raises(ValueError, match='has the id 258, and in config.json'):
      checkpoints.load(folder)


FILES = (
  'config.json', 'tokenizer.json', 'tokenizer_config.json',
  'generation_config.json', 'special_tokens_map.json', 'chat_template.jinja',
  tensors.INDEX, tensors.FILE,
)


@pytest.mark.parametrize('name', FILES)
def test_files_that_are_none(name, made, tmp_path):
  """Reading from a pipe or a device would never end."""
  folder = tmp_path / 'x'
  shutil.copytree(made['llada'], folder)
  file = folder / name
  file.unlink(missing_ok=True)
  odd = {
    'a device or a pipe': lambda: os.mkfifo(file),
    'a folder': lambda: file.mkdir(),
    'device or a pipe': lambda: file.symlink_to('/dev/zero'),
    'cannot be read': lambda: file.symlink_to(file),
    'link to a file that is absent': lambda: file.symlink_to('/nowhere'),
  }
  for said, make in odd.items():
    make()
    with pytest.raises(ValueError, match=said) as error:
      checkpoints.load(folder)
    assert str(file) in str(error.value) and '\n' not in str(error.value)
    file.rmdir() if said == 'a folder' else file.unlink()
  with open(file, 'wb') as stream:  # of holes, which take no room on the disk
    stream.truncate(2**30)
  with pytest.raises(ValueError, match='too many to be read|truncated'):
    checkpoints.load(folder)


def test_an_export_is_whole_or_not_there(made, tmp_path, monkeypatch):
  plan, params, config = huggingface.load(made['bert'])

  def killed(*_, **how):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(json, 'dumps', killed)
    with pytest.raises(KeyboardInterrupt):
      huggingface.export(tmp_path / 'x', plan, params, config)
  assert not list(tmp_path.iterdir())
  (tmp_path / 'x').mkdir()
  (tmp_path / 'x' / 'mine').write_text('')
  with pytest.raises(ValueError, match='there already and is no empty folder'):
    huggingface.export(tmp_path / 'x', plan, params, config)
  params['bias'] = params['bias'].at[3].set(np.nan)
  with pytest.raises(ValueError, match='parameter bias holds NaN'):
    huggingface.export(tmp_path / 'y', plan, params, config)
  assert [file.name for file in tmp_path.iterdir()] == ['x']


@pytest.mark.slow
def test_host_memory_of_loading(tmp_path):
  """Peak: the placed weights and 1.3 times the largest file."""
  config = random_checkpoint.describe('llada', 'small') | {
    'd_model': 1024, 'n_layers': 12, 'mlp_hidden_size': 4096
  }
  weights = random_checkpoint.weights(config, 0, ml_dtypes.bfloat16)
  tensors.write_tensors(tmp_path, weights, shard_bytes=128 * 2**20)
  (tmp_path / 'config.json').write_text(json.dumps(config))
  done = subprocess.run(
    [sys.executable, '-m', 'punt_jax.cli.describe', f'--model={tmp_path}'],
    capture_output=True, text=True, check=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  print(done.stdout)
  more = re.search(r'peak ([0-9.]+) times the largest of [2-9]', done.stdout)
  assert float(more[1]) < 1.3
