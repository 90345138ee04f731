"""Models that write in blocks, or have experts: LLaDA2, SDAR, Fast-dLLM v2, ...

  python -m punt_jax.cli.generate --config=configs/block.py:sdar --model=DIR \\
      --prompt='Why is the sky blue?'

That is PUNT with our settings, for a chat; a folder gets those of its family
without being told. Families are llada2, sdar, fast_dllm, nemotron,
dream_reasoner, stable_diffcoder, llada_moe, rnd1 and a2d. Blocks are the
model's own: where its config.json does not say how long they are, give
--model_block_length. What its authors published are presets:

  ... --config=configs/block.py:sdar:greedy --input=gsm8k.jsonl --workdir=...

punt_jax/generation/presets.py says where each is from, what scores they report
with it, and where ours is another. --config.sampler.name=punt puts PUNT in the
place of their rule. Where all differ from the authors' code:

* A row stops at its end token, whatever the others do; the text before it is
  the same.
* What is shown ends there, too; blocks behind it are never begun.
* LLaDA2.1 also edits tokens that it has written (not implemented): ours is the
  loop without that.

No published weights have been run with this file.
"""

from punt_jax.cli import families


def get_config(name='llada2'):
  """The config of 'sdar', 'sdar:greedy', ...: see presets.PUBLISHED."""
  return families.preset(name)
