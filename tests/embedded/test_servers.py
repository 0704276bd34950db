"""The embedded servers: they keep what they were given, whatever ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from pingvas import db, embedded, settings
from pingvas.embedded import DataFolder, postgres, process
from pingvas.embedded.process import Identity
from pingvas.embedded.servers import forget_settings

_HOLDER = """
import signal, sys
from pathlib import Path
from pingvas import embedded
folder = embedded.DataFolder(Path(sys.argv[1]))
folder.make()
with folder.lock(), embedded.running(folder):
    print("up", flush=True)
    signal.pause()
"""


@contextmanager
def servers(folder: DataFolder) -> Iterator[embedded.Instance]:
    with folder.lock(), embedded.running(folder) as running:
        yield running.instance


@contextmanager
def held_by_another(folder: DataFolder) -> Iterator[subprocess.Popen[str]]:
    """Run the servers in a process of their own, which a test may kill."""
    argv = [sys.executable, "-c", _HOLDER, str(folder.path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "up\n"
        started = list(instance_of(folder).processes.values())
        try:
            yield holder
        finally:
            holder.kill()
            wait_gone(started)  # they end a moment after it, and must not write into a removed folder


def remember(instance: embedded.Instance, word: str) -> None:
    with psycopg.connect(instance.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])
    with redis.Redis.from_url(instance.environment["BROKER_URL"]) as client:
        client.rpush("words", word)


def remembered(instance: embedded.Instance) -> tuple[list[str], list[str]]:
    with psycopg.connect(instance.environment["DATABASE_URL"]) as connection:
        rows = [row[0] for row in connection.execute("SELECT word FROM words")]
    with redis.Redis.from_url(instance.environment["BROKER_URL"], decode_responses=True) as client:
        return rows, [str(word) for word in client.lrange("words", 0, -1)]


def instance_of(folder: DataFolder) -> embedded.Instance:
    found = folder.read()
    assert found
    return found


def wait_gone(identities: list[Identity]) -> None:
    deadline = time.monotonic() + 20
    while any(identity.process() for identity in identities):
        assert time.monotonic() < deadline, "a server outlived its parent"
        time.sleep(0.05)


def test_data_survives_a_stop(folder: DataFolder) -> None:
    with servers(folder) as instance:
        remember(instance, "one")
        started = list(instance.processes.values())
    assert not any(identity.process() for identity in started)
    assert folder.read() is None
    with servers(folder) as instance:
        assert remembered(instance) == (["one"], ["one"])


def test_the_database_is_no_superusers_and_the_broker_wants_its_password(folder: DataFolder) -> None:
    with servers(folder) as instance:
        with psycopg.connect(instance.environment["DATABASE_URL"]) as connection:
            found = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert found == (False,)
        address = instance.environment["BROKER_URL"].rpartition("@")[2]
        with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(f"redis://{address}") as client:
            client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_servers_end_with_a_parent_that_is_killed(folder: DataFolder) -> None:
    with held_by_another(folder) as holder:
        instance = instance_of(folder)
        remember(instance, "before the kill")
        holder.kill()
        holder.wait()
        wait_gone(list(instance.processes.values()))
    with servers(folder) as again:
        assert remembered(again) == (["before the kill"], ["before the kill"])


def test_data_survives_when_everything_is_killed_at_once(folder: DataFolder) -> None:
    with held_by_another(folder) as holder:
        instance = instance_of(folder)
        remember(instance, "before the crash")
        for pid in (holder.pid, *(identity.pid for identity in instance.processes.values())):
            os.kill(pid, signal.SIGKILL)
    with servers(folder) as again:
        rows, words = remembered(again)
    assert rows == ["before the crash"]
    assert words in (["before the crash"], [])  # Redis writes once a second; nothing depends on it


def test_ctrl_c_of_the_terminal_does_not_reach_the_servers(folder: DataFolder) -> None:
    with held_by_another(folder):
        for identity in instance_of(folder).processes.values():
            assert os.getsid(identity.pid) != os.getsid(0)


def test_servers_that_outlived_their_parent_are_ended_first(folder: DataFolder) -> None:
    old = postgres.start(folder, durable=False)
    assert old.identity
    with servers(folder) as instance:
        assert old.identity.process() is None
        remember(instance, "still works")
    old.stop()


def test_a_pid_file_whose_number_is_another_process_is_no_obstacle(folder: DataFolder) -> None:
    with servers(folder):
        pass
    (folder.postgres / "postmaster.pid").write_text(f"{os.getpid()}\n{folder.postgres}\n")
    with servers(folder) as instance:
        remember(instance, "still works")


def test_an_initdb_that_was_killed_leaves_nothing_in_the_way(empty_folder: DataFolder) -> None:
    unfinished = empty_folder.path / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with servers(empty_folder) as instance:
        remember(instance, "works")


def test_a_folder_with_a_name_too_long_for_a_socket(server_tmp: Path, empty_folder: DataFolder) -> None:
    deep = DataFolder(server_tmp / ("a long name of a folder, " * 5) / "and one more's")
    deep.make()
    with servers(deep) as instance:
        remember(instance, "works")
        assert remembered(instance)[0] == ["works"]


def test_urls_in_the_environment_win(
    empty_folder: DataFolder, database: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("BROKER_URL", broker)
    forget_settings()
    with servers(empty_folder) as instance:
        assert instance.processes == {}
        assert instance.environment["DATABASE_URL"] == database
    assert not empty_folder.postgres.exists()


def test_the_environment_is_as_before_afterwards(folder: DataFolder) -> None:
    with servers(folder) as instance:
        assert settings.get().database_url == instance.environment["DATABASE_URL"]
    assert settings.get().database_url == ""


def test_attach_finds_the_running_instance(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded.attach() is None
    with held_by_another(folder):
        monkeypatch.setenv("BROKER_URL", "redis://elsewhere")
        for name in ("DATABASE_URL", "PINGVAS_SECRET_KEY", "REDIS_URL"):
            monkeypatch.setenv(name, "")  # so that what attach sets is undone after the test
        assert embedded.attach()
        with db.engine().connect():
            pass
        assert settings.get().broker_url == "redis://elsewhere"


def test_a_command_gets_a_database_for_its_length(folder: DataFolder) -> None:
    with embedded.database() as started_here:
        assert started_here
        with db.engine().connect():
            pass
        identities = list(instance_of(folder).processes.values())
    wait_gone(identities)


def test_end_leaves_a_later_process_of_the_same_number_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as other:
        now = Identity.of(other.pid)
        assert now
        process.end(Identity(now.pid, now.started - 100), 1)
        assert other.poll() is None
        process.end(now, 5)
        assert other.wait(5) == -signal.SIGTERM
