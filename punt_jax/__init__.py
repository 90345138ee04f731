"""Sampling from masked diffusion models in JAX."""

from punt_jax import decode, oracles, samplers, schedules, select
from punt_jax.api import compile, step, watch
from punt_jax.denoiser import (
  ban,
  bias,
  from_features,
  from_logits,
  judge_drafts,
  shift_right,
  temper,
  top_p,
)
from punt_jax.sampler import from_rule
from punt_jax.types import (
  Answer,
  Canvas,
  Decoded,
  Denoiser,
  DraftDistribution,
  Memo,
  Meter,
  Move,
  Sampler,
  Traits,
  View,
)

__version__ = '0.1.0'

__all__ = [
  'Answer',
  'Canvas',
  'Decoded',
  'Denoiser',
  'DraftDistribution',
  'Memo',
  'Meter',
  'Move',
  'Sampler',
  'Traits',
  'View',
  'ban',
  'bias',
  'compile',
  'decode',
  'from_features',
  'from_logits',
  'from_rule',
  'judge_drafts',
  'oracles',
  'samplers',
  'schedules',
  'select',
  'shift_right',
  'step',
  'temper',
  'top_p',
  'watch',
]
