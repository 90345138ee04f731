"""The exact block cache: equal to recomputation, and what it costs.

Blocks of B = 4 unless said; a pass that fills the cache computes 8 positions,
so that prompts take several.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import block_cache, decode, narrow, samplers
from punt_jax.models.decoder import Decoder
from punt_jax.models.rope import Rope
from tests.helpers import block_net

B, L, V = 4, 22, block_net.V
P = block_net.params()
MODELS = {
  'plain': {},
  'shifted': dict(shifted=True),
  'causal': dict(causal=True),
  'anchored': dict(anchored=True, shifted=True),
  'all': dict(causal=True, anchored=True, shifted=True),
}


@pytest.fixture(autouse=True)
def narrow_passes(monkeypatch):
  monkeypatch.setattr(block_cache, 'WIDE', 2 * B)


def canvases(seed=0, rows=8):
  """Padded left by 0 .. 7, prompts of 5 .. 18, and given tokens after them.

  The last row has fewer positions than a block, and one before it a given block
  between masks.
  """
  rng = np.random.default_rng(seed)
  tokens = rng.integers(0, V, (rows, L)).astype(np.int32)
  valid = np.arange(L) >= np.arange(rows)[:, None]
  for r, row in enumerate(tokens):
    start = r + (5 + 4 * r) % 14
    row[start:] = np.where(rng.random(L - start) < 0.7, V, row[start:])
  tokens[2, 2 + 9 :] = V
  tokens[2, 2 + 12 : 2 + 16] = 1
  valid[-1, :-3] = False
  tokens[-1, -3:] = 3, V, V
  return tokens, valid


@functools.cache
def runner(name, cached=True, inner='one', driver=None, rows=8):
  """run(params, (temperature, eos), ...) of blocks around a sampler."""
  inner = SAMPLERS[inner]

  def build(params, hyperparams):
    heat, eos = hyperparams
    model = block_net.model(params, B, cached=cached, **MODELS[name])
    sampler = samplers.stop(samplers.blocks(inner, B), eos)
    return punt_jax.temper(model, heat), sampler

  if driver == 'devices':
    return punt_jax.compile(build, 60, devices=jax.devices()[:4])
  if driver == 'stream':
    return punt_jax.stream(build, 60)
  return punt_jax.compile(build, 60, driver=driver or decode.decode)


SAMPLERS = dict(
  one=samplers.one_by_one(),
  punt=samplers.punt(0.3),
  top_k=samplers.top_k(2),
  p2=samplers.p2(4),
  remdm=samplers.remdm(6),
  lookahead=samplers.lookahead(1, 3),
  klass=samplers.klass(),
  influence=samplers.influence(np.full((B, B), 0.1, np.float32), 0.2),
  smc=samplers.smc(samplers.top_k(1), 3),
  inside=samplers.blocks(samplers.punt(0.1), 2),
  inside_aligned=samplers.blocks(samplers.top_k(2), 2, aligned=True),
)


def test_features_are_those_of_the_whole_canvas():
  """Of the network of checkpoints, with three probes a question."""
  module = Decoder(
    vocab=V + 1, width=16, layers=2, heads=4, groups=2, size=8, hidden=16,
    rope=Rope(1e4), eps=1e-6, dtype='float32', block_length=B,
  )
  params = module.init(jax.random.key(1), jnp.zeros((1, 2), jnp.int32))
  apply = lambda params, name, *x: module.apply(params, *x, method=name)
  tokens, valid = (jnp.asarray(x) for x in canvases())
  probes = jax.random.randint(jax.random.key(2), (8, 3, B), 0, V + 1)
  count = valid.sum(-1)

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def told(name, cached, params, starts):
    model = block_cache.from_blocks(
      functools.partial(apply, params, 'window'),
      functools.partial(apply, params, 'head'), V, B, cached=cached,
      **MODELS[name],
    )
    rows = jnp.arange(8) != 6  # keeps an empty cache

    def turn(memo, start):
      if model.windows.anchored:
        start = memo.cache.origin % B + start
      start = jnp.minimum(start, count)
      memo = model.windows.fill(memo, tokens, start, rows)
      asking = rows[:, None] & (jnp.arange(3) < 2)
      memo, answer = model.windows.ask(memo, probes, start, asking)
      real = rows[:, None] & (start[:, None] + jnp.arange(B) < count[:, None])
      return memo, jnp.where(real[:, None, :, None], answer.features, 0)

    memo, said = jax.lax.scan(turn, model.init(tokens, valid), starts)
    return said, memo.meter

  starts = np.array([
    [4, 8, 12, 8, 4, 0, 0, 0], [4, 12, 12, 8, 8, 12, 0, 0],
    [16, 12, 16, 16, 12, 12, 8, 0],
  ], np.int32)
  for name in ('plain', 'all'):
    (fast, bill), (slow, _) = (
      told(name, cached, params, starts) for cached in (True, False)
    )
    scale = np.abs(slow).max()
    np.testing.assert_allclose(fast, slow, atol=1e-5 * scale)
    assert np.abs(slow).max((0, 2, 3, 4))[[0, 7]].min() > 0
  # Of the row that never asks, and of one whose first block begins inside.
  np.testing.assert_array_equal(bill.nfe[6:], [0, 1 + 6])


@pytest.mark.parametrize('name', ['plain', 'all'])
def test_a_decode_is_that_of_recomputing(name):
  tokens, valid = canvases()
  fast, slow = (
    runner(name, cached)(P, (1.0, 0), 3, tokens, valid=valid)
    for cached in (True, False)
  )
  same(fast, slow, valid)
  assert (fast.meter.positions < slow.meter.positions).all()
  assert (np.asarray(slow.meter.positions) == L * slow.meter.nfe).all()
  assert fast.done.all()


def same(fast, slow, valid):
  """The same tokens at the same steps, in the same number of them."""
  for part in ('tokens', 'when', 'steps', 'fault'):
    a, b = (np.asarray(getattr(x, part)) for x in (fast, slow))
    np.testing.assert_array_equal(a, b, part)
  np.testing.assert_allclose(fast.log_q, slow.log_q, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, inner', [
    *itertools.product(['shifted'], SAMPLERS),
    *itertools.product(['causal', 'anchored'], ['punt', 'lookahead']),
  ]
)
def test_every_sampler_decodes_as_recomputing(name, inner):
  tokens, valid = canvases(1)
  fast, slow = (
    runner(name, cached, inner)(P, (1.0, 0), 5, tokens, valid=valid)
    for cached in (True, False)
  )
  same(fast, slow, valid)
  assert fast.done.all() and (fast.meter.positions < slow.meter.positions).all()


def in_numpy(name, tokens):
  """Argmax, the surest first, of one row, every forward of it the whole row.

  Returns:
    tokens, when, nfe, positions; the bill is that of the cache.
  """
  how = dict(causal=False, anchored=False, shifted=False) | MODELS[name]
  tokens, count = tokens.copy(), len(tokens)
  origin = np.flatnonzero(tokens == V)[0] % B if how['anchored'] else 0
  block = (np.arange(count) - origin) // B

  def forward(active):
    x = P.table[tokens] + block_net.place(np.arange(count), np)
    seen = block[:, None] >= block
    if how['causal']:
      seen = np.tri(count, dtype=bool) | ((block[:, None] == active) & (
        block == active
      ))
    for query, key, value in zip(P.query, P.key, P.value, strict=True):
      score = (x @ query) @ (x @ key).T / block_net.D**0.5
      weight = np.where(seen, np.exp(score - score.max()), 0)
      x = np.tanh(x + weight / weight.sum(-1, keepdims=True) @ (x @ value))
    logits = block_net.SHARP * x @ P.head
    before = np.concatenate([logits[:1], logits[:-1]])
    return before if how['shifted'] else logits

  when, step, filled, nfe, positions = np.full(count, -1), 0, 0, 0, 0
  while (tokens == V).any():
    active = block[np.flatnonzero(tokens == V)[0]]
    missing = -(-(active * B + origin - filled) // B)  # blocks
    for width in [2] * (missing // 2) + [1] * (missing % 2):
      nfe, positions = nfe + 1, positions + width * B
    filled = active * B + origin
    logits = forward(active)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    sure = (p / p.sum(-1, keepdims=True)).max(-1)
    at = np.where((block == active) & (tokens == V), sure, 0).argmax()
    tokens[at], when[at], step = logits[at].argmax(), step, step + 1
    nfe, positions = nfe + 1, positions + B
  return tokens, when, nfe, positions


@pytest.mark.parametrize('name', ['plain', 'all'])
def test_a_decode_is_that_of_a_reference(name):
  tokens, valid = canvases()
  out = runner(name)(P, (0.0, -1), 0, tokens, valid=valid)
  for r, own in enumerate(valid):
    wanted, when, nfe, positions = in_numpy(name, tokens[r, own])
    np.testing.assert_array_equal(out.tokens[r, own], wanted)
    np.testing.assert_array_equal(out.when[r, own], when)
    bill = [int(x[r]) for x in out.meter[:3]]
    assert bill == [nfe, nfe, positions]


def test_a_row_is_the_same_alone_and_padded_and_on_devices():
  tokens, valid = canvases()
  args = P, (1.0, 0), 3
  out = runner('all')(*args, tokens, valid=valid)
  spread = runner('all', driver='devices')(*args, tokens, valid=valid)
  for part in ('tokens', 'when', 'steps'):
    a, b = getattr(out, part), getattr(spread, part)
    np.testing.assert_array_equal(a, b)
  for r, own in enumerate(valid):
    start = np.flatnonzero(own)[0] // 2  # padded half as much
    move = lambda x, start=start: np.roll(x, -start)[None]
    one = runner('all', rows=1)(
      *args, move(tokens[r]), valid=move(own), rows=[r]
    )
    np.testing.assert_array_equal(one.tokens[move(own)], out.tokens[r, own])
    assert [x[0] for x in one.meter[:3]] == [x[r] for x in out.meter[:3]]
    np.testing.assert_allclose(one.log_q[0], out.log_q[r], atol=1e-5)


def test_given_tokens_stay_and_rows_end_at_eos():
  tokens, valid = canvases()
  run = runner('plain')
  free, ended = (run(P, (1.0, eos), 3, tokens, valid=valid) for eos in (-1, 0))
  for out in (free, ended):
    given = tokens != V
    assert (np.asarray(out.tokens)[given] == tokens[given]).all()
  assert (ended.meter.nfe <= free.meter.nfe).all()
  assert (ended.meter.nfe < free.meter.nfe).any()


def test_streaming_gives_what_compile_gives():
  tokens, valid = canvases()
  args = P, (1.0, 0), 3, tokens
  steps, last, before, kept = 0, None, tokens, np.zeros_like(valid)
  for last, settled in runner('plain', driver='stream')(*args, valid=valid):
    now = np.asarray(last.tokens)
    assert (now == before)[kept].all()
    assert (np.asarray(settled) >= kept).all() and last.memo.cache == ()
    steps, kept, before = steps + 1, np.asarray(settled), now
  assert last is not None and kept.all()
  assert 4 < steps < int(last.steps.max())
  out = runner('plain')(*args, valid=valid)
  jax.tree.map(np.testing.assert_array_equal, decode.finish(last), out)


def test_what_is_no_number_is_named():
  tokens, valid = canvases()
  bad = P._replace(table=P.table.copy())
  bad.table[1] = np.nan  # the given block of row 2, and whoever draws it
  with pytest.raises(ValueError, match=r'NaN log-probabilities in row 0'):
    runner('plain')(bad, (1.0, 0), 3, tokens, valid=valid)


def test_moves_are_laid_back_on_the_canvas():
  tokens, valid = canvases()

  def build(params, hyperparams):
    return block_net.model(P, B), samplers.blocks(samplers.punt(0.3), B)

  run = punt_jax.compile(build, 30, driver=decode.film)
  out, moves = run((), (), 0, tokens, valid=valid)
  shown = np.asarray(moves.info.shown)
  assert shown.shape == (30, 8, 2, L) and moves.info.asked.shape == (30, 8, 2)
  step, row, _, place = np.nonzero(shown)
  assert len(step) > 20 and valid[row, place].all()
  # What is shown is masked then, and drafts of one block.
  assert (np.asarray(out.when)[row, place] >= step).all()
  going = np.arange(30)[:, None] < out.steps.max()  # a film ends in zeros
  tested = np.isfinite(moves.info.divergence) & going[..., None, None]
  both = (shown | tested).any(2)
  position = np.where(both, valid.cumsum(-1) - 1, -1)
  first = np.where(both, position, L).min(-1)
  assert ((position.max(-1) // B == first // B) | ~both.any(-1)).all()


def test_positions_computed():
  """Of 1,024, by blocks of 32: at most 1/16 of recomputing the canvas."""
  length, block = 1024, 32

  def build(params, hyperparams):
    model = block_net.model(params, block)
    return model, samplers.blocks(samplers.top_k(hyperparams), block)

  run = punt_jax.compile(build)
  for k, least in ((4, 256), (32, 32)):  # even where a step fills a block
    out = run(P, k, 0, np.full((1, length), V))
    assert out.done[0] and out.steps[0] == least
    assert out.meter.positions[0] == block * (least + length // block - 1)
    assert out.meter.positions[0] <= least * length / 16


def test_memory_of_a_decode(monkeypatch):
  """Weights, the cache, and the work of one block; the cache is never copied.

  No (B, L, V), and in no loop anything as large as the cache but the updates
  of it in place.
  """
  monkeypatch.setattr(block_cache, 'WIDE', 256)
  length, block, rows, vocab, layers = 1024, 32, 2, 500, 24
  module = Decoder(
    vocab=vocab, width=32, layers=layers, heads=4, groups=2, size=16, hidden=32,
    rope=Rope(1e4), eps=1e-6, dtype='float32', block_length=block,
  )
  like = jax.eval_shape(
    module.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32)
  )

  def build(params, hyperparams):
    apply = lambda name: lambda *x: module.apply(params, *x, method=name)
    model = block_cache.from_blocks(
      apply('window'), apply('head'), vocab - 1, block, mask=vocab - 1
    )
    return model, samplers.blocks(samplers.lookahead(1, 3), block)

  shape = rows, length
  program = punt_jax.compile(build).lower(
    like, (), jax.random.key(0), None, jax.ShapeDtypeStruct(shape, jnp.int32),
    None, jax.ShapeDtypeStruct(shape, bool),
  ).compile()
  cache = 2 * layers * rows * length * 2 * 16 * 4  # bytes
  # A CPU's attention turns the keys and values of a layer, twice.
  scratch = program.memory_analysis().temp_size_in_bytes - cache
  assert scratch < cache / 2
  text = program.as_text()
  whole = rf'\[({rows},{length}|{rows * length}),(499|500)\]'
  assert not re.search(whole, text)
  kinds = re.findall(
    rf'= f32\[{layers},{rows},{length},2,16\]\S* ([\w-]+)\(', text
  )
  assert kinds.count('copy') <= 1  # of zeros, before the loop
  assert kinds.count('dynamic-update-slice') >= 2


@pytest.mark.parametrize('length, inner, said', [
  (8, None, 'give it length = 4'),
  (2, None, r'blocks\(blocks\(sampler, 2\), 4\)'),
  (4.0, None, 'whole number'),
])
def test_other_blocks_than_the_models(length, inner, said):
  model = block_net.model(P, B)
  sampler = samplers.blocks(samplers.one_by_one(), length)
  with pytest.raises(ValueError, match=said):
    punt_jax.sample(0, model, sampler, np.full((1, 5), V))


def test_mistakes_end_in_sentences():
  one = samplers.one_by_one()
  model = block_net.model(P, B)
  with pytest.raises(ValueError, match='block length = 2.5 must be a whole'):
    samplers.blocks(one, 2.5, aligned=True)
  with pytest.raises(ValueError, match='block length = 0 must be a whole'):
    block_net.model(P, 0)
  with pytest.raises(ValueError, match='must be a whole number .not traced'):
    jax.eval_shape(
      lambda n: punt_jax.sample(
        0, model, samplers.blocks(one, n), jnp.full((1, 5), V)
      ), 4
    )
  with pytest.raises(ValueError, match='shifted=True'):
    punt_jax.shift_right(model)
  with pytest.raises(ValueError, match='where a Windows belongs'):
    punt_jax.sample(0, model._replace(windows=3), one, np.full((1, 5), V))
  flat = lambda *x: (block_net.window_fn(P)(*x)[0][0], ())
  with pytest.raises(ValueError, match='<lambda> returned an array'):
    bad = block_cache.from_blocks(flat, lambda f: f, V, B, cached=False)
    punt_jax.sample(0, bad, samplers.blocks(one, B), np.full((1, 5), V))


def test_wrappers_keep_the_windows():
  model = block_net.model(P, B)
  for wrapped in (
    punt_jax.temper(model, 0), punt_jax.top_p(model, 0.5),
    punt_jax.ban(model, [0]), punt_jax.judge_drafts(model),
  ):
    assert wrapped.windows is model.windows


def test_any_model_is_asked_about_a_stretch_alone():
  """Of a world: as if asked about the whole canvas, in one order as well."""
  world = punt_jax.oracles.random_chain(jax.random.key(0), 8, 4)
  model = punt_jax.oracles.as_denoiser(world)
  tokens = np.array([[0, 4, 4, 4, 1, 4, 4], [0, 0, 4, 4, 4, 4, 2]])
  valid = np.array([[True] * 7, [False] + [True] * 6])
  memo = model.init(jnp.asarray(tokens), jnp.asarray(valid))
  start = jnp.array([3, 3])
  near = narrow.model(model, memo, jnp.asarray(tokens), start, B)
  shown = jnp.array([[4, 1, 2, 4], [4, 3, 2, 4]])
  own = near.init(shown, shown < 9)
  whole = tokens.copy()
  whole[0, 3:], whole[1, 4:] = shown[0], shown[1, :3]
  asking = jnp.array([True, False])
  _, wanted = model.ask(memo, jnp.asarray(whole), asking)
  own, answer = near.ask(own, shown, asking)
  np.testing.assert_allclose(answer.features[0], wanted.features[0, 3:])
  np.testing.assert_allclose(answer.features[1, :3], wanted.features[1, 4:])
  assert own.meter.positions.tolist() == [7, 0]
  # Two canvases of each row, as smc has them: probes.
  twice = jnp.repeat(shown, 2, 0)
  own, two = near.ask(near.init(twice, twice < 9), twice, asking.repeat(2))
  np.testing.assert_allclose(two.features[::2], answer.features)
  assert own.meter.positions.tolist() == [7, 7, 0, 0]
  rank = jnp.array([[-1, 0, 1, 2], [2, 1, -1, 0]])
  _, told = near.in_order(near.init(shown, shown < 9), shown, rank, asking)
  full = np.where(whole == 4, 9, -1)
  full[0, 3:], full[1, 4:] = rank[0], rank[1, :3]
  _, wanted = model.in_order(memo, jnp.asarray(whole), full, asking)
  np.testing.assert_allclose(told.features[0], wanted.features[0, 3:])
  np.testing.assert_allclose(told.features[1, :3], wanted.features[1, 4:])


@pytest.mark.slow
@pytest.mark.parametrize('inner', [
  samplers.speculative(3), samplers.adaptive_parallel(),
  samplers.p2(3, planner=block_net.model(P, B)),
])
def test_second_models_see_the_same_block(inner):
  """A world by aligned blocks is finished, at the price of whole canvases."""
  world = punt_jax.oracles.random_chain(jax.random.key(0), L, V)
  tokens, valid = canvases()

  def build(params, hyperparams):
    model = punt_jax.oracles.as_denoiser(world)
    return model, samplers.blocks(inner, B, aligned=True)

  out = punt_jax.compile(build, 40)((), (), 0, tokens[:2], valid=valid[:2])
  assert out.done.all() and (np.asarray(out.tokens)[valid[:2]] < V).all()
  assert (out.meter.positions == L * out.meter.nfe).all()


@pytest.mark.slow
@pytest.mark.parametrize('length, block', [(3, 8), (290, 4), (290, 32)])
def test_short_canvases_and_long_prompts(length, block, monkeypatch):
  monkeypatch.setattr(block_cache, 'WIDE', 256)
  tokens = np.random.default_rng(0).integers(0, V, (3, length))
  for r, masks in enumerate((3, 1, 2 * block + 1)):
    tokens[r, -masks:] = V
  outs = []
  for cached in (True, False):
    build = lambda params, hyperparams, cached=cached: (
      block_net.model(params, block, cached=cached),
      samplers.blocks(samplers.punt(0.3), block),
    )
    outs.append(punt_jax.compile(build)(P, (), 0, tokens))
  same(*outs, np.ones(tokens.shape, bool))
  assert outs[0].done.all()
