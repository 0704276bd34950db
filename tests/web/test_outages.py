"""The API while its database is away, and afterwards: no restart is needed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from pingvas import migrations
from pingvas.app import create_app
from pingvas.embedded import DataFolder, postgres
from pingvas.embedded.servers import forget_settings
from pingvas.web.problem import MEDIA_TYPE
from tests.conftest import allow_roles


class Database:
    """A PostgreSQL of the test's own that can be stopped."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        self.server = postgres.start(self._folder, durable=False)


@pytest.fixture
def own_database(
    fresh_settings: None, server_tmp: Path, monkeypatch: pytest.MonkeyPatch, broker: str
) -> Iterator[Database]:
    folder = DataFolder(server_tmp / "data")
    folder.make()
    database = Database(folder)
    monkeypatch.setenv("DATABASE_URL", database.server.url)
    forget_settings()
    migrations.upgrade()
    allow_roles()
    yield database
    database.server.stop()


def sign_up(client: FlaskClient) -> dict[str, str]:
    answer = client.post(
        "/api/v1/auth/register", json={"email": "artist@example.com", "password": "correct horse battery"}
    )
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {(answer.json or {})['access_token']}"}


def test_a_database_that_is_away_is_503_and_back_again_without_a_restart(own_database: Database) -> None:
    client = create_app().test_client(use_cookies=False)
    bearer = sign_up(client)
    order = {"prompt": "a red circle"}
    assert client.get("/api/v1/credits/balance", headers=bearer).status_code == 200
    assert client.post("/api/v1/generate", json=order, headers=bearer).status_code == 202
    own_database.server.stop()
    for _ in range(3):  # more often than there are dead connections in the pool
        for answer in (
            client.get("/api/v1/jobs", headers=bearer),
            client.post("/api/v1/generate", json=order, headers=bearer),
            client.post("/api/v1/auth/login", json={"email": "a@example.com", "password": "correct horse"}),
        ):
            assert (answer.status_code, answer.content_type) == (503, MEDIA_TYPE), answer.text
            assert int(answer.headers["Retry-After"]) > 0
            assert (answer.json or {})["code"] == "UNAVAILABLE"
    ready = client.get("/readyz")
    assert (ready.status_code, (ready.json or {})["checks"]["broker"]) == (503, "ok")
    assert client.get("/healthz").status_code == 200
    own_database.start()
    assert len((client.get("/api/v1/jobs", headers=bearer).json or {})["items"]) == 1
    assert client.post("/api/v1/generate", json=order, headers=bearer).status_code == 202
    assert client.get("/readyz").status_code == 200
