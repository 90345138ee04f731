"""Checkpoints as Hugging Face directories: config.json and safetensors.

`load` reads tensor by tensor, straight to where each is placed: the host holds
one tensor and the pages of one file. Nothing of a checkpoint is executed.
"""

import functools
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from punt_jax import block_cache, checks, files, jsonl, kv_cache
from punt_jax import denoiser as wrappers
from punt_jax.checkpoints import parameters, special_tokens, tensors
from punt_jax.models import families
from punt_jax.models.families import body
from punt_jax.models.layout import Layout
from punt_jax.types import Denoiser, FilePath, Tree

IDLE = re.compile(  # keys of config.json that do not change the network
  r'_.*|architectures|auto_map|model_type|.*dropout.*|.*_token_id|id2label|'
  r'label2id|init_.*|initializer_.*|(torch_)?dtype|precision|use_cache|'
  r'transformers(\.js)?_.*|gradient_checkpointing|classifier_.*|'
  r'finetuning_task|flash_attention|use_flash.*|attn_implementation|'
  r'problem_type|'
  r'tokenizer_class|return_dict|output_.*|is_(encoder_)?decoder|'
  r'add_cross_attention|cross_attention_.*|pruned_heads|torchscript|'
  r'chunk_size_.*|pooler_.*|directionality|max_window_layers|'
  r'sliding_window|mlp_ratio|'
  r'rope_full_precision|alibi_bias_max|attention_layer_norm_with_affine|'
  r'task_specific_params|use_bfloat16|pad_token|language|license|card|'
  r'.*_loss(_.*)?|fuse_.*|dlm_.*|dp_varying_.*|num_diffusion_steps|'
  r'moe_backend|pretraining_tp|output_router_logits'
)


def read_config(folder: FilePath) -> dict[str, Any]:
  """config.json as a dict.

  Raises:
    ValueError: one sentence, if it is missing or no JSON object.
  """
  file = pathlib.Path(folder) / 'config.json'
  if files.size(file) is None:
    raise ValueError(
      f'{file} cannot be read (FileNotFoundError): a checkpoint directory has'
      ' one that says what the model is'
    )
  return jsonl.read_object(file)


class Read(dict):
  """A config that knows which of its keys were asked for."""

  def __init__(self, config: dict[str, Any]) -> None:
    super().__init__(config)
    self.asked = set()

  def get(self, key: str, default: Any = None) -> Any:
    """The value; the key counts as asked for."""
    self.asked.add(key)
    return super().get(key, default)


def layout(config: dict[str, Any], ignore: Sequence[str] = ()) -> Layout:
  """The module and the tensors that a config describes.

  Args:
    config: config.json as a dict.
    ignore: keys of it that are known not to change the network.

  Raises:
    ValueError: one sentence: an unknown architecture or key, or a setting
      that is missing, out of range or not implemented.
  """
  family, config = families.recognise(config), Read(config)
  plan = family(config)
  length, own = config.get('block_length'), block_length(plan)
  if length not in (None, own):
    raise ValueError(
      f'config.json: block_length is {length!r:.40}, but this model sees all'
      ' positions at once: leave it out'
    )
  strange = sorted(
    key for key in set(config) - config.asked - set(ignore)
    if not IDLE.fullmatch(key)
  )
  if strange:
    raise ValueError(
      f'config.json: what {strange[0]!r:.80} means is not known here: if it'
      f' does not change the network, load with ignore={tuple(strange)!r:.400}'
    )
  last = min(plan.vocab, plan.module.vocab - 1)
  if not 0 <= plan.mask <= last:
    raise ValueError(
      f'config.json: the mask id {plan.mask} lies outside 0 .. {last}'
    )
  return plan


def block_length(plan: Layout) -> int:
  """Positions of a block of a model that writes in blocks, else 0."""
  return getattr(plan.module, 'block_length', 0)


def offers(plan: Layout) -> frozenset[str]:
  """What `denoiser` can be asked for by name; see Pretrained.offers."""
  able = hasattr(plan.module, 'window') and not block_length(plan)
  return frozenset({'window'} if able else ())


def denoiser(
  plan: Layout, params: Tree, window: int | None = None, cached: bool = True
) -> Denoiser:
  """What a sampler sees of a loaded model.

  The network is shown the checkpoint's own mask id for V, a canvas may hold
  either; if that id lies inside the vocabulary its probability is 0.

  Args:
    plan: Layout.
    params: its parameters, traced or not.
    window: with samplers.blocks of at most this length, questions compute so
      many positions and remember the rest (kv_cache.from_windows).
    cached: whether a model that writes in blocks remembers what is before a
      block; if not, questions compute whole canvases.

  Raises:
    ValueError: a window for an architecture without a KV cache, or for one
      whose cache is exact and needs none.
  """
  apply = lambda method, *arrays: plan.module.apply(
    {'params': params}, *arrays, method=method
  )
  features = functools.partial(apply, 'features')
  head = functools.partial(apply, 'head')
  if length := block_length(plan):
    if window is not None:
      raise ValueError(
        f'this model writes in blocks of {length} positions and remembers what'
        ' is before them exactly: use it without a window'
      )
    return block_cache.from_blocks(
      functools.partial(apply, 'window'), head, plan.vocab, length,
      causal=plan.module.causal, anchored=plan.module.anchored,
      shifted=plan.shifted, mask=plan.mask, cached=cached,
    )
  if window is None:
    model = wrappers.from_features(features, head, plan.vocab, plan.mask)
  elif hasattr(plan.module, 'window'):
    model = kv_cache.from_windows(
      functools.partial(apply, 'prefill'), functools.partial(apply, 'window'),
      head, plan.vocab, window, before=plan.shifted, mask=plan.mask,
    )
  else:
    raise ValueError(
      f'{type(plan.module).__name__} has no KV cache: use it without a window'
    )
  return wrappers.shift_right(model) if plan.shifted else model


def survey(
  folder: FilePath, dtype: str | None = None, ignore: Sequence[str] = (),
  block_length: int | None = None, mask_id: int | None = None,
) -> tuple[Layout, tensors.Tensors, dict[str, Any]]:
  """(Layout, tensors, config) of a checkpoint directory; reads no weights.

  The files hold the tensors that the config asks for, in their shapes.

  Arguments and errors as of `load`.
  """
  config = read_config(folder)
  _tell(config, folder, 'block_length', block_length, body.BLOCK_KEYS)
  _tell(config, folder, 'mask_token_id', mask_id)
  if config.get('mask_token_id') is None:
    mask = special_tokens.mask(folder)
    if mask is not None:  # published BERTs keep it with the tokenizer
      config['mask_token_id'] = mask
  mask = special_tokens.mask(folder, guess=False)
  if mask not in (None, config.get('mask_token_id')):
    raise ValueError(
      f'{folder}: the mask_token of the tokenizer has the id {mask}, and in'
      f' config.json mask_token_id is {config["mask_token_id"]!r:.40}: correct'
      ' one of them'
    )
  plan = layout(config, ignore)
  stored = _modern(tensors.open_tensors(folder))
  plan = _merged(plan, stored)
  if dtype is None:
    like = shapes(plan._replace(module=plan.module.clone(dtype='bfloat16')))
    exact = {path for path, x in like.items() if x.dtype == np.float32}
    names = {x for path in exact for x in plan.sources[path].names}
    kinds = {
      kind for name, (_, kind) in stored.shapes.items() if name not in names
    }
    dtype = 'bfloat16' if kinds == {'bfloat16'} else 'float32'
  checks.known('dtype', dtype, ('bfloat16', 'float32'))
  plan = plan._replace(module=plan.module.clone(dtype=dtype))
  parameters.places(plan, shapes(plan), stored)
  return plan, stored, config


def _tell(config, folder, key, value, keys=()):
  """Writes an argument into a config that does not say it.

  Raises:
    ValueError: one sentence, if the config says something else.
  """
  if value is None:
    return
  checks.whole(key, value, 0)
  said = [name for name in keys or (key,) if config.get(name) is not None]
  for name in said:
    if config[name] != value:
      raise ValueError(
        f'{folder}: config.json says {name} = {config[name]!r:.40}, and the'
        f' argument is {value}: leave it out, or correct the file'
      )
  if not said:
    config[key] = int(value)


def load(
  folder: FilePath, dtype: str | None = None, mesh: Mesh | None = None,
  ignore: Sequence[str] = (), block_length: int | None = None,
  mask_id: int | None = None,
) -> tuple[Layout, Tree, dict[str, Any]]:
  """(Layout, parameters, config) of a checkpoint directory.

  A mask_token_id that config.json lacks is the tokenizer's, if it has one. What
  an argument or the tokenizer said is in the config that is returned, so that
  an export needs neither.

  Args:
    folder: with config.json and safetensors files.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'; None for
      that of the files ('float32' unless all are bfloat16). Logits and scores
      are float32 of either; but features in bfloat16 are rounded to 8 bits,
      and sums in another order round otherwise: what a row is told depends on
      the shape of its batch and on its padding. In float32 its text does not.
    mesh: places the parameters by models.sharding; None for one device.
    ignore: see `layout`.
    block_length: of a model that writes in blocks, if config.json does not say
      it; 0: it sees all positions at once.
    mask_id: the id of MASK, if neither config.json nor the tokenizer says it.

  Raises:
    ValueError: one sentence: a config or file that is damaged, an argument that
      contradicts it, a tensor that is missing, unknown, of another shape, not
      floating-point, not finite, or a second and different copy.
  """
  plan, stored, config = survey(folder, dtype, ignore, block_length, mask_id)
  _compare(plan.copies, stored)
  flat = parameters.read(plan, shapes(plan), stored, mesh)
  return plan, traverse_util.unflatten_dict(flat, sep='/'), config


def shapes(plan: Layout) -> dict[str, jax.ShapeDtypeStruct]:
  """{parameter: ShapeDtypeStruct} of a Layout's module."""
  return dict(_shapes(plan.module))


@functools.lru_cache(maxsize=32)
def _shapes(module):
  tokens = jax.ShapeDtypeStruct((1, 2), 'int32')
  tree = jax.eval_shape(module.init, jax.random.key(0), tokens)
  found: dict[str, Any] = traverse_util.flatten_dict(tree['params'], sep='/')
  return found


def export(
  folder: FilePath, plan: Layout, params: Tree, config: dict[str, Any],
  shard_bytes: int = 4 * 2**30,
) -> None:
  """Writes parameters as the directory that `load` reads, bit by bit.

  It gets its name when all is written.

  Args:
    folder: a new directory.
    plan: Layout.
    params: tree of parameters.
    config: dict for config.json.
    shard_bytes: most bytes of a file.

  Raises:
    ValueError: one sentence: the folder is not new, a parameter not finite.
  """
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
  tensors.vacant(folder)
  with files.new_folder(folder) as part:
    every = parameters.write(plan, flat)
    tensors.write_tensors(part, every, shard_bytes=shard_bytes)
    text = json.dumps(config, indent=2, sort_keys=True) + '\n'
    files.write(part / 'config.json', text)


def _modern(stored):
  """Tensors under today's names: LayerNorm's were once gamma and beta."""
  new = lambda name: re.sub(
    r'\.beta$', '.bias', re.sub(r'\.gamma$', '.weight', name)
  )
  old = {new(name): name for name in stored.shapes}
  if len(old) < len(stored.shapes):
    return stored
  shapes = {name: stored.shapes[old[name]] for name in old}
  return stored._replace(
    shapes=shapes, read=lambda name: stored.read(old[name])
  )


def _merged(plan, stored):
  """The Layout, with a tensor for all experts of a layer where it is so."""
  sources = {}
  for path, source in plan.sources.items():
    names = [  # experts.7.up_proj.weight -> experts.up_proj, each once
      re.sub(r'experts\.\d+\.(\w+)\.weight', r'experts.\1', name)
      for name in source.names
    ]
    one = source.axes == 2 and names[0] in stored.shapes
    names = tuple(dict.fromkeys(names))
    sources[path] = source._replace(names=names, axes=1) if one else source
  return plan._replace(sources=sources)


def _compare(copies, stored):
  """Refuses a second copy of a tied tensor that is not the same.

  Of two that differ transformers 4 takes one, transformers 5 both.

  Raises:
    ValueError: one sentence.
  """
  for copy, name in copies.items():
    if copy in stored.shapes and not np.array_equal(
      tensors.weight(stored, copy), tensors.weight(stored, name)
    ):
      raise ValueError(
        f'{stored.where}: config.json ties {copy} to {name}, and the files hold'
        ' both, with different values: which is meant is not known; remove one,'
        ' or set tie_word_embeddings (weight_tying) to false'
      )
