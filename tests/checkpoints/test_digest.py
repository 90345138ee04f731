"""What tells one model from another: its content, not its name."""

import json
import shutil

import jax
import numpy as np
import pytest

from punt_jax import checkpoints, parallel


def change(file, **values):
  card = json.loads(file.read_text())
  file.write_text(json.dumps(card | values))


def test_a_model_is_its_content_whatever_it_is_called(tmp_path):
  pytest.importorskip('tokenizers')
  from punt_jax.cli import random_checkpoint

  folder = tmp_path / 'one'
  random_checkpoint.write(folder, 'llada', 'tiny', dtype='float32')
  one = checkpoints.load(folder)
  first = checkpoints.digest(one)
  there = shutil.copytree(folder, tmp_path / 'two')
  assert checkpoints.digest(checkpoints.load(there)) == first
  everywhere = one._replace(params=parallel.everywhere(one.params))
  assert checkpoints.digest(everywhere) == first
  found = {first}
  # One bit of one weight, and every file that changes what is written.
  leaves, tree = jax.tree.flatten(one.params)
  leaves[-1] = np.array(leaves[-1])
  leaves[-1].reshape(-1).view(np.uint32)[0] ^= 1
  found.add(checkpoints.digest(
    one._replace(params=jax.tree.unflatten(tree, leaves))
  ))
  change(there / 'tokenizer_config.json', chat_template='{{ bos_token }}')
  found.add(checkpoints.digest(checkpoints.load(there)))
  change(there / 'tokenizer_config.json', bos_token='<|eot_id|>')
  found.add(checkpoints.digest(checkpoints.load(there)))
  change(there / 'config.json', rope_theta=123.0)
  found.add(checkpoints.digest(checkpoints.load(there)))
  found.add(checkpoints.digest(checkpoints.load(there, dtype='bfloat16')))
  change(there / 'tokenizer.json', normalizer={'type': 'NFC'})
  found.add(checkpoints.digest(checkpoints.load(there)))
  assert len(found) == 7


def test_every_model_has_one():
  shakespeare = checkpoints.load('shakespeare')
  assert checkpoints.digest(shakespeare) != checkpoints.digest(
    checkpoints.load('sudoku')
  )
  assert checkpoints.digest(shakespeare._replace(text=None))
