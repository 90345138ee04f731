"""Dream 7B (https://arxiv.org/abs/2508.15487), Base and Instruct.

  python -m punt_jax.cli.generate --config=configs/dream.py --model=DIR \\
      --prompt='Why is the sky blue?'

That is PUNT with our settings, for a chat. The authors' settings of each
benchmark (eval and eval_instruct in DreamLM/Dream) are presets:

  ... --config=configs/dream.py:instruct_gsm8k --input=gsm8k.jsonl --workdir=...

They write one token per forward pass, that of the least entropy first, on one
canvas. Entropies are those of the distribution that drafts come from, after
temperature and top-p (judged); at temperature 0 of the one before the argmax.
--config.sampler.name=punt puts PUNT in the place of that rule; use
--config.judged=False with it, as our own settings do: a distribution cut by
top-p has divergences without bound. Where this differs from the authors' code:

* Theirs counts tokens per step by int(masked (1 - s / t)), which with as many
  steps as tokens writes none in the first step and two in the last.
* The presets at temperature 0 (base_gsm8k, base_math, base_bbh) take entropies
  of all of the distribution, theirs of its top 0.95 (--config.top_p=0.95
  --config.judged). Ties, which cost Dream most of its accuracy there, are
  rare: scores are float32, and the earlier position wins.
* Rows stop at their end token; the text before it is the same.

No published weights have been run with this file.
"""

from punt_jax.cli import families


def get_config(name='punt'):
  """The config called `name`: 'punt' or one of presets.DREAM."""
  return families.dream(name)
