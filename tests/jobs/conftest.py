"""What tests of jobs share."""

from collections.abc import Iterator

import pytest

from pingvas import workers


@pytest.fixture
def no_workers(broker: str) -> Iterator[None]:
    """Nobody is there at first, and nobody whom the test announces stays."""

    def leave() -> None:
        workers.forget()
        for worker in workers.live():
            workers.withdraw(worker.name)
        workers.forget()

    leave()
    yield
    leave()
