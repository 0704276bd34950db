"""Questions that several requests ask together: one round trip for all of them instead of one for each.

On a lane (`asgi.lane`) each request is a greenlet: it runs until it asks, then lets the others run, and
goes on with its answer. Anywhere else a question is asked at once and alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from greenlet import getcurrent, greenlet

Q = TypeVar("Q")
A = TypeVar("A")


class Rider(greenlet):
    """A function on a lane. Switching to it returns a `Question`, or, once it is dead, its result.

    `asked` is how many questions it has asked.
    """

    asked = 0


class Together(Generic[Q, A]):
    """A function of one argument whose calls may be joined.

    `ask` takes questions and returns their answers in the same order. Where it raises for many, each
    is asked alone, so that an error reaches only those whose question it is.
    """

    def __init__(self, ask: Callable[[Sequence[Q]], Sequence[A]]) -> None:
        self._ask = ask

    def __call__(self, question: Q) -> A:
        """Return the answer to `question`, asked together with whoever on the lane asks the same now."""
        rider = riding()
        if rider is None:
            return self._ask([question])[0]
        assert rider.parent is not None
        return cast(A, rider.parent.switch((self, question)))

    def answer(self, questions: Sequence[Q]) -> list[A | Exception]:
        """Return the answers, and the error where there is none."""
        try:
            return list(self._ask(questions))
        except Exception as error:  # noqa: BLE001 (it is raised again where the question was asked)
            if len(questions) == 1:
                return [error]
        return [answer for question in questions for answer in self.answer([question])]


Question = tuple[Together[Any, Any], Any]


def riding() -> Rider | None:
    """Return the rider that calls this, if it is on a lane: there nobody may wait for long."""
    current = getcurrent()
    return current if isinstance(current, Rider) else None
