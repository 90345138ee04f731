"""The demo: the shipped Shakespeare model, PUNT and its baselines.

  python -m punt_jax.cli.demo --config=configs/demo.py --workdir=runs/demo

Two CPU cores: some 70 s, half of it compilation. PUNT fills a canvas with 45
forward passes, where one by one takes 128 and influence 12, and scores 2.02 +-
0.04 bits per character by the model itself; influence 1.99, one by one 1.77;
uniform 2.07, halton 1.97, top_k 2.75, entropy_bound 3.54, threshold 3.35, at
about PUNT's cost (jax 0.10.2).

One sampler, with any of its hyperparameters (unset ones are taken from
config.samplers):

  ... --config.sampler.name=punt --config.sampler.epsilon=0.05

--config.samplers.top_k.k=2 changes a value of the list below,
--config.block_length=32 makes all of it write in blocks, and
--config.prompt='To __ or not' is filled instead.
"""

import ml_collections

from punt_jax.cli import configs

# 128 characters, as long as the canvas.
PROMPT = """\
ROMEO:
What ______ is this that ______ upon the night,
____________________________ so fair?

JULIET:
__________________________"""
FILM = ('punt', 'one_by_one')


def get_config():
  """Plain values."""
  config = ml_collections.ConfigDict()
  config.model = 'shakespeare'  # or the path of a file of train.export
  config.prompt = PROMPT  # _ is a blank to fill, \n a line break
  config.rows = 4
  config.length = 128
  config.temperature = 0.5  # of the drafts; tests and scores use 1
  config.top_p = 1.0
  config.block_length = 0  # of samplers that do not say; 0: all at once
  config.seed = 0
  config.draws = 8  # masks per row for the score
  config.warm_up = 4  # canvases from which `influence` learns its table
  config.film = FILM
  # Forward passes per row near PUNT's, but for one_by_one, the reference,
  # and influence, which does not need them.
  config.samplers = ml_collections.ConfigDict()
  config.samplers.punt = dict(epsilon=0.2)
  config.samplers.influence = dict(kappa=0.03)
  config.samplers.one_by_one = dict()
  config.samplers.top_k = dict(k=3)
  config.samplers.uniform = dict(k=3)
  config.samplers.maskgit = dict(steps=46)
  config.samplers.entropy_bound = dict(gamma=5.0)
  config.samplers.dilated = dict(base=2.0, block_length=8)
  config.samplers.halton = dict(steps=46)
  config.samplers.threshold = dict(tau=0.2)
  config.samplers.factor = dict(f=3.3)
  config.sampler = configs.placeholders()
  return config
