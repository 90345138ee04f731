"""Antibodies: chains and loops, the judge by hand, the grid on tiny models."""

import os

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import antibody as configs
from experiments.antibody import __main__ as antibody
from experiments.antibody import chains, judge, models, natural, plot, writer
from punt_jax.checkpoints import huggingface
from punt_jax.generation import options
from tests.helpers import parity

WORDS = ('<s>', '<pad>', '</s>', '<unk>', *models.RESIDUES, '<mask>')
CONFIG = parity.SMALL['roberta'] | dict(
  vocab_size=25, mask_token_id=24, max_position_embeddings=140,
)
TRASTUZUMAB = natural.HEAVY['trastuzumab']


def tiny(**changes):
  config = configs.get_config()
  # Random weights are far too sure of what they say.
  config.update(rows=5, chunk=3, judged=4, groups=3, temperature=20.0)
  config.subjects = dict(loops=dict(
    top_k=dict(k=(10, 40), score='entropy')
  ))
  config.update(changes)
  return config


@pytest.fixture(scope='module')
def model():
  arrays = parity.arrays(huggingface.layout(CONFIG))
  return models.build(
    models.Checkpoint(CONFIG, arrays, WORDS)
  )


@pytest.fixture(scope='module')
def finished(model, tmp_path_factory):
  """(workdir, rows, what wrote them) where both wheels hold the tiny model."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  runs, compile_one = [], writer.compile_one
  kept = lambda *args: runs.append(compile_one(*args)) or runs[-1]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(antibody, 'load', fake(model))
    patch.setattr(writer, 'compile_one', kept)
    return workdir, antibody.run(tiny(), workdir), runs


def fake(model):
  return lambda name, _: {
    'sapiens': {'heavy': model, 'light': model}, 'antiberty': {'both': model}
  }[name]


def test_loops_of_natural_chains():
  inside = chains.loops(TRASTUZUMAB)
  found = ''.join(np.where(inside, list(TRASTUZUMAB), '-'))
  assert found.replace('-', ' ').split() == [
    'GFNIKDTY', 'IYPTNGYT', 'SRWGGDGFYAMDY'
  ]
  for domain in natural.HEAVY.values():
    assert 20 <= chains.loops(domain).sum() <= 35
  light = natural.LIGHT['trastuzumab']
  with pytest.raises(ValueError, match='lacks the landmarks'):
    chains.loops(light)


def test_every_natural_chain_is_recognized_from_the_others():
  heavy = natural.HEAVY | natural.MORE_HEAVY
  light = natural.LIGHT | natural.MORE_LIGHT
  for name, domains in (('heavy', heavy), ('light', light)):
    for one in domains.values():
      table = chains.profiles(
        *([x for x in all_.values() if x != one] for all_ in (heavy, light))
      )
      assert chains.chain(one, table) == name, one


def test_chains_that_change_are_mixed_and_noise_is_unclear():
  heavy = TRASTUZUMAB
  for light in natural.LIGHT.values():
    for chimera in (light[:60] + heavy[60:], light[:90] + heavy[-30:],
                    heavy[:60] + light[50:]):
      assert chains.chain(chimera) == 'mixed'
    loop = slice(light.rindex('YYC') + 3, -10)  # CDR3 of the other chain
    grafted = light.replace(light[loop], 'SRWGGDGFYAMDY')
    assert chains.chain(grafted) == 'mixed'
  random = np.random.default_rng(0)
  letters = list(''.join(natural.HEAVY.values()))
  noise = [''.join(random.choice(letters, 118)) for _ in range(50)]
  labels = [chains.chain(domain) for domain in noise]
  assert labels.count('unclear') >= 46


def test_profile_and_variety_by_hand():
  logs = chains.profile(['AC', 'AD'])
  # Half a count is added for each of the 20 residues.
  assert np.exp(logs[0, :2]) == pytest.approx([2.5 / 12, 0.5 / 12])
  assert np.exp(logs[1, :3]) == pytest.approx([0.5 / 12, 1.5 / 12, 1.5 / 12])
  found = chains.variety(['AAAA', 'AAAC', 'AAAA', 'CCC'])
  assert found == pytest.approx(  # AAA, AAC, CCC of 7; pairs 3/4, 1, 3/4
    dict(distinct_3=3 / 7, identity=2.5 / 3, duplicates=1 / 4)
  )


def test_the_judge_by_hand(model):
  domains, open_ = ['EVQLV', 'DIQMT'], ['E__L_', '___MT']
  wanted = []
  forward = jax.jit(model.module.apply)
  for domain, canvas in zip(domains, open_, strict=True):
    ids = models.encode(model, domain)
    parts = []
    for place in (i for i, c in enumerate(canvas) if c == '_'):
      hidden = ids.copy()
      hidden[place + 1] = model.mask
      logits = np.asarray(forward({'params': model.params}, hidden[None]))[0]
      own = np.exp(logits[place + 1, 4:24].astype(float))
      parts.append(-np.log(own[ids[place + 1] - 4] / own.sum()))
    wanted.append(np.mean(parts))
  # Three groups of one residue each: the split does not matter.
  found = judge.score(model, domains, open_, 3, 3, 0)
  assert found == pytest.approx(wanted, rel=1e-4)
  shuffled = model._replace(
    params=jax.tree.map(lambda x: x[..., ::-1], model.params)
  )
  other = judge.score(shuffled, domains, open_, 3, 3, 0)
  least = judge.least([model, shuffled], domains, open_, 3, 3, 0)
  assert least == pytest.approx(np.minimum(found, other), rel=1e-5)
  assert abs(found - other).max() > 1e-3


def test_a_row_for_each_setting(finished):
  workdir, rows, runs = finished
  assert len(runs) == 1  # whoever shares a compilation stands together
  assert [(r['sampler'], r['settings'].get('k'), r['rows']) for r in rows] == [
    ('natural', None, 12), ('top_k', 10, 5), ('top_k', 40, 5),
  ]
  assert {row['length'] for row in rows} == {123}  # of the longest canvas
  assert all(np.isfinite(row['nll']) for row in rows)
  assert rows[2]['nfe'] == 1 and 2 < rows[1]['nfe'] < 4
  assert rows[0]['heavy'] == 1
  frame = ~chains.loops(TRASTUZUMAB)
  for row in rows[1:]:
    first = np.array(list(row['examples'][0]))
    assert (first == list(TRASTUZUMAB))[frame].all()
    assert (first != list(TRASTUZUMAB))[~frame].mean() > 0.5
    assert set(first) <= set(models.RESIDUES)
    label = f'k {row["settings"]["k"]}, score entropy'
    file = workdir / 'domains' / f'loops top_k {label}'
    assert file.read_text().split()[:4] == row['examples']
  assert image.imread(workdir / 'antibody.png').std() > 0.05
  table = (workdir / 'table.md').read_text().splitlines()
  assert len(table) == 2 + 3 and '| natural |' in table[-1]


def test_table_by_hand():
  row = dict(
    subject='loops', sampler='one_by_one', settings={}, nfe=28.44, nll=1.0,
    nll_error=0.03, heavy=0.5, light=0.25, mixed=0.25, distinct_3=0.2,
    identity=0.7, duplicates=0.0,
  )
  worse = row | dict(
    sampler='uniform', settings={'k': 7.0}, nfe=4.0, nll=1.5, nll_error=0.04
  )
  lines = plot.markdown([worse, row]).splitlines()
  wanted = (
    '| loops | uniform k 7 | 4.0 | 1.50 +- 0.04 | 0.50 +- 0.05 | 0.75 | 0.25 |'
    ' 0.20 | 0.70 | 0.00 |'
  )
  assert lines[3] == wanted
  assert '| 28.4 | 1.00 +- 0.03 | 0 |' in lines[2]


def test_domains_do_not_depend_on_what_is_written_together(finished, model):
  """The fifth canvas stood beside the fourth, here the first one does."""
  _, rows, (run,) = finished
  config = tiny()
  choice = antibody.cases(config)[1][1]
  open_ = antibody.canvases(config, 'loops')[:4]
  decoded, domains = writer.write(model, choice, run, open_, 3, config.seed)
  assert decoded.tokens.shape[0] == len(set(domains)) == 4
  assert domains == rows[1]['examples']


def test_canvases():
  found = writer.canvases('domain', 5, (), 4)
  assert found[0] == 'EVQL' + '_' * 116 and len(found) == 5
  found = writer.canvases('domain', 5, (7, 9), 4)
  assert [len(c) for c in found] == [7, 9, 7, 9, 7] and set(found[1]) == {'_'}
  assert len(writer.natural('domain', (7, 9), 4)[0]) == 25


def test_bad_input_is_one_sentence(tmp_path):
  for name in ('sapiens', 'antiberty'):
    with pytest.raises(ValueError, match='fetch it with pip download --no-d'):
      antibody.load(name, tmp_path)
  for changes, said in (
    (dict(subjects=dict(cdrs={})), "unknown subject 'cdrs'"),
    (dict(asked=4), 'asked = 4'),
    (dict(model='esm'), "unknown model 'esm'"),
  ):
    with pytest.raises(ValueError, match=said):
      antibody.run(tiny(**changes), tmp_path / 'none', tmp_path)
  assert not (tmp_path / 'none').exists()
  for size in ('sapiens', 'antiberty', 'short'):
    assert antibody.cases(configs.get_config(size))


@pytest.mark.slow
def test_the_wheels_write_heavy_chains():
  wheels = os.environ.get('ANTIBODY_WHEELS')
  if not wheels:
    pytest.skip('ANTIBODY_WHEELS names no folder with the wheels')
  model = antibody.load('sapiens', wheels)['heavy']
  other = antibody.load('antiberty', wheels)['both']
  choice = options.choose('top_k', dict(k=7, score='entropy'))
  run = writer.compile_one(model, choice, 120, 0.5)
  open_ = writer.canvases('domain', 8, (), 4)
  _, domains = writer.write(model, choice, run, open_, 8, 0)
  labels = [chains.chain(domain) for domain in domains]
  assert labels.count('heavy') >= 7
  nll = judge.score(other, domains, open_, 6, 1, 0)
  assert nll.mean() < 1.5  # residues drawn at random: 3
  known = list(natural.HEAVY.values())
  nll = judge.score(other, known, ['_' * len(x) for x in known], 6, 1, 0)
  assert nll.mean() < 0.9
