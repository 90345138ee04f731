"""From configs to plain values."""

import pytest

from punt_jax.cli import configs


@pytest.mark.parametrize('name', ['runs/llada', './llada', '~llada', '..'])
def test_a_path_to_nothing_is_no_name(name, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  if name == '..':
    name = '../..' + str(tmp_path / 'none')
  config = configs.defaults()
  for config.model in (name, 'llada'):
    for config.group in (1, 2):
      with pytest.raises(ValueError, match='^there is no file or folder '):
        configs.load(config)


def test_the_sampler_of_a_config():
  config = configs.defaults()
  config.sampler.name = 'top_k'
  config.sampler.k = 3.0  # the rest is that of config.samplers
  config.block_length = 8
  assert configs.one(config).settings() == {
    'k': 3.0, 'block_length': 8, 'score': 'draft'
  }
  config.sampler.name = None
  with pytest.raises(ValueError, match='say which sampler writes'):
    configs.one(config)
