"""The smallest canvases there are, for every sampler and every driver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import punt_jax
from punt_jax.decode import film
from punt_jax.oracles import as_denoiser, product
from tests.helpers.attention import attending
from tests.samplers.test_battery import EXAMPLES, NAMES, make

# One position and one token: masked, given, padding, masked.
TOKENS = np.array([[1], [0], [1], [1]])
VALID = np.array([[True], [True], [False], [True]])
COMPILED = ('punt', 'smc', 'random_size', 'lookahead')


def build(name):
  arguments = {
    k: np.zeros((1, 1)) if k == 'table' else v
    for k, v in EXAMPLES[name].items()
  } | (dict(eos=0) if name == 'stop' else {})

  def both(params, hyperparams):
    model = as_denoiser(product(jnp.zeros((1, 1))))
    return attending(model, np.ones((2, 1, 1), np.float32)), make(
      name, **arguments
    )

  return both


@pytest.mark.parametrize('name', NAMES)
def test_one_position_and_one_token_can_be_traced(name):
  out = jax.eval_shape(
    lambda: punt_jax.sample(0, *build(name)((), ()), TOKENS, valid=VALID)
  )
  assert out.tokens.shape == (4, 1)


@pytest.mark.parametrize('name', [
  pytest.param(n, marks=() if n in COMPILED else pytest.mark.slow)
  for n in NAMES
])
def test_one_position_and_one_token_are_written(name):
  # `remdm` takes its 6 time steps, the others one.
  out = punt_jax.compile(build(name), 6)((), (), 0, TOKENS, valid=VALID)
  assert out.done.all() and (out.fault == -1).all()
  np.testing.assert_array_equal(out.tokens[:, 0], [0, 0, 1, 0])
  np.testing.assert_allclose(out.log_q, 0, atol=1e-6)
  assert (out.steps > 0).tolist() == [True, False, False, True]


@pytest.mark.parametrize('max_steps, said', [
  (-1, 'max_steps = -1 must be a whole number'),
  (2.5, 'max_steps = 2.5'), (True, 'max_steps = True'),
  ('2', 'max_steps = 2'), (2**40, 'max_steps = 1099511627776'),
])
def test_steps_that_are_none(max_steps, said):
  both = build('uniform')
  with pytest.raises(ValueError, match=said):
    punt_jax.sample(0, *both((), ()), TOKENS, max_steps=max_steps)
  for door in (punt_jax.compile, punt_jax.watch):
    with pytest.raises(ValueError, match=said):
      door(both, max_steps)


def test_no_steps_leave_a_canvas_as_it_was():
  both = build('uniform')
  run = punt_jax.compile(both, 0)
  out = run((), (), 0, TOKENS, valid=VALID)
  np.testing.assert_array_equal(out.tokens, TOKENS)
  assert out.done.tolist() == [False, True, True, False]
  assert list(punt_jax.watch(both, 0)((), (), 0, TOKENS, valid=VALID)) == []
  filmed, moves = punt_jax.compile(both, 0, driver=film)(
    (), (), 0, TOKENS, valid=VALID
  )
  np.testing.assert_array_equal(filmed.tokens, TOKENS)
  assert moves.tokens.shape == (0, 4, 1)


@pytest.mark.parametrize('shape', [(0, 1), (3, 0), (0, 0)])
@pytest.mark.parametrize('door', [
  lambda both: punt_jax.compile(both),
  lambda both: punt_jax.compile(both, driver=film),
  lambda both: punt_jax.compile(both, check=False),
  lambda both: punt_jax.compile(both, devices=jax.devices()[:2]),
  lambda both: punt_jax.compile(both, mesh=punt_jax.parallel.mesh(8)),
  punt_jax.watch,
], ids=['decode', 'film', 'unchecked', 'devices', 'mesh', 'watch'])
def test_no_rows_or_no_positions_are_a_sentence(door, shape):
  with pytest.raises(ValueError, match='is empty: nothing to fill'):
    door(build('uniform'))((), (), 0, np.zeros(shape, int))
