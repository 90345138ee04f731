"""What a model is; --check against checkpoints of which the truth is known."""

import re
import shutil

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from punt_jax import corruption
from punt_jax.checkpoints import huggingface
from punt_jax.cli import describe, mask_check
from punt_jax.cli import random_checkpoint as made
from punt_jax.text import vocabulary

pytest.importorskip('tokenizers')


def learn(plan, ids, steps=100):
  """Parameters of a LLaDA that know one sentence."""
  rate = optax.adam(1e-2)
  tokens = jnp.asarray(np.tile(ids, (8, 1)))
  rows = jnp.arange(8)

  def loss(params, key):
    logits = lambda hidden: plan.module.apply({'params': params}, hidden)
    return corruption.diffusion_loss(
      key, rows, 8, tokens, logits, plan.mask, 'unweighted'
    ).loss.mean()

  @jax.jit
  def train(key):
    def step(carry, key):
      params, state = carry
      change, state = rate.update(jax.grad(loss)(params, key), state)
      return (optax.apply_updates(params, change), state), ()

    params = plan.module.init(key, tokens)['params']
    carry = params, rate.init(params)
    return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][0]

  return train(jax.random.key(0))


def put(folder, kind, params, **changes):
  """A checkpoint with these parameters, and biases of 0."""
  made.write(folder, kind, 'tiny', dtype='float32')
  plan, _, config = huggingface.survey(folder)
  like = huggingface.shapes(plan)
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  flat = {path: flat.get(path, np.zeros(like[path].shape)) for path in like}
  rest = {file: file.read_bytes() for file in folder.glob('tokenizer*')}
  shutil.rmtree(folder)
  params = flax.traverse_util.unflatten_dict(flat, sep='/')
  huggingface.export(folder, plan, params, config | changes)
  for file, data in rest.items():
    file.write_bytes(data)
  return folder


@pytest.fixture(scope='module')
def params(tmp_path_factory):
  """Weights of a LLaDA that know the sentence: in place, mask 259."""
  folder = tmp_path_factory.mktemp('made') / 'x'
  made.write(folder, 'llada', 'tiny', dtype='float32')
  plan, _, _ = huggingface.survey(folder)
  assert plan.mask == 259 and not plan.shifted
  text = vocabulary.from_folder(folder, plan.vocab, plan.mask)
  return learn(plan, text.encode(mask_check.SENTENCE))


def said(folder, capsys, **how):
  result = describe.run(str(folder), check=True, **how)
  return result, ' '.join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_truth_wins(params, tmp_path, capsys):
  result, text = said(put(tmp_path / 'x', 'llada', params), capsys)
  best = result['best']
  assert best.own and best.nats.mean() < 2
  assert (best.mask, best.name, best.shifted) == (259, '<|mdm_mask|>', False)
  assert "the model's own mask and shift are the best" in text
  assert 'WARNING' not in text


def test_a_mask_id_that_is_wrong_is_found(params, tmp_path, capsys):
  lie = put(tmp_path / 'x', 'llada', params, mask_token_id=258)
  result, text = said(lie, capsys)
  assert result['best'].mask == 259 and not result['best'].own
  assert 'WARNING: mask id 259 <|mdm_mask|> would fit better' in text


def test_a_shift_that_is_wrong_is_found(params, tmp_path, capsys):
  lie = put(
    tmp_path / 'x', 'dream', params, rope_theta=500000.0, rms_norm_eps=1e-5
  )
  result, text = said(lie, capsys)
  assert not result['best'].shifted and result['best'].mask == 259
  assert 'WARNING: outputs that are not shifted would fit better' in text


def test_a_config_that_the_files_contradict(tmp_path):
  """A forward pass of its sizes was compiled before anybody looked."""
  made.write(tmp_path / 'x', 'llada', 'tiny')
  file = tmp_path / 'x' / 'config.json'
  file.write_text(file.read_text().replace(
    '"mlp_hidden_size": 128', f'"mlp_hidden_size": {2**30}'
  ))
  with pytest.raises(ValueError, match='the files do not belong to this conf'):
    describe.run(str(tmp_path / 'x'), load=False)


def test_what_is_said_before_weights_are_read(tmp_path, capsys, monkeypatch):
  made.write(tmp_path / 'x', 'dream', 'tiny')

  def never(*_):
    raise AssertionError('weights were read')

  monkeypatch.setattr(describe.checkpoints, 'load', never)
  assert describe.run(str(tmp_path / 'x'), load=False) == {}
  text = capsys.readouterr().out
  for word in (
    'Dream: 2 layers of width 64, 4 heads (2 of keys), 262 tokens',
    '0.1 M parameters, bfloat16; canvases of up to 4,096 positions',
    'outputs shifted; a tokenizer, a chat template', 'mask 259',
    'offers samplers: KV cache', '128 bytes of features',
    '256 bytes of KV cache', 'a pass of 8 rows of 1,024 positions',
  ):
    assert word in text, word
  assert max(map(len, text.splitlines())) <= 80


def test_a_model_that_ships(capsys):
  result = describe.run('sudoku')
  text = capsys.readouterr().out
  assert result['parameters'] == 85776 and '0.09 M parameters' in text
  assert 'sudoku: 3 layers of width 48' in text
  with pytest.raises(ValueError, match='--text: character'):
    describe.run('sudoku', check=True)


def test_random_weights_are_called_untrained(tmp_path, capsys):
  made.write(tmp_path / 'x', 'llada', 'tiny')
  _, text = said(tmp_path / 'x', capsys)
  assert 'nothing is much better than chance' in text
  assert not re.search('WARNING', text)


def test_sizes():
  assert [describe.sized(x) for x in (0, 1023, 1536, 2**21, 3 * 2**40)] == [
    '0 bytes', '1023 bytes', '1.5 KiB', '2.0 MiB', '3072.0 GiB'
  ]
