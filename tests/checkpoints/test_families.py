"""Families of decoders: what config.json says, what is refused, round trips.

The configs are those of the published checkpoints, as far as they are known:
what a network of them is can be told without weights.
"""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from punt_jax import checkpoints, parallel
from punt_jax.checkpoints import huggingface, parameters, tensors
from punt_jax.cli import random_checkpoint, random_configs
from punt_jax.models import layout, sharding
from punt_jax.models.moe import Settings
from punt_jax.models.rope import Rope, Yarn

DECODERS = [x for x in random_configs.SPECIAL if x not in ('mdlm', 'bert')]
LLADA2_MINI = dict(
  architectures=['LLaDA2MoeModelLM'], model_type='llada2_moe',
  attention_dropout=0.0, embedding_dropout=0.0, output_dropout=0.0,
  num_hidden_layers=20, hidden_size=2048, intermediate_size=5120,
  first_k_dense_replace=1, hidden_act='silu', max_position_embeddings=32768,
  moe_intermediate_size=512, norm_topk_prob=True, num_experts_per_tok=8,
  norm_head=False, norm_softmax=False, num_attention_heads=16, num_experts=256,
  num_key_value_heads=4, rope_theta=600000, rope_scaling=None,
  tie_word_embeddings=False, use_bias=False, use_rmsnorm=True,
  rms_norm_eps=1e-6, head_dim=128, num_shared_experts=1, use_qkv_bias=False,
  vocab_size=157184, rotary_dim=64, using_split_qkv_in_self_attention=False,
  router_dtype='fp32', moe_router_enable_expert_bias=True, n_group=8,
  routed_scaling_factor=2.5, topk_group=4, score_function='sigmoid',
  initializer_range=0.02, max_window_layers=28, output_router_logits=False,
  pad_token_id=156892, partial_rotary_factor=0.5, use_sliding_window=False,
  mask_token_id=156895, block_length=32,
)
QWEN = dict(
  attention_dropout=0.0, hidden_act='silu', initializer_range=0.02,
  max_window_layers=36, rms_norm_eps=1e-6, rope_scaling=None, rope_theta=1e6,
  sliding_window=None, use_cache=True, use_sliding_window=False,
  torch_dtype='bfloat16', transformers_version='4.52.0', vocab_size=151936,
)
QWEN3_8B = QWEN | dict(
  attention_bias=False, head_dim=128, hidden_size=4096, num_hidden_layers=36,
  intermediate_size=12288, max_position_embeddings=40960,
  num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
  mask_token_id=151669,
)
QWEN3_30B_A3B = QWEN3_8B | dict(
  hidden_size=2048, num_hidden_layers=48, intermediate_size=6144,
  num_key_value_heads=4, decoder_sparse_step=1, mlp_only_layers=[],
  moe_intermediate_size=768, norm_topk_prob=True, num_experts=128,
  num_experts_per_tok=8, output_router_logits=False, router_aux_loss_coef=0.001,
)
NEMOTRON_3B = dict(
  architectures=['NemotronLabsDiffusionModel'], ar_loss_weight=1.0,
  attention_bias=False, attention_dropout=0.0, attn_implementation='sdpa',
  block_size=32, bos_token_id=1, dlm_loss_weight=None, eos_token_id=11,
  dlm_paradigm='bidirectional', dp_varying_mask_ratio=False, head_dim=128,
  hidden_act='silu', hidden_size=3072, initializer_range=0.02,
  intermediate_size=9216, mask_token_id=100, max_position_embeddings=262144,
  mlp_bias=False, model_type='nemotron_labs_diffusion', num_attention_heads=32,
  num_hidden_layers=26, num_key_value_heads=8, rms_norm_eps=1e-5,
  rope_parameters=dict(
    beta_fast=32.0, beta_slow=1.0, factor=16.0, llama_4_scaling_beta=0.1,
    mscale=1.0, mscale_all_dim=1.0, original_max_position_embeddings=16384,
    rope_theta=1e6, rope_type='yarn',
  ),
  sliding_window=None, tie_word_embeddings=False, torch_dtype='bfloat16',
  transformers_version='5.0.0', use_cache=False, vocab_size=131072,
)
LLADA_MOE = dict(
  architectures=['LLaDAMoEModelLM'], model_type='llada', attention_bias=False,
  attention_dropout=0.0, clip_qkv=None, dense_intermediate_size=8192,
  eos_token_id=156892, expert_intermediate_size=1024, hidden_act='silu',
  hidden_size=2048, initializer_range=0.02, max_position_embeddings=8192,
  moe_layer_freq=[1] * 16, moe_router_enable_expert_bias=False,
  moe_router_score_function='softmax', norm_topk_prob=None,
  num_attention_heads=16, num_experts=64, num_experts_per_tok=8,
  num_hidden_layers=16, num_key_value_heads=16, output_router_logits=False,
  pad_token_id=156892, partial_rotary_factor=1, qk_layernorm=True,
  rms_norm_eps=1e-5, rope_scaling=None, rope_theta=50000,
  routed_scaling_factor=1, router_aux_loss_coef=0.01, router_num_group=None,
  router_topk_group=None, shared_expert_intermediate_size=None,
  tie_word_embeddings=False, vocab_size=157184, mask_token_id=156895,
)
SEED_CODER_8B = dict(
  attention_bias=False, attention_dropout=0.0, bos_token_id=0, eos_token_id=2,
  hidden_act='silu', hidden_size=4096, initializer_range=0.009882118,
  intermediate_size=14336, max_position_embeddings=8192, mlp_bias=False,
  model_type='llama', num_attention_heads=32, num_hidden_layers=32,
  num_key_value_heads=8, pad_token_id=1, pretraining_tp=1, rms_norm_eps=1e-6,
  rope_scaling=None, rope_theta=5e5, tie_word_embeddings=False,
  vocab_size=155136, mask_token_id=5,
)
QWEN3_MOE = Settings(
  experts=128, chosen=8, hidden=768, router='softmax', renormalize=True
)
PUBLISHED = {  # name: config, some attributes, whether outputs are shifted
  'LLaDA2.0-mini': (
    LLADA2_MINI, dict(
      layers=20, dense=1, heads=16, groups=4, size=128, hidden=5120,
      block_length=32, qk_norm=True, bias=False, tied=False, eps=1e-6,
      rope=Rope(600000.0, 0.5), causal=False, anchored=False,
      experts=Settings(256, 8, 512, 'sigmoid', True, 2.5, 8, 4, True, 512),
    ), False,
  ),
  'SDAR-8B-Chat': (
    QWEN3_8B | dict(
      architectures=['SDARForCausalLM'], model_type='sdar', block_length=4,
    ), dict(
      layers=36, groups=8, size=128, hidden=12288, qk_norm=True, bias=False,
      out_bias=False, block_length=4, experts=None, rope=Rope(1e6),
    ), False,
  ),
  'SDAR-30B-A3B-Chat': (
    QWEN3_30B_A3B | dict(
      architectures=['SDARMoeForCausalLM'], model_type='sdar_moe', block_size=4,
      fuse_cross_entropy=True,
    ), dict(block_length=4, experts=QWEN3_MOE, dense=0, groups=4), False,
  ),
  'Fast_dLLM_v2_7B': (
    QWEN | dict(
      architectures=['Fast_dLLM_QwenForCausalLM'], model_type='Fast_dLLM_Qwen',
      bd_size=32, hidden_size=3584, intermediate_size=18944,
      num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
      max_position_embeddings=32768, mask_token_id=151665, vocab_size=152064,
      tie_word_embeddings=False, layer_types=['full_attention'] * 28,
    ), dict(
      block_length=32, bias=True, out_bias=False, qk_norm=False, size=128,
    ), True,
  ),
  'Nemotron-Labs-Diffusion-3B': (
    NEMOTRON_3B, dict(
      block_length=32, causal=True, anchored=True, qk_norm=False, bias=False,
      rope=Rope(1e6, 1.0, Yarn(16.0, 16384), (0.1, 16384)),
    ), False,
  ),
  'Stable-DiffCoder-8B': (
    SEED_CODER_8B | dict(
      architectures=['StableDiffcoderForCausalLM'], block_length=4
    ), dict(block_length=4, qk_norm=False, bias=False, causal=False), False,
  ),
  'DreamReasoner-8B': (
    QWEN3_8B | dict(
      architectures=['DreamForCausalLM'], model_type='Dream', block_length=32
    ), dict(block_length=32, qk_norm=True, bias=False), False,
  ),
  'Dream-v0-7B': (
    QWEN | dict(
      architectures=['DreamModel'], model_type='Dream', hidden_size=3584,
      num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
      intermediate_size=18944, max_position_embeddings=131072,
      mask_token_id=151666, tie_word_embeddings=False, use_mrope=False,
    ), dict(block_length=0, bias=True, qk_norm=False), True,
  ),
  'RND1-Base-0910': (
    QWEN3_30B_A3B | dict(
      architectures=['RND1LM'], model_type='rnd1', is_causal=False,
      moe_backend='hf', num_diffusion_steps=256, rope_scaling=False,
      sliding_window=False,
    ), dict(block_length=0, qk_norm=True, experts=QWEN3_MOE), True,
  ),
  'LLaDA-MoE-7B-A1B': (
    LLADA_MOE, dict(
      block_length=0, qk_norm=True, dense=0, groups=16, rope=Rope(50000.0),
      experts=Settings(64, 8, 1024, 'softmax', False),
    ), False,
  ),
  'Qwen3-0.6B-diffusion-mdlm': (
    QWEN3_8B | dict(
      architectures=['A2DQwen3LMHeadModel'], model_type='a2d-qwen3',
      tie_word_embeddings=True, block_length=0, hidden_size=1024,
      layer_types=['full_attention'] * 36, dtype='bfloat16',
    ), dict(block_length=0, qk_norm=True, tied=True), False,
  ),
  'Qwen2.5-Coder-0.5B-diffusion-bd3lm': (
    QWEN | dict(
      architectures=['A2DQwen2LMHeadModel'], model_type='a2d-qwen2',
      block_length=32, hidden_size=896, intermediate_size=4864,
      num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
      max_position_embeddings=32768, tie_word_embeddings=True,
      mask_token_id=151665,
    ), dict(block_length=32, bias=True, qk_norm=False, size=64), False,
  ),
}


def without(config, *keys):
  return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_configs(name):
  config, wanted, shifted = PUBLISHED[name]
  plan = huggingface.layout(config)
  found = {key: getattr(plan.module, key) for key in wanted}
  assert found == wanted and plan.shifted == shifted
  assert plan.mask == config['mask_token_id'] < plan.vocab
  like = huggingface.shapes(plan)
  assert like.keys() == plan.sources.keys()
  # By model_type alone, where that says it.
  told = without(config, 'architectures')
  if name not in ('Stable-DiffCoder-8B',):
    assert huggingface.layout(told).module == plan.module


def test_names_and_shapes_of_llada2():
  plan = huggingface.layout(LLADA2_MINI)
  like = huggingface.shapes(plan)
  assert 16.2e9 < sum(x.size for x in like.values()) < 16.3e9
  found = layout.pieces(plan, like)
  shape = lambda name: layout.whole(found[name])
  at = 'model.layers.19.'
  assert shape(f'{at}attention.query_key_value.weight') == (3072, 2048)
  assert [part.shape[0] for part in found[
    f'{at}attention.query_key_value.weight'
  ]] == [2048, 512, 512]
  assert shape(f'{at}mlp.gate.weight') == (256, 2048)
  assert shape(f'{at}mlp.experts.255.down_proj.weight') == (2048, 512)
  assert shape(f'{at}mlp.shared_experts.up_proj.weight') == (512, 2048)
  assert like['blocks/experts/router/bias'].dtype == np.float32
  assert found[f'{at}mlp.experts.7.up_proj.weight'][0].index == (18, 7)
  assert f'{at}mlp.gate_proj.weight' not in found
  assert shape('model.layers.0.mlp.gate_proj.weight') == (5120, 2048)


MISSING = {  # name: what is taken away, and what must be said
  'SDAR-8B-Chat': ('block_length', r'load with block_length= \(SDAR: 4, or'),
  'LLaDA2.0-mini': ('block_length', r'block_length= \(LLaDA2.0 and 2.1: 32\)'),
  'Stable-DiffCoder-8B': ('mask_token_id', 'or load with mask_id='),
  'Qwen3-0.6B-diffusion-mdlm': (
    'block_length', 'Tiny-A2D: 0, all positions at once, for mdlm; 32 for bd3lm'
  ),
}


@pytest.mark.parametrize('name', MISSING)
def test_what_nobody_says_is_asked_for(name):
  key, said = MISSING[name]
  with pytest.raises(ValueError, match=said) as error:
    huggingface.layout(without(PUBLISHED[name][0], key))
  assert '\n' not in str(error.value)


QWEN3 = without(QWEN3_8B, 'mask_token_id')
REFUSED = {  # config, and what must be said
  'autoregressive': (
    QWEN3 | dict(architectures=['Qwen3ForCausalLM'], model_type='qwen3'),
    'qwen3 writes from left to right',
  ),
  'a plain llama': (
    SEED_CODER_8B | dict(architectures=['LlamaForCausalLM']),
    'llama writes from left to right',
  ),
  'DiffusionGemma': (
    dict(
      architectures=['DiffusionGemmaForBlockDiffusion'], text_config={},
      model_type='diffusion_gemma', vision_config={},
    ), 'DiffusionGemma has no MASK',
  ),
  'LFM2': (
    dict(architectures=['Lfm2ForBlockDiffusion'], model_type='lfm2'),
    'LFM2 has no MASK',
  ),
  'WeDLM': (
    QWEN3 | dict(architectures=['WeDLMForCausalLM'], model_type='wedlm'),
    'WeDLM puts known tokens in front',
  ),
  'SDAR-VL': (
    QWEN3 | dict(architectures=['SDARVLForConditionalGeneration'],
                 model_type='sdar_vl'), 'reads images or sound',
  ),
  'LLaDA-V': (
    dict(architectures=['LlavaLLaDAModelLM'], model_type='llava_llada'),
    'reads images',
  ),
  'MMaDA': (
    dict(architectures=['MMadaModelLM'], model_type='mmada'), 'reads images',
  ),
  'an encoder of images': (
    PUBLISHED['SDAR-8B-Chat'][0] | dict(vision_config={'depth': 2}),
    'reads images',
  ),
  'LLaDA2.0-Uni': (
    LLADA2_MINI | dict(image_token_offset=157184), 'reads images'
  ),
  'LLaDA2.2': (
    LLADA2_MINI | dict(delete_token_id=156930, split_token_id=156931),
    'LLaDA2.2 chooses experts for a whole block',
  ),
  'an unknown key': (
    LLADA2_MINI | dict(logit_cap=30.0), "'logit_cap' means is not known",
  ),
  'another router': (
    LLADA2_MINI | dict(score_function='softmax'),
    "score_function = 'softmax' is not implemented",
  ),
  'groups that do not divide': (
    LLADA2_MINI | dict(n_group=7), '256 experts in 7 groups: groups must be',
  ),
  'more experts than there are': (
    LLADA2_MINI | dict(num_experts_per_tok=257), 'chosen = 257 must be in',
  ),
  'dense layers alone': (
    LLADA2_MINI | dict(first_k_dense_replace=20), 'leaves none of the 20',
  ),
  'two rotary parts': (
    LLADA2_MINI | dict(rotary_dim=32), 'and rotary_dim = 32: it must be one',
  ),
  'an odd rotary part': (
    without(LLADA2_MINI, 'rotary_dim') | dict(partial_rotary_factor=0.01),
    '1 of the 128 features of a head turn',
  ),
  'two block lengths': (
    LLADA2_MINI | dict(block_size=16), 'these contradict each other',
  ),
  'no block length': (
    LLADA2_MINI | dict(block_length=0), 'block_length is 0, it must be',
  ),
  'a block length that is none': (
    LLADA2_MINI | dict(block_length='32'), "block_length is '32'",
  ),
  'blocks of what has none': (
    LLADA_MOE | dict(block_length=32), 'sees all positions at once',
  ),
  'experts here and there': (
    LLADA_MOE | dict(moe_layer_freq=[1, 0] * 8), 'moe_layer_freq = ',
  ),
  'sliding attention': (
    QWEN3_30B_A3B | dict(model_type='rnd1', use_sliding_window=True),
    'use_sliding_window = True is not implemented',
  ),
  'some sliding layers': (
    QWEN3_30B_A3B | dict(
      model_type='rnd1', layer_types=['sliding_attention'] * 48
    ), 'layer_types = ',
  ),
  'dense layers between': (
    QWEN3_30B_A3B | dict(model_type='rnd1', mlp_only_layers=[3]),
    r'mlp_only_layers = \[3\] is not implemented',
  ),
  'another RoPE': (
    NEMOTRON_3B | dict(rope_parameters=dict(rope_type='llama3', factor=8)),
    "rope_type = 'llama3' is not implemented",
  ),
  'a factor of no YaRN': (
    NEMOTRON_3B | dict(rope_parameters=dict(rope_theta=1e6, factor=8)),
    "what 'factor' means for a rope_type of default is not known",
  ),
  'a RoPE in words': (
    NEMOTRON_3B | dict(rope_parameters='yarn'), 'one of them must be an object',
  ),
  'two RoPEs': (
    NEMOTRON_3B | dict(rope_scaling=dict(rope_type='yarn', factor=2.0)),
    'one of them must be an object',
  ),
  'YaRN without its factor': (
    NEMOTRON_3B | dict(rope_parameters=dict(rope_type='yarn', rope_theta=1e6)),
    'factor is None',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_configs_that_are_refused(name):
  config, said = REFUSED[name]
  with pytest.raises(ValueError, match=said) as error:
    huggingface.layout(config)
  assert '\n' not in str(error.value) and len(str(error.value)) < 400


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """{family: a tiny directory of random weights}."""
  root = tmp_path_factory.mktemp('families')
  for kind in DECODERS:
    random_checkpoint.write(root / kind, kind, 'tiny', shard_bytes=100_000)
  return {kind: root / kind for kind in DECODERS}


def altered(source, target, config=None, change=None, remove=()):
  """A copy of a directory with other settings or other tensors."""
  shutil.copytree(source, target)
  for file in target.glob('*.safetensors*'):
    file.unlink()
  old = json.loads((source / 'config.json').read_text())
  new = without(old, *remove) | (config or {})
  (target / 'config.json').write_text(json.dumps(new))
  stored = tensors.open_tensors(source)
  arrays = {name: stored.read(name) for name in stored.shapes}
  if change:
    change(arrays)
  tensors.write_tensors(target, arrays.items())
  return target


@pytest.mark.parametrize('kind', DECODERS)
def test_round_trip_is_bitwise(kind, made, tmp_path):
  plan, params, config = huggingface.load(made[kind])
  assert plan.module.dtype == 'bfloat16'  # the routers' biases do not count
  huggingface.export(tmp_path / 'x', plan, params, config, shard_bytes=50_000)
  old, new = (tensors.open_tensors(x) for x in (made[kind], tmp_path / 'x'))
  assert old.shapes == new.shapes
  for name in old.shapes:
    assert old.read(name).tobytes() == new.read(name).tobytes(), name
  assert huggingface.load(tmp_path / 'x')[0] == plan


def test_fused_and_stacked_tensors_find_their_place(made):
  _, params, _ = huggingface.load(made['llada2'], dtype='float32')
  stored = tensors.open_tensors(made['llada2'])
  read = lambda name: stored.read(f'model.layers.{name}').astype(np.float32)
  fused = read('1.attention.query_key_value.weight')  # 4 + 2 + 2 heads of 16
  block = params['blocks']
  parts = zip(('query', 'key', 'value'), np.split(fused, (64, 96)), strict=True)
  for part, rows in parts:
    np.testing.assert_array_equal(block[part]['kernel'][0], rows.T)
  experts = block['experts']
  gate = read('1.mlp.experts.5.gate_proj.weight')
  np.testing.assert_array_equal(experts['gate'][0, 5], gate)
  bias = stored.read('model.layers.1.mlp.gate.expert_bias')
  assert bias.dtype == np.float32 == experts['router']['bias'].dtype
  np.testing.assert_array_equal(experts['router']['bias'][0], bias)
  first = read('0.mlp.down_proj.weight')
  np.testing.assert_array_equal(params['first']['down']['kernel'][0], first.T)


def merge(arrays):
  """One tensor for all experts of a layer, as dFactory writes them."""
  for part in ('gate_proj', 'up_proj', 'down_proj'):
    names = [f'model.layers.1.mlp.experts.{e}.{part}.weight' for e in range(8)]
    stack = np.stack([arrays.pop(name) for name in names])
    arrays[f'model.layers.1.mlp.experts.{part}'] = stack


def test_merged_experts(made, tmp_path):
  merged = altered(
    made['llada2'], tmp_path / 'x', {'model_type': 'llada2_moe_veomni'}, merge
  )
  plan, params, config = huggingface.load(merged)
  jax.tree.map(
    np.testing.assert_array_equal, params, huggingface.load(made['llada2'])[1]
  )
  huggingface.export(tmp_path / 'y', plan, params, config)
  old, new = (tensors.open_tensors(x) for x in (merged, tmp_path / 'y'))
  assert old.shapes == new.shapes
  for name in old.shapes:
    assert old.read(name).tobytes() == new.read(name).tobytes(), name


def test_arguments_are_written_into_the_config(made, tmp_path):
  bare = altered(
    made['sdar'], tmp_path / 'bare', remove=('block_length', 'mask_token_id')
  )
  with pytest.raises(ValueError, match=r'load with block_length= \(SDAR'):
    checkpoints.load(bare)
  loaded = checkpoints.load(bare, block_length=16)
  assert loaded.block_length == 16 == loaded.module.block_length
  assert loaded.ids['mask'] == 259  # <|MASK|> of the tokenizer
  (bare / 'tokenizer.json').unlink()
  with pytest.raises(ValueError, match='or load with mask_id='):
    huggingface.load(bare, block_length=16)
  plan, params, config = huggingface.load(bare, block_length=16, mask_id=258)
  assert plan.mask == 258
  huggingface.export(tmp_path / 'whole', plan, params, config)
  again, _, _ = huggingface.load(tmp_path / 'whole')
  assert (again.mask, again.module.block_length) == (258, 16)


def test_arguments_that_contradict_are_refused(made):
  cases = {
    'sdar': ({'block_length': 8}, 'says block_length = 4, and the argument is'),
    'fast_dllm': ({'block_length': 4}, 'says bd_size = 8, and the argument is'),
    'nemotron': ({'mask_id': 100}, 'says mask_token_id = 260, and the'),
    'rnd1': ({'block_length': 4}, 'sees all positions at once: leave it out'),
    'a2d': ({'block_length': 8}, 'says block_length = 0'),
    'llada': ({'block_length': -1}, 'block_length = -1 must be a whole number'),
  }
  for kind, (how, said) in cases.items():
    with pytest.raises(ValueError, match=said):
      checkpoints.load(made[kind], **how)
  for kind in ('fast_dllm', 'nemotron'):  # the same again is no contradiction
    assert checkpoints.load(made[kind], block_length=8).block_length == 8
  assert checkpoints.load(made['dream'], block_length=0).block_length == 0


def test_a_window_is_refused_where_the_cache_is_exact(made):
  loaded = checkpoints.load(made['sdar'])
  assert not loaded.offers
  with pytest.raises(ValueError, match='blocks of 4 positions and remembers'):
    loaded.denoiser(loaded.params, window=4)
  assert checkpoints.load(made['rnd1']).offers == {'window'}


TEMPLATES = {
  'llada2': (
    '<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>hi'
    '<|role_end|><role>ASSISTANT</role>'
  ),
  'sdar': '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
}


@pytest.mark.parametrize('kind', TEMPLATES)
def test_chat_templates_and_ends(kind, made):
  loaded = checkpoints.load(made[kind])
  assert loaded.chat([{'role': 'user', 'content': 'hi'}]) == TEMPLATES[kind]
  end = '<|role_end|>' if kind == 'llada2' else '<|im_end|>'
  special = random_configs.SPECIAL[kind]
  assert loaded.ids['eot'] == special.id(end)
  assert loaded.ids['mask'] == special.id(special.mask)


EXPERT = 'model.layers.1.mlp.experts.3.up_proj.weight'
FUSED = 'model.layers.0.attention.query_key_value.weight'
BIAS = 'model.layers.1.mlp.gate.expert_bias'
FAULTS = {
  'no expert': (
    lambda arrays: arrays.pop(EXPERT), rf'{EXPERT} is missing, config.json asks'
  ),
  'a narrow expert': (
    lambda arrays: arrays.update({EXPERT: arrays[EXPERT][:-1]}),
    rf'{EXPERT} has shape \(15, 64\), config.json asks for \(16, 64\)',
  ),
  'fewer rows': (
    lambda arrays: arrays.update({FUSED: arrays[FUSED][:-16]}),
    rf'{FUSED} has shape \(112, 64\), config.json asks for \(128, 64\)',
  ),
  'one expert more': (
    lambda arrays: arrays.update({EXPERT.replace('3', '8'): arrays[EXPERT]}),
    'experts.8.up_proj.weight has no place in the network',
  ),
  'whole numbers': (
    lambda arrays: arrays.update({FUSED: np.zeros((128, 64), np.int8)}),
    f'{FUSED} holds int8, and weights are',
  ),
  'no number': (
    lambda arrays: arrays.update({BIAS: np.full(8, np.nan, np.float32)}),
    f'{BIAS} holds NaN or infinity',
  ),
  'nan in the last rows': (
    lambda arrays: arrays[FUSED].__setitem__((127, 0), np.nan),
    f'{FUSED} holds NaN or infinity',
  ),
}


@pytest.mark.parametrize('name', FAULTS)
def test_tensors_that_are_refused(name, made, tmp_path):
  change, said = FAULTS[name]
  copied = lambda arrays: (
    arrays.update({FUSED: arrays[FUSED].copy()}), change(arrays)
  )
  bad = altered(made['llada2'], tmp_path / 'bad', change=copied)
  with pytest.raises(ValueError, match=said) as error:
    huggingface.load(bad)
  assert '\n' not in str(error.value)


def test_experts_are_split_over_a_mesh(made):
  mesh = parallel.mesh(2, 4)
  plan, params, _ = huggingface.load(made['llada2'], mesh=mesh)
  _, whole, _ = huggingface.load(made['llada2'])
  jax.tree.map(np.testing.assert_array_equal, whole, params)
  experts = params['blocks']['experts']
  for part in ('gate', 'up', 'down'):
    assert experts[part].sharding.spec == PartitionSpec(
      None, 'model', None, None
    )
    assert experts[part].addressable_shards[0].data.shape[1] == 2


@pytest.mark.parametrize('shape', [None, (2, 4)])
def test_an_expert_is_put_in_place_without_a_message(shape):
  """Into a parameter that is split by experts or not, nothing else moves."""
  mesh = shape and parallel.mesh(*shape)
  plan = huggingface.layout(LLADA2_MINI)
  path, shape = 'blocks/experts/down', (19, 256, 2048, 512)
  place = sharding.spec(plan.module, path, shape, mesh)
  param = jax.ShapeDtypeStruct(shape, ml_dtypes.bfloat16, sharding=place)
  place = sharding.of_piece(place, 2, False) if mesh else place
  row = jax.ShapeDtypeStruct((2048, 512), ml_dtypes.bfloat16, sharding=place)
  split = mesh is not None
  made = parameters._put.lower(param, row, (3, 17), False, split).compile()
  for name in ('all-gather', 'all-to-all', 'permute', 'all-reduce'):
    assert name not in made.as_text()
  memory = made.memory_analysis()
  assert memory.alias_size_in_bytes > 2**31  # a quarter of it, in place
  assert memory.temp_size_in_bytes < 2**22
