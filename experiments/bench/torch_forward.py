"""Our forward pass beside torch's, on the same weights, in one run.

  python -m experiments.bench.torch_forward \\
      --config=configs/bench_torch_forward.py --workdir=runs/bench_torch_forward

torch's is the transformers library's Llama or Qwen2, without a causal mask and
with its fastest attention. Both are float32, have the same processors and run
alternately; medians of ratios are kept. On a machine with other work look at
`cpu`, processor time on one thread (--config.threads=1), which others disturb
little. Needs the extra: pip install 'punt-jax[torch]'. Writes results.jsonl; a
run that was stopped goes on.
"""

import functools
import json
import os
import pathlib
import tempfile
import time

import jax
import numpy as np

from experiments.bench import timing
from punt_jax.checkpoints import huggingface, tensors
from punt_jax.checks import known, numbers
from punt_jax.cli import command, random_checkpoint
from punt_jax.cli.sweep import Point, sweep

TABLE = {
  'model': '{subject}', 'B x L': '{batch}x{length}',
  'ours': '{ours_wall:.3f}', 'torch': '{torch_wall:.3f}',
  'wall': '{wall_ratio:.2f}', 'cpu': '{cpu_ratio:.2f}',
  'differ': '{difference:.0e}',
}

LLAMA = {  # LLaDA's names of a layer's tensors -> Llama's
  'attn_norm': 'input_layernorm', 'ff_norm': 'post_attention_layernorm',
  'q_proj': 'self_attn.q_proj', 'k_proj': 'self_attn.k_proj',
  'v_proj': 'self_attn.v_proj', 'attn_out': 'self_attn.o_proj',
  'ff_proj': 'mlp.gate_proj', 'up_proj': 'mlp.up_proj',
  'ff_out': 'mlp.down_proj',
}
TOP = {
  'wte': 'model.embed_tokens', 'ln_f': 'model.norm', 'ff_out': 'lm_head',
}


def llama_name(name):
  """LLaDA's name of a tensor -> Llama's."""
  *_, part, leaf = name.split('.')
  if '.blocks.' not in name:
    return f'{TOP[part]}.{leaf}'
  return f'model.layers.{name.split(".")[3]}.{LLAMA[part]}.{leaf}'


def torch_version():
  """torch's version; ValueError if it or transformers is not installed."""
  try:
    import torch
    import transformers  # noqa: F401
  except ImportError as error:
    raise ValueError(
      f"{error}: the comparison needs pip install 'punt-jax[torch]'"
    ) from None
  return torch.__version__


def torch_model(model, module, stored):
  """The network in torch, with the weights of a checkpoint."""
  import torch
  import transformers

  settings = dict(
    vocab_size=module.vocab, hidden_size=module.width,
    num_hidden_layers=module.layers, num_attention_heads=module.heads,
    num_key_value_heads=module.groups, intermediate_size=module.hidden,
    rms_norm_eps=module.eps, tie_word_embeddings=module.tied, use_cache=False,
    rope_parameters=dict(rope_type='default', rope_theta=module.theta),
  )
  if model == 'llada':
    rename = llama_name
    net = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
  else:
    rename = str
    net = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
  net.load_state_dict({
    rename(name): torch.from_numpy(np.array(stored.read(name)))
    for name in stored.shapes
  })
  for layer in net.model.layers:
    layer.self_attn.is_causal = False
  return net.eval()


def pair(model, width, threads):
  """(ours, theirs): functions tokens (B, L) -> (B, L, V) logits."""
  config = random_checkpoint.describe(model, 'small')
  names = ('d_model', 'mlp_hidden_size') if model == 'llada' else (
    'hidden_size', 'intermediate_size'
  )
  config |= dict(zip(names, (width, 3 * width), strict=True))
  with tempfile.TemporaryDirectory() as place:
    weights = random_checkpoint.weights(config, 0, np.float32)
    tensors.write_tensors(place, weights)
    pathlib.Path(place, 'config.json').write_text(json.dumps(config))
    plan, params, _ = huggingface.load(place)
    net = torch_model(model, plan.module, tensors.open_tensors(place))
  import torch

  torch.set_num_threads(threads)
  run = jax.jit(lambda *x: plan.module.apply({'params': x[0]}, x[1]))

  def theirs(tokens):
    with torch.inference_mode():
      return net(torch.from_numpy(tokens).long()).logits.numpy()

  return lambda tokens: run(params, tokens).block_until_ready(), theirs


def compare(ours, theirs, batch, length, rounds):
  """The measured columns: seconds of each, median ratios, what differs most."""
  tokens = np.random.default_rng(0).integers(256, size=(batch, length))
  return clocks(ours, theirs, tokens.astype(np.int32), rounds)


def clocks(ours, theirs, given, rounds):
  """The same of any two functions of an array."""
  found, wanted = np.asarray(ours(given)), theirs(given)

  def clock(run):
    wall, cpu = time.perf_counter(), time.process_time()
    run(given)
    return time.perf_counter() - wall, time.process_time() - cpu

  times = np.array([
    [clock(ours), clock(theirs)] for _ in range(rounds + 1)
  ])[1:]
  median = np.median(times, 0)
  ratio = np.median(times[:, 0] / times[:, 1], 0)
  return dict(
    difference=float(abs(found - wanted).max() / abs(wanted).max()),
    ours_wall=median[0, 0], ours_cpu=median[0, 1],
    torch_wall=median[1, 0], torch_cpu=median[1, 1],
    wall_ratio=ratio[0], cpu_ratio=ratio[1], **timing.machine(),
  )


def run(config, workdir):
  """The whole job. Returns the rows of results.jsonl."""
  known('model', config.model, ('llada', 'dream'))
  numbers(config, {
    'seed': (0,), 'width': (1,), 'rounds': (1,), 'threads': (0,)
  })
  if not config.sizes or config.width % 16:
    raise ValueError(
      'sizes must name one size at least, and width be a multiple of 16: there'
      ' are 8 heads of an even size'
    )
  for size in config.sizes:
    numbers({'a size': size}, {'a size': (1,)})
  version = torch_version()
  here = sorted(os.sched_getaffinity(0))
  here = here[: config.threads or None]
  os.sched_setaffinity(0, here)
  points = [
    Point(
      f'{config.model}_{config.width}', length, 'forward', {},
      {'batch': batch, 'threads': config.threads},
    )
    for batch, length in config.sizes
  ]

  @functools.lru_cache(1)
  def networks():
    return pair(config.model, config.width, len(here))

  def measure(point):
    size = point.about['batch'], point.length
    return {**compare(*networks(), *size, config.rounds), 'torch': version}

  rows = sweep(
    'bench_torch_forward', workdir, config, points, measure,
    ('wall_ratio', 'cpu_ratio'), ('model', 'width', 'threads', 'sizes'),
  )
  print('\nseconds; ratios are ours / theirs\n')
  print(timing.table(TABLE, rows))
  return rows


if __name__ == '__main__':
  command.run_config(run)
