"""Benchmarks: the command of punt_jax/cli/evaluate, under its older name.

  python -m experiments.evaluate --config=configs/evaluate.py --model=DIR \\
    --data=DIR --workdir=runs/evaluate --allow_code_execution
"""

from punt_jax.cli import evaluate

if __name__ == '__main__':
  evaluate.main()
