"""Each process gets a role of its own; what is connected past the policies is told."""

from pathlib import Path

import pytest

from pingvas import app, db, roles, settings
from pingvas.cli import checks, programs
from pingvas.cli.programs import Place
from pingvas.embedded import DataFolder, postgres
from pingvas.embedded.servers import forget_settings

EXTERNAL = "postgresql://somebody:secret@db.example.com/pingvas"


@pytest.mark.parametrize(
    ("make", "role"),
    [
        (programs.api, roles.API),
        (programs.gpu_worker, roles.WORKER),
        (programs.control_worker, roles.CONTROL),
        (programs.beat, roles.CONTROL),
    ],
)
def test_a_program_signs_in_with_its_role(make: object, role: str, tmp_path: Path) -> None:
    program = make(Place(DataFolder(tmp_path)))  # type: ignore[operator]
    assert programs.environment(program)["DATABASE_URL"].startswith(f"postgresql://{role}@/pingvas?host=")


def test_another_servers_url_is_the_operators() -> None:
    assert postgres.as_role(EXTERNAL, roles.API) == EXTERNAL


@pytest.mark.parametrize(("role", "warnings"), [("pingvas", 1), ("postgres", 1), (roles.API, 0)])
def test_an_api_that_row_security_does_not_bind_warns_once(
    role: str,
    warnings: int,
    clean_db: None,
    fresh_settings: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = settings.get().database_url.replace("pingvas@/pingvas", f"{role}@/pingvas")
    monkeypatch.setenv("DATABASE_URL", url)
    forget_settings()
    app._warn_of_owner.cache_clear()
    client = app.create_app().test_client()
    assert [client.get("/readyz").status_code for _ in range(2)] == [200, 200]
    found = [record for record in caplog.records if "DATABASE_URL" in record.getMessage()]
    assert [record.levelname for record in found] == ["WARNING"] * warnings


@pytest.mark.usefixtures("clean_db")
def test_doctor_names_those_whom_row_security_does_not_bind() -> None:
    with db.engine().connect():  # of the owner, as in all tests
        found = checks.database_roles()
    assert found.state == "note"
    assert "pingvas (owner)" in found.text
