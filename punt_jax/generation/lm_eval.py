"""Models of this library in EleutherAI's lm-evaluation-harness.

  lm_eval --model punt_jax --model_args pretrained=DIR,sampler=top_k(k=2) \\
    --tasks gsm8k --batch_size 8

model_args.py says what may stand in --model_args. lm-eval (pip install
'punt-jax[eval]') finds PuntJax by its entry point in setup.py from the release
after 0.4.13 on; until then see punt_jax/cli/lm_eval.py.

A likelihood is a bound; whether a continuation is the greedy one (`acc` of
lambada) is what decoding it greedily says, see likelihood.py.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import lm_eval.models  # noqa: F401 # pyright: ignore[reportMissingImports]
import numpy as np
from jax.sharding import Mesh
from lm_eval.api.registry import (  # pyright: ignore[reportMissingImports]
  register_model,
)

from punt_jax import checkpoints, checks, parallel
from punt_jax.generation import generator, likelihood, model_args, options
from punt_jax.generation import harness as lib
from punt_jax.generation.harness import Engine, Harness, Writer

# lm-eval registers its own models only while the registry is empty, so they are
# imported above, before PuntJax.
LOG = lib.LOG


@register_model('punt_jax')
class PuntJax(Harness):
  """What `--model punt_jax` stands for."""

  def __init__(
    self, batch_size: int | str = generator.DEFAULTS.batch,
    device: str | None = None, trust_remote_code: bool = False, **values: Any,
  ):
    """Loads the model.

    Args:
      batch_size: rows at a time; lm-eval's command says 1 unless told.
      device: 'cpu' or what else lm-eval says; jax chooses.
      trust_remote_code: of data sets; nothing of a checkpoint is executed.
      **values: see model_args.Arguments and generator.Settings.

    Raises:
      ValueError: one sentence.
    """
    del trust_remote_code
    if device == 'cpu' != jax.default_backend():
      raise ValueError(
        f'jax runs on {jax.default_backend()}: for device=cpu set the'
        ' environment variable JAX_PLATFORMS=cpu'
      )
    own, settings, said = model_args.read(values, batch_size)
    choice = model_args.choose(own)
    checks.whole('draws', own.draws, 1)
    known = lib.answers(own.answers or None)
    loaded, mesh = load(own)
    blocks = generator.blocks_of(loaded)
    self.choice = options.fitted(choice, blocks)
    if settings.kv_cache is None:
      settings = settings._replace(kv_cache=bool(blocks))
    self.passes: list[int] = []  # of each text that was written

    @functools.cache
    def writer_of(settings: generator.Settings) -> Writer:
      made = generator.prepare(
        loaded, self.choice, settings, mesh, LOG.info, 'request {}'.format
      )
      rest = settings._replace(batch=0, bucket=0)  # which change no text
      told = [
        self.choice.name, self.choice.settings(), own.dtype,
        options.digests(self.choice),
      ]
      return Writer(made.encode, made.write, [*told, rest._asdict()])

    def writer(wanted: dict) -> Writer:
      mine, sentences = model_args.asked(settings, said, wanted)
      for sentence in sentences:
        warn(sentence)
      return writer_of(mine)

    writer_of(settings)  # names what is wrong before a task is read
    score = likelihood.scorer(settings, loaded, own.draws)
    told = [own.draws, own.dtype, settings.seed, settings.prefix]
    digest = checkpoints.digest(loaded) if own.answers else ''
    super().__init__(Engine(
      own.pretrained, writer, score, loaded, told, settings.prefix, digest,
      likelihood.judge(settings, loaded),
    ), known)

  @classmethod
  def create_from_arg_string(
    cls, arg_string: str, additional_config: dict | None = None
  ) -> 'PuntJax':
    """As lm-eval's, which would end a value at a comma inside of brackets."""
    whole = re.sub(
      r'\([^()]*\)', lambda found: found[0].replace(',', ';'), arg_string
    )
    return super().create_from_arg_string(whole, additional_config)

  def generate_until(self, requests: Sequence[Any]) -> list[str]:
    """See Harness."""
    texts = super().generate_until(requests)
    self.passes += [row['nfe'] for row in self.used]
    return texts

  def chat_template(self, chat_template: bool | str = False) -> str:
    """lm-eval asks for it before anything else; the names are checked here."""
    if isinstance(chat_template, str):
      raise ValueError(
        f'a model has one chat template here, and none is called'
        f' {chat_template}: leave the name out'
      )
    if chat_template:
      self.apply_chat_template([{'role': 'user', 'content': ''}])
    return ''

  def get_model_info(self) -> dict[str, Any]:
    """What stands in lm-eval's results beside the scores."""
    told = {'sampler': self.choice.name, 'settings': self.choice.settings()}
    nfe = float(np.mean(self.passes)) if self.passes else None
    return {**told, 'nfe': nfe}  # forward passes of a text, mean


@functools.cache
def warn(sentence: str) -> None:
  """Says it once."""
  LOG.warning(sentence)


def load(
  own: model_args.Arguments
) -> tuple[checkpoints.Pretrained, Mesh | None]:
  """(checkpoints.Pretrained, mesh or None) of model_args.Arguments."""
  group, devices = checks.whole('group', own.group, 1), jax.devices()
  mesh = parallel.mesh(len(devices) // group, group) if group > 1 else None
  how: dict[str, Any] = dict(dtype=own.dtype, mesh=mesh, ignore=own.ignore)
  how = {name: value for name, value in how.items() if value}
  told = dict(block_length=own.model_block_length, mask_id=own.mask_id)
  how |= {name: value for name, value in told.items() if value >= 0}
  loaded = checkpoints.load(own.pretrained, **how)
  return lib.shared(loaded, mesh), mesh
