"""Antibodies: chains and loops, the judge by hand, the grid on tiny models."""

import os

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import antibody as config_file
from experiments.antibody import __main__ as antibody
from experiments.antibody import chains, models, plot, writer
from experiments.antibody import judge as antibody_judge
from experiments.antibody import natural as antibody_natural
from punt_jax.checkpoints import huggingface
from tests.helpers import parity

WORDS = ('<s>', '<pad>', '</s>', '<unk>', *models.RESIDUES, '<mask>')
CONFIG = parity.SMALL['roberta'] | dict(
  vocab_size=25, mask_token_id=24, max_position_embeddings=140,
)
TRASTUZUMAB = antibody_natural.HEAVY['trastuzumab']


def tiny(**changes):
  config = config_file.get_config()
  # Random weights are far too sure of what they say.
  config.update(rows=5, chunk=3, judged=4, groups=3, temperature=20.0)
  config.tasks = dict(loops=dict(
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
  """(workdir, rows) of a run in which both wheels hold the tiny model."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(antibody, 'load', fake(model))
    return workdir, antibody.run(tiny(), workdir)


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
  for domain in antibody_natural.HEAVY.values():
    assert 20 <= chains.loops(domain).sum() <= 35
  light = antibody_natural.LIGHT['trastuzumab']
  with pytest.raises(ValueError, match='lacks the landmarks'):
    chains.loops(light)


def test_every_natural_chain_is_recognized_from_the_others():
  heavy = antibody_natural.HEAVY | antibody_natural.MORE_HEAVY
  light = antibody_natural.LIGHT | antibody_natural.MORE_LIGHT
  for name, domains in (('heavy', heavy), ('light', light)):
    for one in domains.values():
      table = chains.profiles(
        *([x for x in all_.values() if x != one] for all_ in (heavy, light))
      )
      assert chains.chain(one, table) == name, one


def test_chains_that_change_are_mixed_and_noise_is_unclear():
  heavy = TRASTUZUMAB
  for light in antibody_natural.LIGHT.values():
    for chimera in (light[:60] + heavy[60:], light[:90] + heavy[-30:],
                    heavy[:60] + light[50:]):
      assert chains.chain(chimera) == 'mixed'
    loop = slice(light.rindex('YYC') + 3, -10)  # CDR3 of the other chain
    grafted = light.replace(light[loop], 'SRWGGDGFYAMDY')
    assert chains.chain(grafted) == 'mixed'
  random = np.random.default_rng(0)
  letters = list(''.join(antibody_natural.HEAVY.values()))
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
  found = antibody_judge.score(model, domains, open_, 3, 3, 0)
  assert found == pytest.approx(wanted, rel=1e-4)
  shuffled = model._replace(
    params=jax.tree.map(lambda x: x[..., ::-1], model.params)
  )
  other = antibody_judge.score(shuffled, domains, open_, 3, 3, 0)
  least = antibody_judge.least([model, shuffled], domains, open_, 3, 3, 0)
  assert least == pytest.approx(np.minimum(found, other), rel=1e-5)
  assert abs(found - other).max() > 1e-3


def test_a_row_for_each_setting(finished):
  workdir, rows = finished
  assert [(r['sampler'], r['label'], r['rows']) for r in rows] == [
    ('natural', '', 12), ('top_k', 'k 10, score entropy', 5),
    ('top_k', 'k 40, score entropy', 5),
  ]
  assert all(np.isfinite(row['nll']) for row in rows)
  assert rows[2]['nfe'] == 1 and 2 < rows[1]['nfe'] < 4
  assert rows[0]['heavy'] == 1
  frame = ~chains.loops(TRASTUZUMAB)
  for row in rows[1:]:
    first = np.array(list(row['examples'][0]))
    assert (first == list(TRASTUZUMAB))[frame].all()
    assert (first != list(TRASTUZUMAB))[~frame].mean() > 0.5
    assert set(first) <= set(models.RESIDUES)
    file = workdir / 'domains' / f'loops top_k {row["label"]}'
    assert file.read_text().split()[:4] == row['examples']
  assert image.imread(workdir / 'antibody.png').std() > 0.05
  table = (workdir / 'table.md').read_text().splitlines()
  assert len(table) == 2 + 3 and '| natural |' in table[-1]


def test_table_by_hand():
  row = dict(
    task='loops', sampler='one_by_one', label='', nfe=28.44, nll=1.0,
    nll_error=0.03, heavy=0.5, light=0.25, mixed=0.25, distinct_3=0.2,
    identity=0.7, duplicates=0.0,
  )
  worse = row | dict(
    sampler='uniform', label='k 7', nfe=4.0, nll=1.5, nll_error=0.04
  )
  lines = plot.table([worse, row]).splitlines()
  wanted = (
    '| loops | uniform k 7 | 4.0 | 1.50 +- 0.04 | 0.50 +- 0.05 | 0.75 | 0.25 |'
    ' 0.20 | 0.70 | 0.00 |'
  )
  assert lines[3] == wanted
  assert '| 28.4 | 1.00 +- 0.03 | 0 |' in lines[2]


def test_a_stopped_run_goes_on(finished, model, tmp_path, monkeypatch):
  workdir, rows = finished
  lines = (workdir / 'results.jsonl').read_text().splitlines(keepends=True)
  (tmp_path / 'config.json').write_text((workdir / 'config.json').read_text())
  (tmp_path / 'results.jsonl').write_text(''.join(lines[:2]) + lines[2][:30])
  monkeypatch.setattr(antibody, 'load', fake(model))
  again = antibody.run(tiny(), tmp_path)
  written = (tmp_path / 'results.jsonl').read_text().splitlines(keepends=True)
  assert written[:2] == lines[:2] and len(written) == 3
  timeless = lambda row: {
    key: value for key, value in row.items()
    if key not in ('seconds', 'judge_seconds', 'compiled')
  }
  assert [*map(timeless, again)] == [*map(timeless, rows)]


def test_domains_do_not_depend_on_what_is_written_together(finished, model):
  config = tiny(chunk=5)  # 3 in the run that is finished, so 6 were written
  point = antibody.points(config)[1]
  open_ = writer.canvases(config, 'loops')
  run = writer.compile_one(config, model, point.choice, 130)
  decoded, domains = writer.write(
    config, model, point.choice, run, open_
  )
  assert decoded.tokens.shape[0] == len(set(domains)) == 5
  assert domains[:4] == finished[1][1]['examples']


def test_canvases():
  config = tiny(shown=4)
  found = writer.canvases(config, 'domain')
  assert found[0] == 'EVQL' + '_' * 116 and len(found) == 5
  config = tiny(lengths=(7, 9))
  found = writer.canvases(config, 'domain')
  assert [len(c) for c in found] == [7, 9, 7, 9, 7] and set(found[1]) == {'_'}
  assert len(writer.natural(config, 'domain')[0]) == 25


def test_bad_input_is_one_sentence(tmp_path):
  for name in ('sapiens', 'antiberty'):
    with pytest.raises(ValueError, match='fetch it with pip download --no-d'):
      antibody.load(name, tmp_path)
  for changes, said in (
    (dict(tasks=dict(cdrs={})), "unknown task 'cdrs'"),
    (dict(asked=4), 'asked = 4'),
    (dict(model='esm'), "unknown model 'esm'"),
  ):
    with pytest.raises(ValueError, match=said):
      antibody.run(tiny(**changes), tmp_path / 'none', tmp_path)
  assert not (tmp_path / 'none').exists()
  for size in ('sapiens', 'antiberty', 'short'):
    assert antibody.points(config_file.get_config(size))


@pytest.mark.slow
def test_the_wheels_write_heavy_chains():
  wheels = os.environ.get('ANTIBODY_WHEELS')
  if not wheels:
    pytest.skip('ANTIBODY_WHEELS names no folder with the wheels')
  config = tiny(rows=8, chunk=8, temperature=0.5)
  model = antibody.load('sapiens', wheels)['heavy']
  judge = antibody.load('antiberty', wheels)['both']
  config.tasks = dict(domain=dict(top_k=dict(k=7, score='entropy')))
  point = antibody.points(config)[1]
  run = writer.compile_one(config, model, point.choice, 120)
  open_ = writer.canvases(config, 'domain')
  _, domains = writer.write(config, model, point.choice, run, open_)
  labels = [chains.chain(domain) for domain in domains]
  assert labels.count('heavy') >= 7
  nll = antibody_judge.score(judge, domains, open_, 6, 1, 0)
  assert nll.mean() < 1.5  # residues drawn at random: 3
  natural = list(antibody_natural.HEAVY.values())
  canvases = ['_' * len(domain) for domain in natural]
  nll = antibody_judge.score(judge, natural, canvases, 6, 1, 0)
  assert nll.mean() < 0.9
