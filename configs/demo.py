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

from punt_jax.cli import job


def get_config():
  """Plain values, those of job.py."""
  return job.defaults()
