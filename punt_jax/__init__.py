"""Sampling from masked diffusion models in JAX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from punt_jax import decode, oracles, parallel, samplers, schedules, select
from punt_jax.api import compile, sample, step, stream, watch
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

if TYPE_CHECKING:
  from punt_jax import checkpoints, generation, metrics, models
  from punt_jax.checkpoints import Pretrained, load
  from punt_jax.generation.texts import generate

__version__ = '0.1.0'

# Imported when they are first asked for: flax and what it needs take a second.
_ROOMS = ('checkpoints', 'generation', 'metrics', 'models')
_LATER = {
  'Pretrained': 'punt_jax.checkpoints',
  'load': 'punt_jax.checkpoints',
  'generate': 'punt_jax.generation.texts',
}


def __getattr__(name: str) -> Any:
  if name in _ROOMS:
    return import_module(f'punt_jax.{name}')
  if name in _LATER:
    return getattr(import_module(_LATER[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})


__all__ = [
  'Answer',
  'Canvas',
  'Decoded',
  'Denoiser',
  'DraftDistribution',
  'Memo',
  'Meter',
  'Move',
  'Pretrained',
  'Sampler',
  'Traits',
  'View',
  'ban',
  'bias',
  'checkpoints',
  'compile',
  'decode',
  'from_features',
  'from_logits',
  'from_rule',
  'generate',
  'generation',
  'judge_drafts',
  'load',
  'metrics',
  'models',
  'oracles',
  'parallel',
  'sample',
  'samplers',
  'schedules',
  'select',
  'shift_right',
  'step',
  'stream',
  'temper',
  'top_p',
  'watch',
]
