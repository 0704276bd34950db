"""What the API's doorbell rings reaches either broker, is counted there, and none of it sticks."""

import asyncio
import sys
from collections.abc import Iterator

import pytest
from flower.utils import broker as flower  # type: ignore[import-untyped]

import celeryconfig
from pingvas import ids, settings
from pingvas.billing.plans import Tier
from pingvas.embedded.servers import forget_settings
from pingvas.jobs import dispatch
from pingvas.jobs.dispatch import Bell, probe
from pingvas.jobs.dispatch import broker as sending

pytestmark = pytest.mark.usefixtures("database", "doorbell")

REDIS_ONLY = pytest.mark.parametrize("broker_url", ["redis"], indirect=True)


def use_broker(url: str, redis_url: str, patch: pytest.MonkeyPatch) -> None:
    """Let this process send to the broker at `url`, as one started with that BROKER_URL would."""
    patch.setenv("BROKER_URL", url)
    patch.setenv("REDIS_URL", redis_url)
    patch.delitem(sys.modules, "celeryconfig", raising=False)
    forget_settings()
    sending._make_celery.cache_clear()


@pytest.fixture
def doorbell(broker_url: str, broker: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_broker(broker_url, broker, patch)
        yield
    forget_settings()
    sending._make_celery.cache_clear()


def ring(tier: str) -> list[str]:
    """Ring three times and return the jobs in the order in which they are to run."""
    batch = Bell(ids.new(), tier, "tiny", "batch", 0)
    interactive = Bell(ids.new(), tier, "tiny", "interactive", 0)
    retry = Bell(ids.new(), tier, "tiny", "batch", 1)
    assert all(dispatch.ring(bell) for bell in (batch, interactive, retry))
    return [str(bell.job_id) for bell in (retry, interactive, batch)]


def taken(tier: str) -> list[str]:
    """Take all messages of a queue, as a worker would one after the other."""
    app, found = sending.celery(), []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[tier].bind(connection.default_channel)
        while (message := queue.get(no_ack=True)) is not None:
            found.append(message.payload[0][0])
    return found


def test_messages_are_counted_and_come_by_priority() -> None:
    rung = {tier.value: ring(tier) for tier in Tier}
    assert dispatch.depths() == dict.fromkeys(Tier, 3)
    assert {tier.value: taken(tier) for tier in Tier} == rung
    assert dispatch.depths() == dict.fromkeys(Tier, 0)


@REDIS_ONLY
def test_flower_counts_all_priorities() -> None:
    rung = ring("free")
    url = settings.get().broker_url
    monitor = flower.Broker(url, broker_options=celeryconfig.transport_options(url))
    assert asyncio.run(monitor.queues(["free", "pro"])) == [
        {"name": "free", "messages": 3},
        {"name": "pro", "messages": 0},
    ]
    assert taken("free") == rung


def test_the_broker_says_what_it_is(broker_url: str) -> None:
    name = "RabbitMQ" if settings.is_rabbitmq(broker_url) else "Redis"
    assert probe.version(5).startswith(name)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@REDIS_ONLY
def test_a_broker_that_is_away_stops_nobody(
    scheme: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_broker(f"{scheme}://127.0.0.1:1/0", broker, monkeypatch)
    assert not dispatch.ring(Bell(ids.new(), "free", "tiny", "batch", 0))
    with pytest.raises(dispatch.BrokerAway):
        dispatch.depths()
    with pytest.raises(dispatch.BrokerAway):
        probe.version(1)
