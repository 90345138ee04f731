"""The quick-start notebook runs and shows what it promises."""

import pathlib

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = ROOT / 'experiments' / 'notebooks' / 'quickstart.ipynb'


@pytest.fixture(scope='module')
def outputs(tmp_path_factory):
  """Every output of the executed notebook; any error in a cell raises."""
  notebook = nbformat.read(PATH, as_version=4)
  folder = tmp_path_factory.mktemp('notebook')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', str(ROOT))
    patch.delenv('MPLBACKEND', raising=False)
    nbclient.NotebookClient(
      notebook, timeout=300, kernel_name='python3',
      resources={'metadata': {'path': str(folder)}},
    ).execute()
  assert list(folder.iterdir()) == []
  return [o for cell in notebook.cells for o in cell.get('outputs', [])]


@pytest.fixture(scope='module')
def table(outputs):
  """{sampler: [NFE, steps, broken, log p]} as printed."""
  text = next(o.text for o in outputs if 'NFE' in o.get('text', ''))
  lines = text.splitlines()[1:]
  return {row[:22].strip(): [*map(float, row[22:].split())] for row in lines}


def test_committed_without_outputs():
  for cell in nbformat.read(PATH, as_version=4).cells:
    assert not cell.get('outputs') and not cell.get('execution_count')


@pytest.mark.slow
def test_one_picture(outputs):
  pictures = [o for o in outputs if 'image/png' in o.get('data', {})]
  assert len(pictures) == 1


@pytest.mark.slow
def test_punt_is_cheaper_and_keeps_the_distribution(table):
  exact, punt = table['one_by_one'], table['punt, epsilon = 0.03']
  fast, dist = table['top_k, k = 3'], table['the world itself']
  assert exact[:2] == [128, 128]
  assert punt[0] < 64 and fast[1] == 43
  assert abs(exact[3] - dist[1]) < 0.05 and abs(punt[3] - dist[1]) < 0.05
  assert punt[2] < 2 * dist[0] < fast[2]
