"""Predictions begin each test knowing nothing."""

from collections.abc import Iterator

import pytest

from pingvas.jobs.eta import snapshots


@pytest.fixture
def fresh(clean_db: None, no_workers: None) -> Iterator[None]:
    """An empty database, and no picture of another one."""
    snapshots.current.forget()
    yield
    snapshots.current.forget()
