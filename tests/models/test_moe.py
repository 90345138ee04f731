"""Mixtures of experts against NumPy, in float64, one token after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from punt_jax import parallel
from punt_jax.models import grouped, moe, sharding

D = 32
SIGMOID = moe.Settings(  # LLaDA2's
  16, 3, 24, 'sigmoid', True, 2.5, groups=4, chosen_groups=2, bias=True,
  shared=20,
)
SOFTMAX = moe.Settings(16, 4, 24, 'softmax', True)  # Qwen3-MoE's
BIASED = moe.Settings(16, 4, 24, 'softmax', False, bias=True)  # LLaDA-MoE's


def best(scores, count):
  """The best, first of equals first."""
  return np.argsort(-scores, kind='stable')[:count]


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def routed(settings, logits, bias):
  """Of one token (E,): {expert: weight}, as the families' papers have it."""
  if settings.router == 'sigmoid':
    scores = sigmoid(logits)
    biased = (scores + bias).reshape(settings.groups, -1)
    total = [np.sort(group)[-1] + np.sort(group)[-2] for group in biased]
    allowed = np.full(biased.shape, -np.inf)
    for group in best(np.array(total), settings.chosen_groups):
      allowed[group] = biased[group]
    chosen = best(allowed.ravel(), settings.chosen)
  else:
    scores = np.exp(logits - logits.max())
    scores = scores / scores.sum() + bias
    chosen = best(scores, settings.chosen)
  weights = scores[chosen]
  if settings.renormalize:
    weights = weights / weights.sum()
  return dict(zip(chosen.tolist(), weights * settings.scale, strict=True))


def mlp(x, gate, up, down):
  return down @ (gate @ x * sigmoid(gate @ x) * (up @ x))


def layer(settings, params, tokens):
  """(T, D) -> (T, D)."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  bias = params['router'].get('bias', 0)
  out = np.zeros(tokens.shape)
  for x, y in zip(np.asarray(tokens, np.float64), out, strict=True):
    went = routed(settings, x @ params['router']['kernel'], bias)
    for expert, weight in went.items():
      own = (params[name][expert] for name in ('gate', 'up', 'down'))
      y += weight * mlp(x, *own)
    if settings.shared:
      shared = params['shared']
      y += mlp(x, *(shared[n]['kernel'].T for n in ('gate', 'up', 'down')))
  return out


def parameters(settings, seed=0):
  module = moe.Experts(settings, 'float32')
  params = module.init(jax.random.key(seed), jnp.zeros((1, 1, D)))['params']
  if settings.bias:
    shape = settings.experts,
    params['router']['bias'] = 0.2 * jax.random.normal(jax.random.key(1), shape)
  return params


run = jax.jit(
  lambda settings, params, x: moe.Experts(settings, 'float32').apply(
    {'params': params}, x
  ),
  static_argnums=0,
)


def tokens(*shape):
  return jax.random.normal(jax.random.key(7), (*shape, D))


@pytest.mark.parametrize('settings', [SIGMOID, SOFTMAX, BIASED])
def test_a_router_is_its_paper(settings):
  logits = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
  logits[:10] = logits[:10].round()  # ties
  logits[10] = 0
  bias = None
  if settings.bias:
    bias = np.random.default_rng(1).normal(size=16).round(1).astype(np.float32)
  experts, weights = jax.jit(moe.route, static_argnums=0)(
    settings, logits, bias
  )
  for i, row in enumerate(logits):
    # In float32 where there are ties, as these are those of float32.
    exact = row if i < 11 else row.astype(np.float64)
    want = routed(settings, exact, 0 if bias is None else bias)
    assert experts[i].tolist() == list(want)
    np.testing.assert_allclose(weights[i], list(want.values()), rtol=1e-5)
  if settings.bias:  # it matters
    assert (experts != moe.route(settings, logits)[0]).any()


@pytest.mark.parametrize('settings', [SIGMOID, SOFTMAX, BIASED])
def test_the_layer_is_its_paper(settings):
  params, x = parameters(settings), tokens(3, 40)
  found = run(settings, params, x).reshape(-1, D)
  np.testing.assert_allclose(
    found, layer(settings, params, x.reshape(-1, D)), atol=3e-6
  )


def alike(settings, params, x, atol=3e-6):
  found = run(settings, params, x).reshape(-1, D)
  want = layer(settings, params, x.reshape(-1, D))
  np.testing.assert_allclose(found, want, atol=atol)


def towards(params, experts):
  """Parameters whose router sends all tokens to some experts (K)."""
  kernel = np.zeros((D, 16), np.float32)
  kernel[0, experts] = 10 - np.arange(len(experts))
  return {**params, 'router': {'kernel': kernel}}


def positive(x):
  return x.at[..., 0].set(1 + abs(x[..., 0]))


def test_one_token():
  alike(SOFTMAX, parameters(SOFTMAX), tokens(1, 1))


def test_many_rows_for_one_expert_and_none_for_others(monkeypatch):
  monkeypatch.setattr(grouped, 'CACHED', 7 * D)  # 24 and 32 rows: none fit
  x = positive(tokens(1, 300))
  params = towards(parameters(SOFTMAX), [15, 0, 7, 8])
  assert grouped.MOST < 300
  apply = lambda *x: moe.Experts(SOFTMAX, 'float32').apply(*x)
  found = jax.jit(apply)({'params': params}, x)[0]
  np.testing.assert_allclose(found, layer(SOFTMAX, params, x[0]), atol=3e-6)


def spoiled(params, experts):
  """Parameters with NaN in some experts."""
  spoil = lambda x: x.at[jnp.array(experts)].set(jnp.nan)
  return {
    **params, **{name: spoil(params[name]) for name in ('gate', 'up', 'down')}
  }


def test_an_expert_without_tokens_is_not_computed():
  x = positive(tokens(3, 40))
  params = towards(parameters(SOFTMAX), [3, 9, 4, 10])
  others = [e for e in range(16) if e not in (3, 9, 4, 10)]
  loss = lambda *x: (run(SOFTMAX, *x) ** 2).sum()
  both = jax.jit(jax.value_and_grad(loss, (0, 1)))
  clean = both(params, x)
  jax.tree.map(
    np.testing.assert_array_equal, both(spoiled(params, others), x), clean
  )
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean))
  assert not np.isfinite(both(spoiled(params, [9]), x)[0])


@pytest.mark.parametrize('shape', [(3, 40), (1, 9), (1, 1)])
def test_rows_are_multiplied_with_their_expert_alone(monkeypatch, shape):
  done, dot = [], grouped._dot

  def counted(x, matrix):
    jax.debug.callback(lambda: done.append(x.shape[0] * matrix.shape[0]))
    return dot(x, matrix)

  x = tokens(*shape).reshape(-1, D)
  params = parameters(SOFTMAX)
  monkeypatch.setattr(grouped, '_dot', counted)
  chosen, weights = moe.route(SOFTMAX, x @ params['router']['kernel'])
  mlps = tuple(params[name] for name in ('gate', 'up', 'down'))
  jax.jit(lambda *x: grouped.mixture(*x))(x, chosen, weights, mlps)
  jax.effects_barrier()
  rows = np.bincount(np.ravel(chosen), minlength=16)
  filled, rest = divmod(sum(done), 24 + 24 + D)
  most = max(8, 2 * chosen.size // 16) - 1  # that fill a tile
  assert not rest
  assert chosen.size <= filled <= chosen.size + np.count_nonzero(rows) * most


def test_a_token_is_the_same_alone_and_in_a_batch():
  params, x = parameters(SIGMOID), tokens(3, 60)
  whole = run(SIGMOID, params, x)
  close = functools.partial(np.testing.assert_allclose, atol=2e-6)
  close(run(SIGMOID, params, x[1:2])[0], whole[1])
  close(run(SIGMOID, params, x[1:2, 5:6])[0, 0], whole[1, 5])
  padded = x.at[:, :7].set(jnp.nan)  # whatever stands there
  close(run(SIGMOID, params, padded)[:, 7:], whole[:, 7:])


def test_the_experts_themselves_are_the_same_to_the_bit():
  params, x = parameters(SOFTMAX), tokens(180)
  chosen, weights = moe.route(SOFTMAX, x @ params['router']['kernel'])
  mlps = tuple(params[name] for name in ('gate', 'up', 'down'))
  mixture = jax.jit(lambda *x: grouped.mixture(*x, mlps))
  some = mixture(x[60:120], chosen[60:120], weights[60:120])
  np.testing.assert_array_equal(some, mixture(x, chosen, weights)[60:120])


@pytest.mark.parametrize('length', [2, 70])
def test_gradients_are_those_of_all_experts(length):
  params, x = parameters(SIGMOID), tokens(2, length)

  def dense(params, x):
    tokens = x.reshape(-1, D)
    logits = tokens @ params['router']['kernel']
    chosen, weights = moe.route(SIGMOID, logits, params['router']['bias'])
    h = [jnp.einsum('td,eid->tei', tokens, params[n]) for n in ('gate', 'up')]
    y = jnp.einsum('tei,edi->ted', jax.nn.silu(h[0]) * h[1], params['down'])
    y = jnp.take_along_axis(y, chosen[:, :, None], 1)
    shared = moe.Shared(20, 'float32').apply({'params': params['shared']}, x)
    return (y * weights[:, :, None]).sum(1).reshape(x.shape) + shared

  slopes = (
    jax.jit(jax.grad(lambda *x, f=f: jnp.sin(f(*x)).sum(), (0, 1)))(params, x)
    for f in (functools.partial(run, SIGMOID), dense)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5, rtol=1e-4),
    *slopes,
  )


def test_ragged_products_are_the_loop():
  """As a TPU has it; the last rows belong to experts of other devices."""
  params, x = parameters(SOFTMAX), tokens(30)
  mlps = tuple(params[name] for name in ('gate', 'up', 'down'))
  token = jnp.arange(90) % 30
  ends = jnp.minimum(jnp.arange(16) ** 2, 80)
  loss = lambda run: lambda x, mlps: jnp.sin(run(x, token, ends, mlps)[:80])
  for run_ in (lambda f: f, lambda f: jax.grad(lambda *x: f(*x).sum(), (0, 1))):
    found, want = (
      jax.jit(run_(loss(f)))(x, mlps)
      for f in (grouped._tiled(grouped.CACHED), grouped._ragged)
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, want
    )


@pytest.mark.parametrize('platform, count, ragged', [
  ('tpu', 8, True), ('tpu', 2**20, True), ('cuda', 8, True),
  ('cuda', 2**20, False), ('cpu', 8, False),
])
def test_ragged_dot_is_used_where_it_is_one(platform, count, ragged):
  module = moe.Experts(SOFTMAX, 'bfloat16')
  x = jax.ShapeDtypeStruct((1, count, D), jnp.bfloat16)
  params = jax.eval_shape(module.init, jax.random.key(0), x)
  lowered = jax.jit(module.apply).trace(params, x).lower(
    lowering_platforms=(platform,)
  )
  text = lowered.as_text()
  assert text.count('chlo.ragged_dot"') == 3 * ragged
  assert ('stablehlo.while' in text) != ragged


@pytest.mark.parametrize('data', [1, 2])
def test_experts_are_split_over_devices(data):
  """In a group of a mesh: one sum, and no expert leaves its device."""
  mesh = parallel.mesh(data, 8 // data)
  params, x = parameters(SIGMOID), tokens(2, 60)
  split = PartitionSpec(sharding.AXIS)
  place = lambda name, x: jax.device_put(x, NamedSharding(
    mesh, split if name in ('gate', 'up', 'down') else PartitionSpec()
  ))
  placed = {
    name: jax.tree.map(lambda x, name=name: place(name, x), part)
    for name, part in params.items()
  }
  rows, whole = PartitionSpec('data'), PartitionSpec()
  apply = lambda params, x: moe.Experts(SIGMOID, 'float32').apply(
    {'params': params}, x
  )
  inside = jax.jit(jax.shard_map(
    apply, mesh=mesh, in_specs=(whole, rows), out_specs=rows,
    axis_names={'data'}, check_vma=False,
  ))
  made = inside.lower(placed, x).compile()
  text = made.as_text()
  for name in ('all-gather', 'all-to-all', 'permute'):
    assert name not in text
  assert text.count(' all-reduce(') == 1
  want = run(SIGMOID, params, x)
  np.testing.assert_allclose(made(placed, x), want, atol=2e-6)
  # Without a group the compiler brings the experts together.
  np.testing.assert_allclose(jax.jit(apply)(placed, x), want, atol=2e-6)


@pytest.mark.parametrize('said, change', [
  ('unknown router', dict(router='tanh')),
  ('16 experts in 3 groups', dict(groups=3)),
  ('16 experts in 16 groups', dict(groups=16)),
  ('chosen_groups = 5 must be in', dict(chosen_groups=5)),
  ('chosen = 9 must be in', dict(chosen=9)),
])
def test_settings_that_cannot_be(said, change):
  with pytest.raises(ValueError, match=said):
    moe.check(SIGMOID._replace(**change))
