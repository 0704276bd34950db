"""Requests on one thread: what they ask together, and that an error or an end is nobody else's."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from pingvas.asgi.lane import Lane
from pingvas.together import Together, riding


class Doubling:
    """Doubles numbers and notes which were asked together; 13 is refused."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.of = Together(self._ask)

    def _ask(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


@asynccontextmanager
async def held(lane: Lane) -> AsyncIterator[None]:
    """Keep the lane busy inside, so that whatever comes meanwhile starts in one round."""
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        go_on.wait(10)

    holding = lane.run(hold)
    await asyncio.to_thread(busy.wait, 10)
    yield
    go_on.set()
    await holding


def on_a_lane(*works: Callable[[], object], patience: float = 60) -> list[object]:
    """Run functions that come to a lane at once; return results and errors."""

    async def scenario() -> list[object]:
        lane = Lane("test", patience)
        async with held(lane):
            results = [lane.run(work) for work in works]
        found: list[object] = await asyncio.gather(*results, return_exceptions=True)
        lane.close()
        return found

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def test_who_asks_at_the_same_time_asks_together() -> None:
    double = Doubling()

    def work(number: int) -> Callable[[], int]:
        return lambda: double.of(double.of(number) + 1)

    assert on_a_lane(*(work(number) for number in range(5))) == [2 * (2 * n + 1) for n in range(5)]
    assert double.asked == [[0, 1, 2, 3, 4], [1, 3, 5, 7, 9]]


@pytest.mark.parametrize(("patience", "asked"), [(60, [[1, 2]]), (0, [[1], [2]])])
def test_who_is_ahead_waits_for_those_behind_but_not_for_long(
    patience: float, asked: list[list[int]]
) -> None:
    commit = Doubling()

    async def scenario() -> list[int]:
        lane, loop = Lane("test", patience), asyncio.get_running_loop()
        others: list[asyncio.Future[int]] = []
        come = threading.Event()

        def another() -> None:
            others.append(lane.run(lambda: commit.of(look(2))))
            come.set()

        def look_up(numbers: Sequence[int]) -> Sequence[int]:
            if not others:
                loop.call_soon_threadsafe(another)
                come.wait(10)
            return numbers

        look = Together(look_up)
        return [await lane.run(lambda: commit.of(look(1))), *await asyncio.gather(*others)]

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == [2, 4]
    assert commit.asked == asked


def test_an_error_reaches_only_whose_question_it_is() -> None:
    double = Doubling()

    def work(number: int) -> Callable[[], int]:
        return lambda: double.of(number)

    one, thirteen, two = on_a_lane(work(1), work(13), work(2))
    assert (one, two) == (2, 4)
    assert isinstance(thirteen, ValueError)
    assert double.asked == [[1, 13, 2], [1], [13], [2]]


def test_a_request_can_handle_what_its_question_raised() -> None:
    double = Doubling()

    def careful() -> str:
        with pytest.raises(ValueError, match="13"):
            double.of(13)
        return f"{double.of(3)} then"

    assert on_a_lane(careful) == ["6 then"]


def test_a_request_that_fails_stops_nobody() -> None:
    def fails() -> None:
        raise LookupError("nothing here")

    failure, fine = on_a_lane(fails, lambda: "fine")
    assert isinstance(failure, LookupError)
    assert fine == "fine"


def test_different_questions_of_a_round_are_asked_apart() -> None:
    double, other = Doubling(), Doubling()
    assert on_a_lane(lambda: double.of(1), lambda: other.of(2), lambda: double.of(3)) == [2, 4, 6]
    assert double.asked == [[1, 3]]
    assert other.asked == [[2]]


def test_elsewhere_a_question_is_asked_alone_and_at_once() -> None:
    double = Doubling()
    assert riding() is None
    assert double.of(4) == 8
    with pytest.raises(ValueError, match="13"):
        double.of(13)


def test_a_lane_that_closes_finishes_what_is_under_way() -> None:
    double = Doubling()

    async def scenario() -> int:
        lane = Lane("test")
        async with held(lane):
            result = lane.run(lambda: double.of(double.of(1)))
            lane.close()
        return await result

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == 4


def test_a_client_that_has_gone_does_not_matter_to_the_others() -> None:
    double = Doubling()

    async def scenario() -> int:
        lane = Lane("test")
        async with held(lane):
            gone, waiting = lane.run(lambda: double.of(1)), lane.run(lambda: double.of(2))
            gone.cancel()
        return await waiting

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == 4
