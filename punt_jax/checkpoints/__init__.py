"""Trained models: those that ship, exported files, checkpoint directories."""

from punt_jax.checkpoints.pretrained import Pretrained, digest, load, names

__all__ = ['Pretrained', 'digest', 'load', 'names']
