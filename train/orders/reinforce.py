"""An unmasking policy by reinforcement.

Jazbec et al., "Learning Unmasking Policies for Diffusion Language Models"
(https://arxiv.org/abs/2512.09106). The frozen denoiser is the environment, the
policy sees its confidences, an action is a bit per masked position, and the
reward of a finished canvas is

  1 if it is right, minus step_cost for each step it took

(others multiply the two; a sum says what a step is worth). Gradient: that of
group-relative policy optimization (GRPO), with the rewards of the same canvas
as the baseline, the probability ratio of each step's action clipped (PPO).
"""

import jax
import jax.numpy as jnp
import numpy as np

import punt_jax
from punt_jax import checks, samplers
from punt_jax.decode import film
from punt_jax.models import orders
from train.orders import method


def advantages(rewards, normalize):
  """Rewards (B, K) minus the mean of their row, by its deviation if wanted.

  Without it, and times K / (K - 1), the policy gradient is unbiased. With it,
  as in GRPO, canvases that are all right or all wrong count as much as others
  and teach speed alone, whatever a step costs.
  """
  gain = rewards - rewards.mean(-1, keepdims=True)
  return gain / (rewards.std(-1, keepdims=True) + 1e-6) if normalize else gain


def log_prob(logits, acts):
  """Log-probability of the actions, (T, N); 0 for steps that did not happen."""
  bit = jnp.where(acts.action, logits, -logits)
  return jnp.where(acts.view.masked, jax.nn.log_sigmoid(bit), 0.0).sum(-1)


def surrogate(logp, old, gain, clip):
  """(N,) numbers whose mean has the estimated gradient.

  Args:
    logp: (T, N) of the actions under the policy.
    old: (T, N) under the policy that drew them.
    gain: (N,) advantage of the whole canvas.
    clip: the ratio of both counts within [1 - clip, 1 + clip].
  """
  ratio = jnp.exp(logp - jax.lax.stop_gradient(old))
  bounded = jnp.clip(ratio, 1 - clip, 1 + clip)
  return jnp.minimum(ratio * gain, bounded * gain).sum(0)


def make(config, task) -> method.Method:
  """The method on a task that knows what is right.

  Args:
    config: module (of models.orders.Policy, sees='confidence'), step_cost,
      temperature of the drafts, batch, samples (K), epochs (updates from the
      same canvases), clip_ratio, normalize, tests, and the optimizer's.
    task: tasks.Task.

  Raises:
    ValueError: the task has no judge, or a hyperparameter is out of range.
  """
  if task.right is None:
    raise ValueError('reinforce: this task does not know what is right')
  checks.known('sees', config.module.sees, ('confidence',))
  checks.whole('samples', config.samples, 2)
  for name in ('batch', 'epochs', 'tests'):
    checks.whole(name, config[name], 1)
  for name in ('step_cost', 'clip_ratio'):
    checks.in_range(name, config[name], 0)
  module = orders.Policy(**config.module)
  rule = method.optimizer(config, config.epochs)

  def init(key):
    return module.init(key, method.example(task), jnp.ones(1))['params']

  def build(params, _):
    model = task.loaded.denoiser(params['denoiser'])
    model = punt_jax.temper(model, config.temperature)
    return model, samplers.learned(orders.policy(module, params['policy']))

  play = punt_jax.compile(build, driver=film)

  def rollouts(params, key, tokens, given):
    """(reward, right, steps) (N,), and Acts of the steps that were taken."""
    canvas = np.where(given, tokens, task.loaded.text.vocab)
    both = {'denoiser': task.loaded.params, 'policy': params}
    out, moves = play(both, (), key, canvas)
    right, steps = task.right(out.tokens), np.asarray(out.steps)
    # Few lengths, so that `improve` is compiled few times.
    taken = min(-(-int(steps.max()) // 12) * 12, task.length)
    acts = jax.tree.map(lambda x: x[:taken], moves.info)
    return right - config.step_cost * steps, right, steps, acts

  def logits(params, acts):
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), acts)
    found = module.apply({'params': params}, flat.view, flat.left)
    return found.reshape(acts.action.shape)

  @jax.jit
  def improve(state, acts, gain):
    old = log_prob(logits(state.params, acts), acts)

    def objective(params):
      logp = log_prob(logits(params, acts), acts)
      return -surrogate(logp, old, gain, config.clip_ratio).mean()

    for _ in range(config.epochs):
      grad = jax.grad(objective)(state.params)
      state = method.descend(rule, state, grad)
    return state

  def advance(state, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    rows = [np.repeat(x, config.samples, 0) for x in task.batch(
      step, config.batch
    )]
    reward, right, steps, acts = rollouts(state.params, key, *rows)
    gain = advantages(
      reward.reshape(config.batch, config.samples), config.normalize
    )
    new = improve(state, acts, gain.reshape(-1))
    values = {
      'reward': reward.mean(), 'right': right.mean(), 'steps': steps.mean()
    }
    return new._replace(step=state.step + 1), values

  test = task.test(config.tests)

  def evaluate(state):
    """The same of canvases that were not learned from."""
    reward, right, steps, _ = rollouts(state.params, jax.random.key(0), *test)
    return {
      'test_reward': float(reward.mean()), 'test_right': float(right.mean()),
      'test_steps': float(steps.mean()),
    }

  return method.Method(
    'policy', init, advance, evaluate, lambda params: params
  )
