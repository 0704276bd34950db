"""An environment without servers, as a newcomer's machine has it."""

import subprocess
from pathlib import Path

import pytest

from pingvas.embedded import DataFolder, postgres

_NAMES = ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "PINGVAS_SECRET_KEY")


@pytest.fixture(scope="session")
def cluster(data_folder: DataFolder) -> Path:
    """A cluster that has never been used, to copy: initdb takes seconds."""
    made = DataFolder(data_folder.path / "template")
    made.make()
    postgres.start(made, durable=False).stop()
    return made.postgres


@pytest.fixture
def empty_folder(fresh_settings: None, server_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder of the test's own; settings name no server."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PINGVAS_DATA_DIR", str(server_tmp / "data"))
    made = DataFolder(server_tmp / "data")
    made.make()
    return made


@pytest.fixture
def folder(empty_folder: DataFolder, cluster: Path) -> DataFolder:
    """The same with a database cluster in it."""
    subprocess.run(["cp", "-a", str(cluster), str(empty_folder.postgres)], check=True)
    return empty_folder
