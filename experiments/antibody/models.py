"""Two masked language models of antibodies, from the wheels they came in.

AntiBERTy (Ruffolo et al., https://arxiv.org/abs/2112.07782; BERT, 8 x 512, both
chains) is in antiberty 0.1.3, Sapiens (Prihoda et al., 2022, mAbs 14, 2020203;
RoBERTa, 4 x 128, a model per chain) in sapiens 1.0.5, both MIT:

  pip download --no-deps antiberty==0.1.3 sapiens==1.0.5

The wheels are read, not installed: nothing of theirs is imported or run.
`write` turns them into directories that checkpoints.load reads. Antibodies are
rows `begin residues end` of token ids; see `encode`.
"""

import json
import pathlib
import re
import tempfile
import zipfile
from typing import Any, NamedTuple

import flax
import numpy as np

from punt_jax import files
from punt_jax.checkpoints import tensors, torch_files
from punt_jax.models import bert
from punt_jax.models.layout import STACKED

RESIDUES = 'ACDEFGHIKLMNPQRSTVWY'


class Checkpoint(NamedTuple):
  """What a checkpoint directory would hold."""

  config: dict  # as config.json
  arrays: dict  # name in the transformers library -> array
  vocabulary: tuple  # of strings; the position of one is its id


class Antibody(NamedTuple):
  """A model and its vocabulary."""

  module: Any
  params: Any
  vocabulary: tuple  # of strings; the position of one is its id
  mask: int  # ids
  begin: int
  end: int
  length: int  # longest row, begin and end included


def antiberty(wheel):
  """AntiBERTy's checkpoint, from the path of its wheel.

  Raises:
    ValueError: one sentence, if this is not that wheel.
  """
  folder = 'antiberty/trained_models/'
  member = folder + 'AntiBERTy_md_smooth/'
  vocabulary = tuple(_text(wheel, f'{folder}vocab.txt').split())
  config = json.loads(_text(wheel, f'{member}config.json'))
  config['mask_token_id'] = vocabulary.index('[MASK]')
  arrays = _weights(wheel, f'{member}pytorch_model.bin')
  return Checkpoint(config, arrays, vocabulary)


def sapiens(wheel, chain='h'):
  """The Sapiens checkpoint of the heavy ('h') or light ('l') chain."""
  if chain not in ('h', 'l'):
    raise ValueError(f'chain {chain!r} must be h (heavy) or l (light)')
  folder = 'sapiens/models/v1/'
  letters = [
    line.split()[0] for line in _text(wheel, f'{folder}dict.txt').splitlines()
  ]
  vocabulary = ('<s>', '<pad>', '</s>', '<unk>', *letters, '<mask>')
  arrays = fairseq_names(_weights(wheel, f'{folder}checkpoint_v{chain}.pt'))
  config = dict(
    model_type='roberta',
    vocab_size=len(vocabulary),
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=8,
    intermediate_size=256,
    max_position_embeddings=len(
      arrays['roberta.embeddings.position_embeddings.weight']
    ),
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    hidden_act='gelu',
    pad_token_id=vocabulary.index('<pad>'),
    mask_token_id=vocabulary.index('<mask>'),
  )
  return Checkpoint(config, arrays, vocabulary)


def fairseq_names(arrays):
  """fairseq's RoBERTa under the names of the transformers library.

  Args:
    arrays: {name: array}; `decoder.sentence_encoder.*` and
      `decoder.lm_head.*`, perhaps behind `model.`. Others are dropped.

  Returns:
    {name: array}, with a table of token types that is zero: fairseq has none.
  """
  swaps = (
    (r'(model\.)?decoder\.sentence_encoder\.', 'roberta.'),
    (r'(model\.)?decoder\.lm_head\.', 'lm_head.'),
    (r'^roberta\.embed_tokens\.', 'roberta.embeddings.word_embeddings.'),
    (r'^roberta\.embed_positions\.',
     'roberta.embeddings.position_embeddings.'),
    (r'^roberta\.emb_layer_norm\.', 'roberta.embeddings.LayerNorm.'),
    (r'^roberta\.layers\.', 'roberta.encoder.layer.'),
    (r'\.self_attn\.([qkv])_proj\.', r'.attention.self.\1.'),
    (r'\.self\.q\.', '.self.query.'),
    (r'\.self\.k\.', '.self.key.'),
    (r'\.self\.v\.', '.self.value.'),
    (r'\.self_attn\.out_proj\.', '.attention.output.dense.'),
    (r'\.self_attn_layer_norm\.', '.attention.output.LayerNorm.'),
    (r'\.fc1\.', '.intermediate.dense.'),
    (r'\.fc2\.', '.output.dense.'),
    (r'\.final_layer_norm\.', '.output.LayerNorm.'),
    (r'^lm_head\.weight$', 'lm_head.decoder.weight'),
  )
  found = {}
  for name, array in arrays.items():
    if re.match(r'(model\.)?decoder\.(sentence_encoder|lm_head)\.', name):
      for old, new in swaps:
        name = re.sub(old, new, name)
      found[name] = array
  words = found['roberta.embeddings.word_embeddings.weight']
  kinds = np.zeros_like(words[:1])
  return found | {'roberta.embeddings.token_type_embeddings.weight': kinds}


def build(checkpoint):
  """The flax module and its parameters, float32: an Antibody."""
  layout = bert.layout(checkpoint.config)
  flat = {}
  for path, source in layout.sources.items():
    parts = [checkpoint.arrays[name] for name in source.names]
    parts = [part.T if source.transpose else part for part in parts]
    stacked = path.startswith(STACKED)
    flat[path] = np.stack(parts) if stacked else parts[0]
  marks = ('[MASK]', '[CLS]', '[SEP]'), ('<mask>', '<s>', '</s>')
  roberta = '<mask>' in checkpoint.vocabulary
  ids = (checkpoint.vocabulary.index(mark) for mark in marks[roberta])
  return Antibody(
    layout.module.clone(dtype='float32'),
    flax.traverse_util.unflatten_dict(flat, sep='/'),
    checkpoint.vocabulary, *ids, layout.length,
  )


def write(checkpoint, folder):
  """Writes a directory that checkpoints.load reads: one token per residue."""
  special = [
    dict(
      id=token, content=word, special=True, normalized=False, lstrip=False,
      rstrip=False, single_word=False,
    )
    for token, word in enumerate(checkpoint.vocabulary) if len(word) > 1
  ]
  model = dict(
    type='WordLevel',
    vocab={word: token for token, word in enumerate(checkpoint.vocabulary)},
    unk_token=next(w for w in checkpoint.vocabulary if 'unk' in w.lower()),
  )
  tokenizer = dict(
    version='1.0', truncation=None, padding=None, added_tokens=special,
    normalizer=None, post_processor=None, decoder=dict(type='Fuse'),
    pre_tokenizer=dict(
      type='Split', pattern=dict(Regex='.'), behavior='Isolated', invert=False
    ),
    model=model,
  )
  tensors.write_tensors(folder, checkpoint.arrays.items())
  for name, value in (
    ('config.json', checkpoint.config), ('tokenizer.json', tokenizer)
  ):
    text = json.dumps(value, indent=2) + '\n'
    files.write(pathlib.Path(folder, name), text)


def encode(model, residues):
  """'EVQL_V' -> (n + 2,) int32 with begin and end; `_` is MASK."""
  table = {letter: model.vocabulary.index(letter) for letter in RESIDUES}
  table['_'] = model.mask
  unknown = sorted(set(residues) - set(table))
  if unknown:
    raise ValueError(
      f'{unknown[0]!r} is not a residue: use {RESIDUES} and _ for what is open'
    )
  ids = [model.begin, *(table[c] for c in residues), model.end]
  return np.array(ids, np.int32)


def _text(wheel, member):
  return _read(wheel, member).decode()


def _weights(wheel, member):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, pathlib.PurePosixPath(member).name)
    files.write(path, _read(wheel, member))
    return torch_files.read_torch(path)


def _read(wheel, member):
  """The bytes of one file of a wheel."""
  try:
    with zipfile.ZipFile(wheel) as archive:
      return archive.read(member)
  except (OSError, KeyError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{wheel} cannot be read or has no {member} ({error}): fetch it with pip'
      ' download --no-deps antiberty==0.1.3 sapiens==1.0.5'
    ) from error
