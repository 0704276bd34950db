"""The brokers: the session's Redis, and a RabbitMQ of its own where the server is installed."""

from collections.abc import Iterator

import pytest

from tasks.bench import rabbitmq

REDIS_DATABASE = 2  # the stack and other tests have their own


def pytest_report_collectionfinish() -> str:
    """Say what is left out: it must not look as if it had passed."""
    missing = rabbitmq.missing()
    return (
        f"RabbitMQ: {missing} is not installed, its tests are skipped" if missing else "RabbitMQ: installed"
    )


@pytest.fixture(scope="session", params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of one broker after the other."""
    if request.param == "redis":
        yield request.getfixturevalue("broker").rpartition("/")[0] + f"/{REDIS_DATABASE}"
    elif missing := rabbitmq.missing():
        pytest.skip(f"{missing} is not installed")
    else:
        with rabbitmq.running() as server:
            yield server.url
