"""An API process of its own, without limits of rate, for tests that call it thousands of times."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pingvas import db
from pingvas.cli import programs
from pingvas.cli.programs import Place
from pingvas.cli.rest import Client
from pingvas.embedded import DataFolder, process
from tests.conftest import free_port, wait_until_ready

_UNLIMITED = ("LOGIN_ATTEMPTS", "ANONYMOUS_PER_MINUTE", "WRITES_PER_MINUTE", "READS_PER_MINUTE")


@dataclass(frozen=True)
class Api:
    """Where the process listens, what its environment is, and where it logs."""

    url: str
    environment: dict[str, str]
    log: Path


@pytest.fixture(scope="session")
def api(database: str, broker: str, data_folder: DataFolder) -> Iterator[Api]:
    """The API on a database of its own; nobody works on its jobs."""
    engine = create_engine(db.sqlalchemy_url(database.replace("pingvas@/pingvas", "postgres@/postgres")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE contract OWNER pingvas"))
    engine.dispose()
    environment = {
        **os.environ,
        **{f"PINGVAS_{name}": "0" for name in _UNLIMITED},
        "DATABASE_URL": database.replace("/pingvas?", "/contract?"),
        "PINGVAS_OAUTH_DISCORD_ID": "contract",
        "PINGVAS_OAUTH_DISCORD_URL": "http://127.0.0.1:9",  # where nobody listens
        "BROKER_URL": f"{broker.rpartition('/')[0]}/7",
    }
    command = [str(Path(sys.executable).with_name("pingvas")), "db", "upgrade"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    place = Place(data_folder, port=free_port())
    program = programs.api(place)
    log = data_folder.log("contract-api")
    child = process.spawn(
        program.argv, log=log, cwd=data_folder.path, env=programs.environment(program) | environment
    )
    try:
        wait_until_ready(Client(place.url), {"api": child}, lambda _: log)
        yield Api(place.url, environment, log)
    finally:
        child.terminate()
        process.wait_or_kill(child, 30)
