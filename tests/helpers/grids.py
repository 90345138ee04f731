"""What the tests of meshes share: small models, and how they are decoded."""

import jax

from punt_jax import samplers
from punt_jax.checkpoints import huggingface

V = 512  # as many as the readout has blocks, so that it is split
HYPERPARAMS = dict(punt=0.002, threshold=0.05)


def plan_of(config, dtype='float32'):
  plan = huggingface.layout(config)
  return plan._replace(module=plan.module.clone(dtype=dtype))


def shapes_of(plan):
  tokens = jax.ShapeDtypeStruct((1, 2), 'int32')
  init = jax.eval_shape(plan.module.init, jax.random.key(0), tokens)
  return init['params']


def build_for(plan, sampler, window):
  """sampler is a name; the hyperparameter is its first argument.

  A model that is causal over blocks writes in its own.
  """
  length = getattr(plan.module, 'block_length', 0) if plan else 0

  def build(params, hyperparams):
    inner = getattr(samplers, sampler)(hyperparams[sampler])
    inner = samplers.blocks(inner, 8, refresh=2) if window else inner
    inner = samplers.blocks(inner, length, aligned=True) if length else inner
    return huggingface.denoiser(plan, params, window=window), inner

  return build
