"""The command; see __init__.py."""

from punt_jax.cli import evaluate

if __name__ == '__main__':
  evaluate.main()
