"""One reader at a time, behind everybody's back."""

import threading
from collections.abc import Iterator

import pytest

from pingvas.jobs.eta import picture, snapshots
from pingvas.jobs.eta.picture import Picture
from pingvas.jobs.eta.snapshots import Snapshots


class Reader:
    """Reads blank pictures, and can be held in the middle."""

    def __init__(self) -> None:
        self.reads = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.ended = threading.Semaphore(0)

    def __call__(self) -> Picture:
        self.reads += 1
        made = picture.blank()
        self.may_end.wait(10)
        self.ended.release()
        return made


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.may_end.set()


def test_a_fresh_picture_is_read_once(reader: Reader) -> None:
    held = Snapshots(reader)
    first = held.get()
    assert all(held.get() is first for _ in range(100))
    assert reader.reads == 1


def test_a_stale_picture_is_served_while_one_thread_reads(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "DUTY", 1e9)
    held = Snapshots(reader)
    first = held.get()
    reader.may_end.clear()
    assert all(held.get() is first for _ in range(100))
    assert reader.reads == 2
    reader.may_end.set()
    assert reader.ended.acquire(timeout=10)
    held.forget()
    assert held.get() is not first


def test_a_long_read_makes_the_next_one_wait_longer(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "DUTY", 1e-9)  # any read at all is too much for a while
    held = Snapshots(reader)
    first = held.get()
    assert all(held.get() is first for _ in range(100))
    assert reader.reads == 1
