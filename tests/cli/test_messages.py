"""What a person reads when something is in the way: one line, no traceback, status 1."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingvas.cli import generate, up
from pingvas.cli.console import CommandError
from pingvas.cli.rest import ApiError
from tests.cli.conftest import own_environment, run_command


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield str(holder.getsockname()[1])


def test_version_and_help() -> None:
    assert run_command(dict(os.environ), "--version").stdout.startswith("pingvas, version ")
    listed = run_command(dict(os.environ), "--help").stdout
    assert all(
        name in listed for name in ("up", "generate", "doctor", "db", "user", "models", "queues", "worker")
    )


def test_a_port_in_use(tmp_path: Path, taken_port: str) -> None:
    done = run_command(own_environment(tmp_path), "up", "--port", taken_port)
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {taken_port} on 127.0.0.1: address already in use. Choose another with --port.\n"
    )
    done = run_command(own_environment(tmp_path), "up", "--port", "1", "--flower-port", taken_port)
    assert "Port" in done.stderr


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_command(own_environment(tmp_path), "up", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    done = run_command({**own_environment(tmp_path), "PINGVAS_LEASE_SECONDS": "soon"}, "up")
    assert done.returncode == 1
    assert done.stderr.startswith("PINGVAS_LEASE_SECONDS: ")


def test_generate_with_nothing_running(tmp_path: Path) -> None:
    done = run_command(own_environment(tmp_path / "data"), "generate", "a red circle")
    assert done.returncode == 1
    assert done.stderr.startswith("Nothing runs on ")
    assert "pingvas up" in done.stderr


def test_generate_where_nobody_listens(tmp_path: Path, taken_port: str) -> None:
    arguments = ("generate", "a red circle", "--url", "http://127.0.0.1:1", "--key", "pv_x")
    done = run_command(own_environment(tmp_path), *arguments)
    assert (done.returncode, done.stderr.partition(" (")[0]) == (1, "Nothing answers at http://127.0.0.1:1")


def test_queues_with_nothing_running(tmp_path: Path) -> None:
    assert run_command(own_environment(tmp_path), "queues").stderr.startswith("Nothing runs on ")


def test_queues_without_the_servers_says_which_are_away(tmp_path: Path) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "BROKER_URL": "redis://127.0.0.1:1/0"}
    done = run_command(own_environment(tmp_path) | nowhere, "queues")
    assert done.returncode == 1
    assert "enterprise" in done.stdout
    assert "The database does not answer" in done.stdout
    assert "The broker cannot be reached" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--queues", "enterprise,stduio"), "There is no queue 'stduio'; there are enterprise, studio, pro"),
        (("--families", "sdxl"), "Families have queues of their own only with PINGVAS_ROUTING=family."),
        (("--control", "--queues", "free"), "--control goes with neither --queues nor --families."),
        (("--name", "a b"), "--name is letters, digits"),
    ],
)
def test_a_worker_that_is_asked_for_nonsense(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "BROKER_URL": "redis://127.0.0.1:1/0"}
    done = run_command(own_environment(tmp_path) | nowhere, "worker", *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr


def test_a_worker_with_nothing_running(tmp_path: Path) -> None:
    done = run_command(own_environment(tmp_path), "worker")
    assert done.stderr.startswith("DATABASE_URL and BROKER_URL are not set")


def test_an_external_database_that_is_away(tmp_path: Path) -> None:
    environment = {**own_environment(tmp_path), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = run_command(environment, "db", "upgrade")
    assert done.returncode == 1
    assert done.stderr.startswith("The database does not answer as it should: ")
    assert done.stderr.count("\n") == 1


def test_doctor_names_what_is_wrong_and_its_mend(tmp_path: Path) -> None:
    environment = {**own_environment(tmp_path), "BROKER_URL": "redis://127.0.0.1:1/0"}
    done = run_command(environment, "doctor")
    assert done.returncode == 1
    assert "To mend: broker" in done.stderr
    assert "BROKER_URL" in done.stdout


def test_up_says_what_the_worker_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"The worker lacks torch, .*pip install 'pingvas\[gpu\]'"):
        up.check_packages()


def test_only_what_was_asked_for_is_ordered() -> None:
    body = generate.order_body("a cat", model=None, seed=0, steps=None, size=256)
    assert body == {"prompt": "a cat", "seed": 0, "width": 256, "height": 256}


def test_each_wrong_field_is_named_once() -> None:
    errors = [{"loc": [name], "msg": "Field required", "type": "missing"} for name in ("width", "height")]
    problem = {"detail": "width: Field required (1 more in `errors`)", "errors": errors}
    assert str(ApiError(422, problem)) == "width: Field required; height: Field required"
    assert str(ApiError(409, {"detail": "It has ended."})) == "It has ended."
