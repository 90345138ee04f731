"""MDLM (https://arxiv.org/abs/2406.07524): text out of nothing.

  python -m punt_jax.cli.generate --config=configs/mdlm.py --model=DIR \\
      --prompt=''

PUNT fills a canvas of 1,024 tokens at temperature 1. The authors' sampler is
the preset `ancestral`, 1,000 time steps (--config=configs/mdlm.py:ancestral):
each of them writes each masked position with the same probability, and steps
that write nothing cost nothing. PUNT replaces that choice of positions.

A text may hold several documents, with <|endoftext|> between them, so nothing
stops at it; what is shown ends at the first.

The published mdlm-owt has neither a tokenizer nor an end token: copy GPT-2's
tokenizer.json into the folder, and add "eos_token_id": 50256 to config.json;
without that id everything is shown.

No published weights have been run with this file.
"""

from punt_jax.cli import families


def get_config(name='punt'):
  """The config called `name`: 'punt' or 'ancestral'."""
  return families.mdlm(name)
