"""Queues by tier, or by tier and model family."""

import pytest

from pingvas import settings
from pingvas.billing.plans import Tier
from pingvas.catalog.families import FAMILIES
from pingvas.jobs import routing
from pingvas.jobs.routing import UnknownQueueError


@pytest.fixture
def by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.Settings(routing="family")
    monkeypatch.setattr("pingvas.settings.get", lambda: config)


def test_by_tier_a_queue_is_a_tier() -> None:
    assert routing.queue_of("free", "sdxl") == "free"
    assert routing.queue_names() == list(Tier)
    assert routing.queue_names(["free", "enterprise"]) == ["enterprise", "free"]


@pytest.mark.usefixtures("by_family")
def test_by_family_a_worker_gets_only_what_it_holds() -> None:
    assert routing.queue_of("free", "sdxl") == "free.sdxl"
    assert routing.queue_of("free", "tiny") == routing.queue_of("free", "sd15") == "free.sd"
    names = routing.queue_names(["free", "pro"], ["sd", "sdxl"])
    assert names == ["pro.sd", "pro.sdxl", "free.sd", "free.sdxl"]
    assert routing.families_of(names) == {"tiny", "sd15", "sd2", "sdxl"}


@pytest.mark.usefixtures("by_family")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_worker_for_everything_listens_to_every_queue_there_may_be(family: str) -> None:
    names = routing.queue_names()
    assert names == routing.all_queues()
    for tier in Tier:
        assert {tier.value, routing.queue_of(tier, family)} <= set(names)
    assert routing.families_of(names) == set(FAMILIES)


def test_tiers_of_queues() -> None:
    assert [routing.tier_of(name) for name in ("free", "studio.flux", "control")] == [
        Tier.FREE,
        Tier.STUDIO,
        None,
    ]


@pytest.mark.parametrize(
    ("tiers", "families", "said"),
    [
        (["enterprize"], [], "no queue 'enterprize'; there are enterprise, studio,"),
        (["control"], [], "no queue 'control'"),
        ([], ["tiny"], "no family 'tiny'; there are sd, sdxl,"),
        ([], ["sdxl"], "only with PINGVAS_ROUTING=family"),
    ],
)
def test_wrong_names_are_refused(tiers: list[str], families: list[str], said: str) -> None:
    with pytest.raises(UnknownQueueError, match=said):
        routing.queue_names(tiers, families)
