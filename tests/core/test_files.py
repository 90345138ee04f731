"""Files and folders: whole or not there; what is no plain file is not read."""

import os
import pathlib

import pytest

from punt_jax import files


def test_a_new_folder_is_whole_or_not_there(tmp_path):
  folder = tmp_path / 'deep' / 'x'
  with files.new_folder(folder) as part:
    (part / 'a').write_text('1')
    assert not folder.exists()
  assert [file.name for file in folder.iterdir()] == ['a']
  assert list(folder.parent.iterdir()) == [folder]
  with pytest.raises(ValueError, match='there already and is no empty folder'):
    with files.new_folder(folder):
      raise AssertionError
  (folder / 'a').unlink()
  with pytest.raises(KeyboardInterrupt):
    with files.new_folder(folder) as part:
      (part / 'b').mkdir()
      raise KeyboardInterrupt
  assert list(folder.parent.rglob('*')) == [folder]


def test_a_new_folder_after_a_kill_and_beside_a_rival(tmp_path):
  left = tmp_path / '.x.part'
  (left / 'old').mkdir(parents=True)
  (left / 'half').write_text('')
  with files.new_folder(tmp_path / 'x') as part:
    assert [file.name for file in part.iterdir()] == [files.LOCK]
    with pytest.raises(ValueError, match='is in use by another run'):
      with files.new_folder(tmp_path / 'x'):
        raise AssertionError
    (part / 'a').write_text('1')
  assert [file.name for file in (tmp_path / 'x').iterdir()] == ['a']


def test_only_plain_files_of_a_size_are_read(tmp_path):
  file = tmp_path / 'x'
  assert files.size(file) is None and files.size(file / 'y') is None
  file.write_bytes(b'12345')
  assert files.size(file) == 5 and files.read(file, 5) == b'12345'
  assert files.size(file / 'y') is None
  (tmp_path / 'link').symlink_to(file)
  assert files.read(tmp_path / 'link', 5) == b'12345'
  with pytest.raises(ValueError, match='has more than 4 bytes, too many'):
    files.read(file, 4)
  with pytest.raises(ValueError, match='x2 is missing'):
    files.read(tmp_path / 'x2')
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'gone').symlink_to(tmp_path / 'nothing')
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  for path, said in (
    (tmp_path, 'is a folder, and must be a file'),
    (tmp_path / 'pipe', 'is a device or a pipe'),
    (pathlib.Path('/dev/zero'), 'is a device or a pipe'),
    (tmp_path / 'gone', 'is a link to a file that is absent'),
    (tmp_path / 'loop', 'cannot be read: '), ('a\0b', 'cannot be read: '),
    ('x' * 5000, 'x{200} cannot be read: '),
  ):
    with pytest.raises(ValueError, match=said):
      files.read(path)


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='Linux')
def test_files_that_claim_no_bytes():
  assert files.size('/proc/self/status') == 0
  assert files.read('/proc/self/status').startswith(b'Name:')
  with pytest.raises(ValueError, match='has more than 4 bytes'):
    files.read('/proc/self/status', 4)
