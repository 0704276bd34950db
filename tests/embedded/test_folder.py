"""The data folder: its secrets, its lock, and what a person reads when it cannot be used."""

import stat
from pathlib import Path

import pytest

from pingvas.embedded import BusyError, DataFolder, EmbeddedError, Instance
from pingvas.embedded.process import Identity


def test_a_secret_is_made_once_and_for_its_owner_only(empty_folder: DataFolder) -> None:
    key = empty_folder.secret_key()
    assert len(key) == 64
    assert empty_folder.secret_key() == key
    assert stat.S_IMODE((empty_folder.path / "secret.key").stat().st_mode) == 0o600


def test_two_folders_have_different_secrets(empty_folder: DataFolder, tmp_path: Path) -> None:
    other = DataFolder(tmp_path / "other")
    other.make()
    assert other.secret_key() != empty_folder.secret_key()


def test_the_second_comer_hears_where_the_first_one_runs(empty_folder: DataFolder) -> None:
    with empty_folder.lock():
        empty_folder.write(Instance({"DATABASE_URL": "x"}, url="http://127.0.0.1:8000"))
        with pytest.raises(BusyError, match=r"already runs .* http://127\.0\.0\.1:8000"), empty_folder.lock():
            pass
    with empty_folder.lock():
        pass


def test_an_instance_that_was_killed_is_not_running(empty_folder: DataFolder) -> None:
    written = Instance({"DATABASE_URL": "x"}, processes={"api": Identity(1, 2.0)})
    with empty_folder.lock():
        empty_folder.write(written)
        assert empty_folder.running() == written
    assert empty_folder.running() is None
    assert empty_folder.read() == written
    assert stat.S_IMODE((empty_folder.path / "instance.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": {"api": {}}}', '{"processes": {}, "new": 1}'])
def test_an_instance_file_that_cannot_be_read_is_none(empty_folder: DataFolder, text: str) -> None:
    (empty_folder.path / "instance.json").write_text(text)
    assert empty_folder.read() is None


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot be written .*--data-dir"):
        DataFolder(tmp_path / "file" / "data").make()
