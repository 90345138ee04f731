"""Antibody models: fairseq's names, wheels that are none, and directories."""

import json
import zipfile

import jax
import numpy as np
import pytest

from experiments.antibody import models
from punt_jax.checkpoints import huggingface
from tests.helpers import parity

WORDS = ('<s>', '<pad>', '</s>', '<unk>', *models.RESIDUES, '<mask>')
CONFIG = parity.SMALL['roberta'] | dict(vocab_size=25, mask_token_id=24)


@pytest.fixture(scope='module')
def checkpoint():
  arrays = parity.arrays(huggingface.layout(CONFIG))
  return models.Checkpoint(CONFIG, arrays, WORDS)


def fairseq(arrays):
  """What fairseq would call these tensors, without the token types."""
  swaps = (
    ('roberta.embeddings.word_embeddings', 'embed_tokens'),
    ('roberta.embeddings.position_embeddings', 'embed_positions'),
    ('roberta.embeddings.LayerNorm', 'emb_layer_norm'),
    ('roberta.encoder.layer', 'layers'),
    ('attention.self.query', 'self_attn.q_proj'),
    ('attention.self.key', 'self_attn.k_proj'),
    ('attention.self.value', 'self_attn.v_proj'),
    ('attention.output.dense', 'self_attn.out_proj'),
    ('attention.output.LayerNorm', 'self_attn_layer_norm'),
    ('intermediate.dense', 'fc1'),
    ('output.dense', 'fc2'),
    ('output.LayerNorm', 'final_layer_norm'),
  )
  found = {}
  for name, array in arrays.items():
    if 'token_type' not in name:
      for old, new in swaps:
        name = name.replace(old, new)
      inside = '' if name.startswith('lm_head') else 'sentence_encoder.'
      found[f'model.decoder.{inside}{name}'] = array
  return found


def test_fairseq_names(checkpoint):
  there = fairseq(checkpoint.arrays)
  table = checkpoint.arrays['roberta.embeddings.word_embeddings.weight']
  there['model.decoder.lm_head.weight'] = table
  there['last_optimizer_state.state.0.momentum_buffer'] = table
  found = models.fairseq_names(there)
  kinds = found.pop('roberta.embeddings.token_type_embeddings.weight')
  assert kinds.shape == (1, 16) and not kinds.any()
  assert found.pop('lm_head.decoder.weight') is table
  wanted = {k: x for k, x in checkpoint.arrays.items() if 'token_ty' not in k}
  assert found.keys() == wanted.keys()
  assert all(found[name] is wanted[name] for name in wanted)


def test_directory_is_the_same_model(checkpoint, tmp_path):
  model = models.build(checkpoint)
  models.write(checkpoint, tmp_path / 'model')
  plan, params, config = huggingface.load(tmp_path / 'model')
  assert config == CONFIG and plan.mask == model.mask == 24
  jax.tree.map(np.testing.assert_array_equal, params, model.params)
  tokenizers = pytest.importorskip('tokenizers')
  file = str(tmp_path / 'model' / 'tokenizer.json')
  words = tokenizers.Tokenizer.from_file(file).encode('<s>EV<mask>Q</s>')
  assert words.ids == models.encode(model, 'EV_Q').tolist()
  assert words.ids == [0, 7, 21, 24, 17, 2]


def test_an_unknown_residue_is_named(checkpoint):
  model = models.build(checkpoint)
  with pytest.raises(ValueError, match="'X' is not a residue"):
    models.encode(model, 'EVX')


def test_other_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match='cannot be read or has no antiberty'):
    models.antiberty(tmp_path / 'absent.whl')
  with zipfile.ZipFile(tmp_path / 'other.whl', 'w') as archive:
    archive.writestr('a.json', json.dumps({}))
  with pytest.raises(ValueError, match='has no sapiens/models/v1/dict.txt'):
    models.sapiens(tmp_path / 'other.whl')
  with pytest.raises(ValueError, match='must be h .heavy. or l'):
    models.sapiens(tmp_path / 'other.whl', 'k')
