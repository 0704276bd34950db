"""A name is one process's, and free again when that process is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from pingvas import db, ids
from pingvas.cli import programs
from pingvas.jobs import routing
from pingvas.workers import Name
from tasks import naming

pytestmark = pytest.mark.usefixtures("database")

_HOLD = "import sys; from pingvas.workers import Name; print(Name(sys.argv[1]).take(), flush=True); input()"


@pytest.fixture
def name() -> str:
    return f"gpu-{ids.new()}@here"


@pytest.fixture
def holder(name: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that has the name."""
    argv = [sys.executable, "-c", _HOLD, name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "True\n"
        yield child
        child.kill()


_CUT = text("""
    SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'
    AND (classid::bigint << 32 | objid::bigint) = hashtextextended('worker:' || :name, 0)""")


def cut_connection(name: str) -> None:
    """Let the server end the connection that holds the name."""
    with db.transaction() as session:
        assert session.execute(_CUT, {"name": name}).all() == [(True,)]


def test_of_those_who_come_at_the_same_moment_one_gets_it(name: str) -> None:
    mine = [Name(name) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(Name.take, mine)) == [False] * 5 + [True]
    for one in mine:
        one.give_up()


def test_whoever_is_killed_has_it_no_more(name: str, holder: "subprocess.Popen[str]") -> None:
    mine = Name(name)
    assert not mine.take()
    os.kill(holder.pid, signal.SIGKILL)
    assert mine.take()
    assert mine.take()
    mine.give_up()


def test_a_lost_connection_is_noticed_and_the_name_taken_again(name: str) -> None:
    mine, other = Name(name), Name(name)
    assert mine.take()
    cut_connection(name)
    assert mine.take()
    assert not other.take()
    cut_connection(name)
    assert other.take()
    assert not mine.take()
    other.give_up()


def test_a_worker_ends_where_another_has_its_name(name: str, broker: str) -> None:
    naming.take(name)
    naming.keep(name)
    cut_connection(name)
    other = Name(name)
    assert other.take()
    with pytest.raises(SystemExit):
        naming.keep(name)
    with pytest.raises(SystemExit, match="up already"):
        naming.take(name)
    other.give_up()


def start(name: str) -> "subprocess.Popen[str]":
    argv = programs.worker(name.partition("@")[0], [routing.CONTROL], 1)
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def what_became_of(worker: "subprocess.Popen[str]") -> str:
    assert worker.stderr
    for line in worker.stderr:
        if line.endswith("is up already. Choose another with --name.\n"):
            return "refused" if worker.wait() else "left"
        if line.endswith(" ready.\n"):
            return "ready"
    return "gone"


def test_of_two_workers_that_start_at_the_same_moment_one_stays(name: str, broker: str) -> None:
    twins = [start(name), start(name)]
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(what_became_of, twins)) == ["ready", "refused"]
    for worker in twins:
        worker.terminate()
        worker.communicate()
