"""What loop, wrappers and samplers promise each other."""

import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax import Sampler, Traits, samplers
from punt_jax.decode import film
from punt_jax.generation import options
from punt_jax.sampler import look, reveal
from tests.samplers.test_battery import EXAMPLES, make

L, V = 8, 3
M = V
TOKENS = np.array([
  [M, M, M, M, M, M, M, M],
  [1, M, M, 0, M, M, M, 2],
  [M, M, M, M, 1, M, 0, M],  # the first two are padding
  [0, 1, 2, 0, 1, 2, 0, 1],  # nothing to write
  [0, M, M, 1, 1, 1, M, M],  # nothing given: all may be written
])
VALID = np.ones(TOKENS.shape, bool)
VALID[2, :2] = False
GIVEN = TOKENS != M
GIVEN[4] = False
MASKED = [8, 5, 4, 0, 4]


def witness():
  """Writes the two leftmost masks; Move.info is all that is said of `total`.

  (B, 4): by the canvas of `init`, by that of the step, by the View, and what
  the View says of the steps since then.
  """

  def init(keys, canvas, model):
    del keys, model
    return canvas.total

  def step(keys, t, canvas, carry, memo, model):
    memo, _, view = look(keys, t, canvas, memo, model)
    kept = canvas.masked & (jnp.cumsum(canvas.masked, -1) <= 2)
    info = jnp.stack([carry, canvas.total, view.total, view.step], -1)
    return reveal(canvas, view, kept, info), carry, memo

  return Sampler(init, step)


def model():
  return punt_jax.from_logits(
    lambda tokens, valid: jnp.zeros((*tokens.shape, V)), V
  )


def told(sampler):
  """[[(total, steps since then) of each of its steps] of each row]."""
  run = punt_jax.compile(lambda params, _: (model(), sampler), driver=film)
  out, moves = jax.device_get(run(
    (), (), jax.random.key(0), TOKENS, valid=VALID, given=GIVEN
  ))
  assert out.done.all()
  said = []
  for row, steps in enumerate(out.steps):
    info = moves.info[:steps, row]
    assert (info[:, :3] == info[:, :1]).all()
    said.append([tuple(x) for x in info[:, 1::2].tolist()])
  return said


def test_total_is_what_was_masked_when_the_run_began():
  counts = [4, 3, 2, 0, 2]  # of steps
  assert told(witness()) == [
    [(total, t) for t in range(count)]
    for total, count in zip(MASKED, counts, strict=True)
  ]


@pytest.mark.parametrize('wrap', [
  lambda inner: samplers.blocks(inner, 3),
  lambda inner: samplers.blocks(samplers.blocks(inner, 3), 6),
  lambda inner: samplers.stop(samplers.blocks(inner, 3), -1),
], ids=['blocks', 'blocks of blocks', 'stop'])
def test_total_is_what_was_masked_when_the_block_began(wrap):
  assert told(wrap(witness())) == [
    [(3, 0), (3, 1), (3, 0), (3, 1), (2, 0)],
    [(3, 0), (3, 1), (2, 0)],  # {1, 2, 4} and {5, 6}
    [(3, 0), (3, 1), (1, 0)],  # {2, 3, 5} and {7}
    [],
    [(2, 0), (2, 0)],  # {0, 1, 2} and {6, 7}: {3, 4, 5} holds no mask
  ]


def test_particles_see_the_total_of_their_row():
  sampler = samplers.smc(
    witness(), 2, potential=lambda canvas, move: canvas.total * 1.0
  )
  start, advance = punt_jax.step(lambda params, hyperparams: (model(), sampler))
  run = start((), (), jax.random.key(0), TOKENS, valid=VALID, given=GIVEN)
  np.testing.assert_array_equal(run.total, MASKED)
  for steps in (1, 2):
    run, _ = advance((), (), run)
    said = steps * np.transpose([MASKED] * 2)
    np.testing.assert_array_equal(run.carry.score, said)
    np.testing.assert_array_equal(run.total, MASKED)


@pytest.mark.parametrize('name, args', [
  ('punt', (0.1,)), ('top_k', (2,)), ('learned', (None,)), ('p2', (4,)),
  ('hierarchical', ()), ('uniform', (2,)),
])
def test_a_sampler_without_memory_carries_nothing(name, args):
  assert getattr(samplers, name)(*args).init(None, None, model()) == ()


@pytest.mark.parametrize('wrap, changes', [
  (lambda inner: samplers.blocks(inner, 3), {}),
  (lambda inner: samplers.stop(inner, 0), dict(exact=None)),
  (lambda inner: samplers.smc(inner, 2), dict(exact=None, rewrites=True)),
], ids=['blocks', 'stop', 'smc'])
@pytest.mark.parametrize('traits', [
  Traits(), Traits(exact={'k': 1}, needs='attention', rewrites=True)
])
def test_wrappers_pass_traits_on(wrap, changes, traits):
  inner = samplers.one_by_one()._replace(traits=traits)
  assert wrap(inner).traits == traits._replace(**changes)


def test_who_needs_what_and_who_rewrites():
  traits = {name: make(name, **args).traits for name, args in EXAMPLES.items()}
  assert {name: t.needs for name, t in traits.items() if t.needs} == {
    'adas': 'attention', 'dapd': 'attention',
    'adaptive_parallel': 'in_order', 'speculative': 'in_order',
  }
  assert {name for name, t in traits.items() if t.rewrites} == {'remdm', 'smc'}
  judged = samplers.adaptive_parallel(judge=model())
  assert judged.traits.needs is None


@pytest.mark.parametrize('name, settings, needs, rewrites', [
  ('dapd', dict(tau=0.1, block_length=2.0), 'attention', False),
  ('speculative', dict(particles=2), 'in_order', True),
  ('remdm', dict(steps=3.0), None, True),
  ('influence', dict(kappa=1.0), None, False),
])
def test_a_choice_knows_the_traits_of_its_sampler(
  name, settings, needs, rewrites
):
  choice = options.choose(name, settings)
  assert (choice.needs, choice.rewrites) == (needs, rewrites)


FILES = sorted(
  file for file in pathlib.Path(samplers.__file__).parent.glob('*.py')
  if file.stem != '__init__'
)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_no_sampler_imports_another(file):
  imported = []
  for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      imported += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0
      imported += [f'{node.module}.{alias.name}' for alias in node.names]
  assert imported
  assert not [x for x in imported if x.startswith('punt_jax.samplers')]
