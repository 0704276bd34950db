"""A job that nobody could run is refused at once; one that only has to wait is not."""

import pytest

from pingvas import workers
from pingvas.catalog import entries
from pingvas.catalog.models import CatalogEntry
from pingvas.errors import NoWorker
from pingvas.jobs import refusals
from pingvas.workers import Worker

pytestmark = pytest.mark.usefixtures("clean_db", "no_workers")


@pytest.fixture
def tiny() -> CatalogEntry:
    entry = entries.find("tiny")
    assert entry is not None
    return entry


def announce(name: str, tiers: set[str], families: set[str]) -> None:
    workers.announce(Worker(name, frozenset(tiers), frozenset(families), slots=4))
    workers.forget()


def test_without_any_worker_jobs_are_accepted(tiny: CatalogEntry) -> None:
    refusals.check(tiny, "free")


def test_a_model_that_no_worker_of_the_tier_can_hold_is_refused(tiny: CatalogEntry) -> None:
    announce("gpu-1", {"free", "pro"}, {"sdxl"})
    announce("gpu-2", {"enterprise"}, {"tiny"})
    with pytest.raises(NoWorker) as refused:
        refusals.check(tiny, "free")
    assert (refused.value.status, refused.value.code) == (503, "NO_WORKER")
    assert refused.value.headers["Retry-After"] == "30"
    refusals.check(tiny, "enterprise")
    refusals.check(tiny, "studio")  # nobody is there for this tier: its jobs wait


def test_one_worker_that_can_is_enough(tiny: CatalogEntry) -> None:
    announce("gpu-1", {"free"}, {"sdxl"})
    announce("gpu-2", {"free"}, {"tiny", "sd15"})
    refusals.check(tiny, "free")
