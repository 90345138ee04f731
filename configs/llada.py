"""LLaDA 8B (https://arxiv.org/abs/2502.09992), Base, Instruct and 1.5.

  python -m punt_jax.cli.generate --config=configs/llada.py --model=DIR \\
      --prompt='Why is the sky blue?'

That is PUNT with our settings, for a chat. The authors' settings of each
benchmark (EVAL.md of ML-GSAI/LLaDA) are presets:

  ... --config=configs/llada.py:instruct_gsm8k --input=gsm8k.jsonl --workdir=...

They write one token per forward pass, the surest first, at temperature 0.
--config.sampler.name=punt puts PUNT in the place of that rule, and leaves
canvas, blocks and the treatment of end tokens as they are; so does any other
sampler, and --config.sampler.k=2 halves the steps. Where this differs from the
authors' code:

* Rows stop at their end token; the text before it is the same. To pay for all
  of the canvas, as they do: --config.stop=False.
* confidence_eos_eot_inf is eos_last: end tokens are written after all others.
  Theirs also takes the end tokens' mass out of the confidence of the others.
* logits_eos_inf is ban=('eos',), in scores too, as there.

No published weights have been run with this file.
"""

from punt_jax.cli import families


def get_config(name='punt'):
  """The config called `name`: 'punt' or one of presets.LLADA."""
  return families.llada(name)
