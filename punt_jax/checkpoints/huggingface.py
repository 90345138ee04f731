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
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding

from punt_jax import checks, files, jsonl, kv_cache
from punt_jax import denoiser as wrappers
from punt_jax.checkpoints import special_tokens, tensors
from punt_jax.models import bert, dit, families, sharding
from punt_jax.models.layout import STACKED, Layout
from punt_jax.types import Denoiser, FilePath, Tree

ARCHITECTURES = {  # model_type in config.json
  'bert': bert.layout,
  'dream': families.dream,
  'llada': families.llada,
  'mdlm': dit.layout,
  'roberta': bert.layout,
}
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
  r'task_specific_params|use_bfloat16|pad_token|language|license|card'
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
  kind = config.get('model_type')
  if str(kind).lower() not in ARCHITECTURES:
    raise ValueError(
      f'config.json: model_type {kind!r:.40} is not implemented, only'
      f' {", ".join(sorted(ARCHITECTURES))}'
    )
  config = Read(config)
  plan = ARCHITECTURES[str(kind).lower()](config)
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


def denoiser(plan: Layout, params: Tree, window: int | None = None) -> Denoiser:
  """What a sampler sees of a loaded model.

  The network is shown the checkpoint's own mask id for V, a canvas may hold
  either; if that id lies inside the vocabulary its probability is 0.

  Args:
    plan: Layout.
    params: its parameters, traced or not.
    window: with samplers.blocks of at most this length, questions compute so
      many positions and remember the rest (kv_cache.from_windows).

  Raises:
    ValueError: a window for an architecture without a KV cache.
  """
  apply = lambda method, *arrays: plan.module.apply(
    {'params': params}, *arrays, method=method
  )
  features = functools.partial(apply, 'features')
  head = functools.partial(apply, 'head')
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
) -> tuple[Layout, tensors.Tensors, dict[str, Any]]:
  """(Layout, tensors, config) of a checkpoint directory; reads no weights.

  The files hold the tensors that the config asks for, in their shapes.

  Arguments and errors as of `load`.
  """
  config = read_config(folder)
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
  if dtype is None:
    kinds = {kind for _, kind in stored.shapes.values()}
    dtype = 'bfloat16' if kinds == {'bfloat16'} else 'float32'
  checks.known('dtype', dtype, ('bfloat16', 'float32'))
  plan = plan._replace(module=plan.module.clone(dtype=dtype))
  _slots(plan, shapes(plan), stored)
  return plan, stored, config


def load(
  folder: FilePath, dtype: str | None = None, mesh: Mesh | None = None,
  ignore: Sequence[str] = (),
) -> tuple[Layout, Tree, dict[str, Any]]:
  """(Layout, parameters, config) of a checkpoint directory.

  A mask_token_id that config.json lacks is the tokenizer's, if it has one.

  Args:
    folder: with config.json and safetensors files.
    dtype: of weights and matrix products, 'bfloat16' or 'float32'; None for
      that of the files ('float32' unless all are bfloat16). Logits and scores
      are float32 of either; but features in bfloat16 are rounded to 8 bits,
      and sums in another order round otherwise: what a row is told depends on
      the shape of its batch and on its padding. In float32 its text does not.
    mesh: places the parameters by models.sharding; None for one device.
    ignore: see `layout`.

  Raises:
    ValueError: one sentence: a config or file that is damaged, a tensor that
      is missing, unknown, of another shape, not floating-point, not finite, or
      a second and different copy.
  """
  plan, stored, config = survey(folder, dtype, ignore)
  like = shapes(plan)
  slots = _slots(plan, like, stored)
  _compare(plan.copies, stored)
  spec = functools.partial(sharding.spec, plan.module, mesh=mesh)
  params = {
    path: jnp.zeros(x.shape, x.dtype, device=spec(path, x.shape))
    for path, x in like.items()
  }
  for name in stored.shapes:
    if name not in slots:
      continue
    path, layer, transpose = slots[name]
    tensor = tensors.weight(stored, name)
    place = spec(path, like[path].shape)
    if isinstance(place, NamedSharding):
      place = sharding.of_tensor(place, layer is not None, transpose)
    tensor = jax.make_array_from_callback(
      tensor.shape, place, tensor.__getitem__
    )
    params[path], finite = _put(params[path], tensor, layer, transpose)
    if not finite:  # this waits: one tensor at a time is on its way
      raise tensors.not_finite(stored, name)
  return plan, traverse_util.unflatten_dict(params, sep='/'), config


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

  def each():
    for path, source in plan.sources.items():
      for layer, name in enumerate(source.names):
        stacked = path.startswith(STACKED)
        tensor = np.asarray(flat[path][layer] if stacked else flat[path])
        if not np.isfinite(tensor).all():
          raise ValueError(f'the parameter {path} holds NaN or infinity')
        tensor = tensor.T if source.transpose else tensor
        yield name, np.ascontiguousarray(tensor)

  tensors.vacant(folder)
  with files.new_folder(folder) as part:
    tensors.write_tensors(part, each(), shard_bytes=shard_bytes)
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


def _slots(plan, like, stored):
  """{tensor: (parameter, layer or None, transpose)}, names and shapes checked.

  Raises:
    ValueError: one sentence naming the first tensor that does not fit.
  """
  slots = {}
  for path, source in plan.sources.items():
    stacked = path.startswith(STACKED)
    shape = like[path].shape[stacked:]
    shape = shape[::-1] if source.transpose else shape
    for layer, name in enumerate(source.names):
      slots[name] = path, layer if stacked else None, source.transpose
      found = stored.shapes.get(name, (None,))[0]
      if found is None or tuple(found) != shape:
        said = 'is missing' if found is None else f'has shape {tuple(found)}'
        raise ValueError(
          f'{stored.where}: the tensor {name} {said:.200}, config.json asks for'
          f' {shape}: the files do not belong to this config'
        )
  ignored = re.compile('|'.join(plan.ignored) or r'(?!)')
  for name in stored.shapes:
    known = name in slots or name in plan.copies
    if not known and not ignored.fullmatch(name):
      raise ValueError(
        f'{stored.where}: the tensor {name:.80} has no place in the network'
        ' that config.json describes: the files do not belong to this config'
      )
  return slots


@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def _put(param, tensor, layer, transpose):
  """A tensor into its parameter, in place -> (parameter, all finite)."""
  tensor = (tensor.T if transpose else tensor).astype(param.dtype)
  finite = jnp.isfinite(tensor).all()
  if layer is not None:
    update = jax.lax.dynamic_update_index_in_dim
    tensor = update(param, tensor, layer, 0)
  return tensor, finite
